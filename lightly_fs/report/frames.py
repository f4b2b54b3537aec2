"""How a report calls frames of videos: by their video and the time at which they are shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.build import ReportInput
from lightly_fs.types import Failure, Outcome, frame_of

_FEW = 3
"""Pictures of one video among the first of a selection, where others have some, too."""


def clock(seconds: float) -> str:
    """Return a time as players show it: `00:12.3`, `1:02:03.4`; `-00:00.1` before the start."""
    tenths = round(abs(seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if seconds < 0 and tenths else ""
    before = f"{hours}:" if hours else ""
    return f"{sign}{before}{minutes:02d}:{rest // 10:02d}.{rest % 10}"


def video_of(given: ReportInput, row: int) -> str | None:
    """Return the filename of the video that a candidate is a frame of; None for an image."""
    if given.frames is None or given.frames.videos[row] < 0:
        return None
    return given.videos[int(given.frames.videos[row])].facts.filename


def caption(given: ReportInput, row: int) -> str:
    """Return what a candidate is called below its picture.

    Of a frame that is its video and its time, or its number where there are no timestamps; of an
    image the filename.
    """
    video = video_of(given, row)
    if video is None or given.frames is None:
        return given.filenames[row]
    seconds = float(given.frames.seconds[row])
    if math.isnan(seconds):
        return f"{video} frame {int(given.frames.indices[row])}"
    return f"{video} {clock(seconds)}"


def file_label(given: ReportInput, filename: str) -> str:
    """Return what a sample is called of which only the name is known: a frame by its number."""
    frame = frame_of(filename)
    if frame is None or frame[0] not in {one.facts.filename for one in given.videos}:
        return filename  # it may be an image that is only called like a frame
    return f"{frame[0]} frame {frame[1]}"


def few_of_each_video(given: ReportInput, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return up to `n` of the rows, in their order, at most a few of them of the same video.

    That is 3, or as many as `n` pictures need when there are fewer videos and no images.
    """
    if given.frames is None:
        return rows[:n]
    places = given.frames.videos[rows]
    videos = np.unique(places)
    most = _FEW if (videos < 0).any() else max(_FEW, math.ceil(n / max(1, len(videos))))
    taken: dict[int, int] = {}
    keep = []
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        taken[place] = taken.get(place, 0) + 1
        if place < 0 or taken[place] <= most:
            keep.append(row)
    return np.array(keep[:n], np.int64)


def spans(indices: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return first and last of every run of consecutive numbers among ascending ones."""
    if not len(indices):
        return []
    breaks = np.flatnonzero(np.diff(indices) > 1) + 1
    bounds = [0, *breaks.tolist(), len(indices)]
    return [(int(indices[first]), int(indices[end - 1])) for first, end in pairwise(bounds)]


@dataclass(frozen=True, slots=True)
class FailureLine:
    """Samples that were left out for the same reason: one, or `count` frames of a video."""

    name: str
    outcome: Outcome
    reason: str
    count: int = 1


def failure_lines(failures: Sequence[Failure]) -> list[FailureLine]:
    """Return the failures in their order; frames of a video that have one reason are one line."""
    return list(_lines(failures))


def _lines(failures: Sequence[Failure]) -> Iterator[FailureLine]:
    together: dict[tuple[str, Outcome, str], list[int]] = {}
    for one in failures:
        if one.frame is not None:
            key = (one.frame.video, one.outcome, one.reason)
            together.setdefault(key, []).append(one.frame.index)
    for one in failures:
        if one.frame is None:
            yield FailureLine(one.filename, one.outcome, one.reason)
            continue
        key = (one.frame.video, one.outcome, one.reason)
        indices = together.pop(key, None)
        if indices is not None:
            name = f"{one.frame.video} {_frames(indices)}"
            yield FailureLine(name, one.outcome, one.reason, len(indices))


def _frames(indices: list[int]) -> str:
    runs = spans(np.unique(indices))
    words = ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in runs)  # noqa: RUF001
    return f"{'frame' if len(indices) == 1 else 'frames'} {words}"
