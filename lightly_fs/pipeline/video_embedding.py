"""Videos in the embed stage: frames are embedded as they are decoded, and committed in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from lightly_fs.artifacts.parts import Piece
from lightly_fs.decoding.videos import FrameBatch, Position, Sampling, frame_batches
from lightly_fs.embedding.embed import embedded_batches, joined
from lightly_fs.types import EmbeddedSamples, Failure, Sample, VideoFacts

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig
    from lightly_fs.datasource.shards import Shard
    from lightly_fs.decoding.images import DecodeSettings
    from lightly_fs.embedding.embedder import Embedder
    from lightly_fs.pipeline.context import RunContext
    from lightly_fs.pipeline.tally import Tally


def shard_frames(
    this: RunContext,
    videos: Sequence[Sample],
    settings: DecodeSettings,
    start: Position | None = None,
) -> Iterator[FrameBatch]:
    """Return the frames of videos as the configuration samples them, from `start` on."""
    asked = this.config.video
    sampling = Sampling(asked.fps, asked.every_nth, asked.keyframes_only)
    return frame_batches(videos, this.reader.open, settings, sampling, start=start)


def open_videos(this: RunContext, shard: Shard) -> tuple[list[Sample], Position | None]:
    """Return the videos of a shard that are not embedded to their end, and where to go on."""
    begun = this.run_dir.begun(shard.number)
    videos = [video for video in shard.samples if video.filename not in begun.ended]
    return videos, None if begun.resume is None else Position(**begun.resume)


def embed_videos(
    config: RunConfig,
    model: Embedder,
    batches: Iterator[FrameBatch],
    tally: Tally,
    write: Callable[[EmbeddedSamples, Piece], None],
    *,
    first_piece: int = 0,
) -> int:
    """Embed the frames of a shard's videos; return how many got a vector.

    Args:
        config: A piece has about `shard_size` frames.
        model: Embeds them.
        batches: The frames.
        tally: Told of every batch.
        write: Commits a piece.
        first_piece: How many pieces the shard has already.
    """
    held: list[EmbeddedSamples] = []
    ended: list[VideoFacts | Failure] = []
    number, n_held, n_embedded = first_piece, 0, 0

    def commit(resume: Position | None) -> None:
        nonlocal number, n_held
        part = joined(held, model.info.dimensions)
        lost = [one for one in ended if isinstance(one, Failure)]
        facts = [one for one in ended if isinstance(one, VideoFacts)]
        part = replace(part, failures=[*part.failures, *lost])
        write(part, Piece(number, facts, None if resume is None else asdict(resume)))
        number, n_held = number + 1, 0
        held.clear()
        ended.clear()

    for batch, part in embedded_batches(batches, model, config):
        held.append(part)
        ended += batch.ended
        n_held += len(batch.results)
        n_embedded += len(part.records)
        tally.advance_frames(len(batch.results), batch.ended)
        if n_held >= config.shard_size and (batch.resume is not None or _ends(batch)):
            commit(batch.resume)
    if held or ended:
        commit(None)
    return n_embedded


def _ends(batch: FrameBatch) -> bool:
    """Tell whether a batch ends with the end of a video, so that the next one begins behind it."""
    names = {one.filename for one in batch.ended}
    last = batch.results[-1] if batch.results else None
    return bool(names) and (last is None or last.frame is None or last.frame.video in names)
