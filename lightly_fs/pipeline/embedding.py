"""The embed stage: every shard that has no committed part yet is read, decoded and embedded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.artifacts.parts import Piece
from lightly_fs.decoding.loader import ImageBatch, image_batches
from lightly_fs.embedding.embed import decode_settings, embed_batches, joined
from lightly_fs.errors import NoUsableSampleError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.reusing import Reused, reusable
from lightly_fs.pipeline.tally import Tally
from lightly_fs.types import EmbeddedSamples, Failure, Sample, Stage, VideoFacts

if TYPE_CHECKING:
    from lightly_fs.datasource.shards import Shard
    from lightly_fs.decoding.videos import FrameBatch, Position
    from lightly_fs.embedding.embedder import Embedder

logger = logging.getLogger(__name__)


class Decoded(Protocol):
    """Shards that are decoded already."""

    def images(self, shard: Shard) -> Iterator[ImageBatch] | None:
        """Return the batches of a shard of images, or None when it has to be read."""
        ...

    def frames(
        self, shard: Shard, videos: Sequence[Sample], start: Position | None
    ) -> Iterator[FrameBatch] | None:
        """Return those of the last videos of a shard, from `start` on, or None."""
        ...


def embed_missing(
    this: RunContext,
    embedder: Callable[[], Embedder],
    decoded: Decoded | None = None,
) -> int:
    """Embed and commit the shards that are missing; return how many samples got a vector.

    Args:
        embedder: Gives the model; called only when a shard is missing.
        decoded: Shards that need not be read.

    Raises:
        TooManyFailuresError: As soon as more samples failed than `max_failures` allows.
    """
    shards, committed = this.run_dir.shards, this.run_dir.committed()
    missing = [number for number in range(len(shards)) if number not in committed]
    tally = _tally(this, missing)
    if committed:
        logger.info("%d shards are there already, %d to embed", len(committed), len(missing))
    model = embedder() if missing else None
    reused = None
    if model is not None and this.pool is not None and decoded is None:
        reused = reusable(this.config, this.pool, model.info)
    since, before = time.monotonic(), tally.done
    tally.report()
    embedded = 0
    if model is not None:
        this.run_dir.set_model(model.info)
        with ThreadPoolExecutor(1, "write-part") as writer:
            work = _Work(this, model, tally, decoded, writer, reused)
            embedded = sum(work.embed(shards[number]) for number in missing)
            work.finish()
    this.took(Stage.EMBED, since, tally.done - before)
    return embedded


def _tally(this: RunContext, missing: Sequence[int]) -> Tally:
    shards = this.run_dir.shards
    of_images = [n for n in missing if not shards.holds_videos(n)]
    done = len(this.inventory) - len(this.inventory.videos) - sum(map(shards.size_of, of_images))
    open_videos = []
    for number in range(len(shards)):
        if shards.holds_videos(number):
            begun = this.run_dir.begun(number)
            done += begun.n_frames
            open_videos += [n for n in shards[number].filenames if n not in begun.ended]
    return Tally(this, done, open_videos)


class _Work:
    """Embeds shards; writes each part while the next one is embedded, at most one at a time."""

    def __init__(
        self,
        this: RunContext,
        model: Embedder,
        tally: Tally,
        decoded: Decoded | None,
        writer: ThreadPoolExecutor,
        reused: Reused | None,
    ) -> None:
        self._this, self._model, self._tally, self._decoded = this, model, tally, decoded
        self._writer, self._reused = writer, reused
        self._pending: Future[None] | None = None
        self._videos_begun = False

    def embed(self, shard: Shard) -> int:
        """Embed a shard; return how many of its samples got a vector."""
        return self._embed_videos(shard) if shard.videos else self._embed_images(shard)

    def finish(self) -> None:
        """Wait for the last part."""
        if self._pending is not None:
            self._pending.result()

    def _embed_images(self, shard: Shard) -> int:
        settings = decode_settings(self._this.config, self._model.info.input_size)
        ready = None if self._decoded is None else self._decoded.images(shard)
        samples, known = shard.samples, None
        if self._reused is not None:
            known, samples = self._known_images(self._reused, samples)
        embedded = embed_batches(
            ready or image_batches(samples, self._this.reader, settings),
            self._model,
            self._this.config,
            progress=self._tally.advance,
        )
        if known is not None:
            embedded = _by_name(joined([known, embedded], self._model.info.dimensions))
        refused = list(shard.refused)
        if refused:
            failures = [*embedded.failures, *refused]
            embedded = EmbeddedSamples(embedded.vectors, embedded.records, failures)
            self._tally.advance(len(refused))
        self._write(shard.number, embedded)
        return len(embedded.records)

    def _known_images(
        self, reused: Reused, samples: Sequence[Sample]
    ) -> tuple[EmbeddedSamples, Sequence[Sample]]:
        """Return what became of images that are known, and the others."""
        known = reused.images(samples)
        ended = {record.filename for record in known.records}
        ended |= {failure.filename for failure in known.failures}
        self._tally.advance(len(ended))
        return known, [one for one in samples if one.filename not in ended]

    def _known_videos(self, reused: Reused, shard: Shard, videos: Sequence[Sample]) -> int:
        """Commit the frames of videos that are known, as the first piece of a shard."""
        known, ended = reused.videos(videos)
        if ended:
            failed = sum(one.frame is not None for one in known.failures)
            self._tally.advance_frames(len(known.records) + failed, ended)
            facts = [one for one in ended if isinstance(one, VideoFacts)]
            self._write(shard.number, known, Piece(0, facts))
            self.finish()
        return len(known.records)

    def _embed_videos(self, shard: Shard) -> int:
        from lightly_fs.pipeline.video_embedding import embed_videos, open_videos, shard_frames

        if not self._videos_begun:
            self._tally.begin_videos()
            self._videos_begun = True
        settings = decode_settings(self._this.config, self._model.info.input_size)
        videos, start = open_videos(self._this, shard)
        known = 0
        if self._reused is not None and not self._this.run_dir.begun(shard.number).names:
            known = self._known_videos(self._reused, shard, videos)
            videos, start = open_videos(self._this, shard)
            if not videos:
                return known
        ready = None if self._decoded is None else self._decoded.frames(shard, videos, start)
        return known + embed_videos(
            self._this.config,
            self._model,
            ready or shard_frames(self._this, videos, settings, start),
            self._tally,
            lambda embedded, piece: self._write(shard.number, embedded, piece),
            first_piece=len(self._this.run_dir.begun(shard.number).names),
        )

    def _write(self, number: int, embedded: EmbeddedSamples, piece: Piece | None = None) -> None:
        self._tally.add(embedded.failures)
        if self._pending is not None:
            self._pending.result()
        self._this.lease.check()
        self._pending = self._writer.submit(self._this.run_dir.write_part, number, embedded, piece)


def _by_name(embedded: EmbeddedSamples) -> EmbeddedSamples:
    """Return the samples in the order of an inventory."""
    order = sorted(range(len(embedded.records)), key=lambda row: embedded.records[row].filename)
    return EmbeddedSamples(
        embedded.vectors[order],
        [embedded.records[row] for row in order],
        sorted(embedded.failures, key=lambda failure: failure.filename),
    )


def require_samples(table: EmbeddedTable, n_listed: int) -> None:
    """Raise `NoUsableSampleError` when nothing was embedded."""
    if not len(table):
        raise nothing_usable(
            table.failures, f"not one of the {n_listed:,} samples could be embedded"
        )


def nothing_usable(failures: Sequence[Failure], message: str) -> NoUsableSampleError:
    """Return the error that gives the reasons, and an example."""
    reasons = sorted({failure.reason for failure in failures})
    return NoUsableSampleError(
        f"{message}: {'; '.join(reasons[:3])}",
        hint=f"for example `{failures[0].filename}`" if failures else None,
    )
