"""Videos to batches of frames: decoded by several threads, in order, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lightly_fs.cpus import usable_cpus
from lightly_fs.datasource.ranged import RangedFile
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.video_frames import FrameExtractor
from lightly_fs.decoding.video_runs import Video
from lightly_fs.decoding.video_sampling import Position, Sampling
from lightly_fs.decoding.video_schedule import Schedule
from lightly_fs.decoding.video_unit import Row, Unit
from lightly_fs.types import (
    Failure,
    Frame,
    ImageRecord,
    Outcome,
    Sample,
    VideoFacts,
    provisional_name,
)

__all__ = ["FrameBatch", "FrameExtractor", "Position", "Sampling", "frame_batches"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """A batch of fixed shape; it may hold frames of several videos, one after the other.

    Attributes:
        pixels: (B, S, S, 3) uint8. The row of a corrupt frame, and every row after the last
            result, is zeros.
        results: What became of each frame, at most B; in presentation order.
        ended: The videos of which no frame comes after this batch, in order. A `Failure` is a
            video that has no usable frame; frames that it gave before are worthless.
        resume: Where a later process may go on behind this batch. None where it can not, unless
            a video ended with the batch.
        copies: (B, L, L, 3) uint8, the larger copies where the settings ask for them.
    """

    pixels: Tensor
    results: Sequence[ImageRecord | Failure]
    ended: Sequence[VideoFacts | Failure]
    resume: Position | None
    copies: Tensor | None = None


def frame_batches(
    videos: Sequence[Sample],
    open_file: Callable[[Sample], RangedFile],
    settings: DecodeSettings,
    sampling: Sampling,
    *,
    start: Position | None = None,
) -> Iterator[FrameBatch]:
    """Yield the frames of videos in order, in batches; the next ones are decoded meanwhile.

    What is yielded depends neither on the number of threads nor on how often one went on in the
    middle. A frame's record has the frame's hash as its `content_hash`, and a provisional name:
    how many frames a video has is known at its end. Closing the iterator ends its threads.

    Args:
        videos: Videos of the inventory.
        open_file: Opens one; called from several threads.
        settings: As for images.
        sampling: Which frames are used; the indices are always those among all frames.
        start: Where to go on in the first of `videos`. The `VideoFacts` of that video count its
            corrupt frames from there on only; its problem is that of the whole video.

    Raises:
        ValueError: `start` is in another video than the first.
    """
    if start is not None and (not videos or videos[0].filename != start.video):
        raise ValueError(f"`start` is in {start.video}, which is not the first of the videos")
    threads = settings.threads if settings.threads > 0 else usable_cpus()
    schedule = Schedule(videos, open_file, settings, sampling, threads=threads, start=start)
    try:
        yield from _batches(_events(videos, schedule), settings)
    finally:
        schedule.close()


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A frame with its place in its video, and where a later process may go on with it."""

    frame: Frame
    row: Row
    position: Position | None


_Event = _Shown | VideoFacts | Failure


def _events(videos: Sequence[Sample], schedule: Schedule) -> Iterator[_Event]:
    """Yield all frames in order, and after those of a video what became of it."""
    for number in range(len(videos)):
        video = schedule.video(number)
        yield from _events_of(video, schedule)
        schedule.leave(video)


@dataclass(slots=True, eq=False)
class _Books:
    """What is counted of a video over its runs."""

    n_frames: int
    n_corrupt: int = 0
    size: tuple[int, int] | None = None
    undecoded: Counter[str] = field(default_factory=Counter)
    container_problems: dict[str, None] = field(default_factory=dict)

    @classmethod
    def opened(cls, start: Position | None) -> _Books:
        if start is None:
            return cls(0)
        found = dict.fromkeys(start.container_problems)
        return cls(start.index, undecoded=Counter(start.undecoded), container_problems=found)

    def close_run(self, unit: Unit) -> None:
        self.n_frames += unit.n_frames
        self.n_corrupt += unit.n_corrupt
        self.undecoded.update(unit.undecoded)
        self.container_problems |= dict.fromkeys(unit.container_problems)

    def position(self, frame: Frame, row: Row) -> Position | None:
        """Return where to go on with a frame; None where a process cannot begin."""
        if not row.seekable or frame.pts is None:
            return None
        undecoded = self.undecoded + Counter(row.undecoded)
        container = self.container_problems | dict.fromkeys(row.container_problems)
        return Position(frame.video, frame.index, frame.pts, dict(undecoded), (*container,))


def _events_of(video: Video, schedule: Schedule) -> Iterator[_Event]:
    name = video.sample.filename
    books = _Books.opened(video.start)
    first: int | None = None
    while True:
        taken = schedule.take(video, first)
        if isinstance(taken, Failure):
            yield taken
            return
        run, rows = taken
        for row in rows:
            if books.size is None and not isinstance(row.scaled, str):
                books.size = row.scaled.width, row.scaled.height
            seconds = None if row.pts is None else float(row.pts * video.time_base)
            frame = Frame(name, books.n_frames + row.local, row.pts, seconds)
            yield _Shown(frame, row, books.position(frame, row))
        first = run.first
        if rows or run.unit is None:
            continue
        books.close_run(run.unit)
        first = run.unit.ended_at
        if first is None:
            yield _result(video, books)
            return


def _result(video: Video, books: _Books) -> VideoFacts | Failure:
    """Return what became of a video that was read to its end."""
    undecoded = books.undecoded.total()
    problems = [*books.container_problems]
    if video.end_problem:
        problems.append(video.end_problem)
    if undecoded:
        (reason, _), *_ = books.undecoded.most_common(1)
        packets = "packet" if undecoded == 1 else "packets"
        problems.append(f"{undecoded:,} {packets} cannot be decoded: {reason}")
    problem = "; ".join(problems)
    if not books.n_frames:
        reason = f"no frames: {problem or 'the video stream is empty'}"
        return Failure(video.sample.filename, Outcome.CORRUPT, reason)
    if video.facts is None:
        raise RuntimeError(f"{video.sample.filename} ended without being read to its end")
    width, height = books.size or (video.facts.width, video.facts.height)
    return replace(
        video.facts,
        n_frames=books.n_frames,
        n_corrupt=books.n_corrupt,
        width=width,
        height=height,
        problem=problem,
    )


def _batches(events: Iterator[_Event], settings: DecodeSettings) -> Iterator[FrameBatch]:
    """Fill batches; each waits for the frame behind it, which tells how to go on there."""
    batch = _Filling(settings)
    for event in events:
        if not isinstance(event, _Shown):
            batch.ended.append(event)
            continue
        if len(batch.results) == settings.batch_size:
            yield batch.finished(event)
            batch = _Filling(settings)
        batch.add(event)
    if batch.results or batch.ended:
        yield batch.finished(None)


class _Filling:
    """A batch that is being filled."""

    def __init__(self, settings: DecodeSettings) -> None:
        def images(side: int) -> Tensor:
            return torch.zeros((settings.batch_size, side, side, 3), dtype=torch.uint8)

        self._pixels = images(settings.size)
        self._copies = images(settings.copy_size) if settings.copy_size else None
        self.results: list[ImageRecord | Failure] = []
        self.ended: list[VideoFacts | Failure] = []

    def add(self, shown: _Shown) -> None:
        frame, scaled, place = shown.frame, shown.row.scaled, len(self.results)
        name = provisional_name(frame.video, frame.index)
        if isinstance(scaled, str):
            self.results.append(Failure(name, Outcome.CORRUPT, scaled, frame))
            return
        # By numpy: torch would wake its threads for every row.
        self._pixels.numpy()[place] = scaled.pixels
        if self._copies is not None and scaled.copy is not None:
            self._copies.numpy()[place] = scaled.copy
        record = ImageRecord(
            filename=name,
            width=scaled.width,
            height=scaled.height,
            content_hash=scaled.pixel_hash,
            pixel_hash=scaled.pixel_hash,
            properties=scaled.properties,
            frame=frame,
        )
        self.results.append(record)

    def finished(self, following: _Shown | None) -> FrameBatch:
        resume = None if following is None else following.position
        return FrameBatch(self._pixels, self.results, self.ended, resume, self._copies)
