"""What a report shows of videos: which of them, and when in each of them frames were selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts.videos_table import VideoCounts
from lightly_fs.report.build import ReportInput
from lightly_fs.report.frames import spans
from lightly_fs.types import Failure, is_video

MAX_VIDEOS = 24
"""Videos in the table, and as many more with a problem."""
MAX_TIMELINES = 20

_MISSING = 0.02
"""Share of a damaged video that is marked as missing behind its last frame, or more."""

Span = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Timeline:
    """When frames of a video were selected.

    Attributes:
        unit: What the numbers are: seconds, or frames where timestamps are missing.
        end: Where the video ends; it starts at `start`.
        selected: (K,) of the selected frames, ascending.
        broken: Where frames are corrupt, or missing because the file is damaged.
    """

    video: str
    unit: Literal["seconds", "frames"]
    start: float
    end: float
    selected: NDArray[np.float64]
    broken: Sequence[Span]

    @property
    def length(self) -> float:
        """0 for a video of a single frame without a duration."""
        return self.end - self.start


def most_selected(videos: Sequence[VideoCounts]) -> list[VideoCounts]:
    """Return the videos by how many of their frames were selected, the most first."""
    return sorted(videos, key=lambda one: (-one.selected, one.facts.filename))


def damaged(one: VideoCounts) -> bool:
    """Tell whether some of a video is not there: frames are corrupt, or the file is broken."""
    return bool(one.facts.problem or one.corrupt)


def shown_videos(videos: Sequence[VideoCounts]) -> list[VideoCounts]:
    """Return the videos of the table: those with most selected frames, and those with problems."""
    ordered = most_selected(videos)
    broken = [one for one in ordered[MAX_VIDEOS:] if damaged(one)]
    return [*ordered[:MAX_VIDEOS], *broken[:MAX_VIDEOS]]


def lost_videos(given: ReportInput) -> list[Failure]:
    """Return the videos that gave no frame at all."""
    return [one for one in given.failures if one.frame is None and is_video(one.filename)]


def timelines(given: ReportInput) -> list[Timeline]:
    """Return the timelines of the videos with most selected frames, at most `MAX_TIMELINES`.

    None where the configuration turns them off, or nothing was selected of any video.
    """
    if not given.config.show_video_sampling_timeline or given.frames is None:
        return []
    chosen = most_selected(given.videos)[:MAX_TIMELINES]
    if not chosen or not chosen[0].selected:
        return []
    places = {one.facts.filename: place for place, one in enumerate(given.videos)}
    failed: dict[str, list[Failure]] = {}
    for failure in given.failures:
        if failure.frame is not None and failure.frame.video in places:
            failed.setdefault(failure.frame.video, []).append(failure)
    return [
        _timeline(given, one, places[one.facts.filename], failed.get(one.facts.filename, []))
        for one in chosen
    ]


def _timeline(
    given: ReportInput, one: VideoCounts, place: int, failed: Sequence[Failure]
) -> Timeline:
    assert given.frames is not None  # noqa: S101 - of its frames is drawn
    columns, facts = given.frames, one.facts
    rows = np.flatnonzero(columns.videos == place)
    frames = [failure.frame for failure in failed if failure.frame is not None]
    indices = np.array([frame.index for frame in frames], np.int64)
    lost = np.array(
        [np.nan if frame.seconds is None else frame.seconds for frame in frames], np.float64
    )
    known = np.concatenate([columns.seconds[rows], lost])
    chosen = given.selection.indices[np.isin(given.selection.indices, rows)]
    if not len(known) or not np.isfinite(known).all():
        broken = [(float(first), last + 1.0) for first, last in spans(np.unique(indices))]
        selected = np.sort(columns.indices[chosen]).astype(np.float64)
        end = float(facts.n_frames)
        return Timeline(facts.filename, "frames", 0.0, end, selected, broken)
    frame = 1 / facts.frame_rate if facts.frame_rate else 0.0
    # The last frames may be duplicates, which are no candidates.
    last = max(float(known.max()), float(known.min()) + (facts.n_frames - 1) * frame) + frame
    length = last if facts.seconds is None else facts.seconds
    # A recording may begin at any time of its clock; where all fits, it began at 0.
    start = 0.0 if known.min() >= 0 and last <= length + 1 else float(known.min())
    at = dict(zip(indices.tolist(), lost.tolist(), strict=True))
    broken = [(at[first], at[end] + frame) for first, end in spans(np.unique(indices))]
    end = max(start + length, last)
    if facts.problem and end - last > _MISSING * (end - start):
        broken.append((last, end))
    return Timeline(facts.filename, "seconds", start, end, np.sort(columns.seconds[chosen]), broken)
