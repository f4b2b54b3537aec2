"""Runs of frames of videos, and runs with a datapool, for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lightly_fs.artifacts.embedded_table import NO_PTS, FrameColumns
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.artifacts.videos_table import VideoCounts
from lightly_fs.report import ReportInput
from lightly_fs.selection.nearest import covering_distances
from lightly_fs.types import Failure, Frame, Outcome, VideoFacts, frame_name
from tests.unit.report.made import a_run, vectors

RATE = 10.0


@dataclass(frozen=True)
class Found:
    """What a run found in its datapool."""

    base: int = 3
    process_all: bool = False
    known: int = 1_234
    new: int = 56
    changed: int = 2
    deleted: int = 7
    selected_before: int = 30


def corrupt(video: str, index: int, n: int, reason: str = "cannot be decoded") -> Failure:
    frame = Frame(video, index, index, index / RATE)
    return Failure(frame_name(video, index, n), Outcome.CORRUPT, reason, frame)


def of_videos(
    lengths: dict[str, int],
    k: int = 8,
    *,
    images: int = 0,
    start: float = 0.0,
    timed: bool = True,
    broken: dict[str, Sequence[int]] | None = None,
    problems: dict[str, str] | None = None,
    config: dict[str, object] | None = None,
) -> ReportInput:
    """Return a run of images and of videos with so many frames each, some of them corrupt."""
    broken, problems = broken or {}, problems or {}
    names = [f"a image {i}.jpg" for i in range(images)]
    videos, indices = [-1] * images, [-1] * images
    failures = []
    for place, (video, n) in enumerate(lengths.items()):
        bad = set(broken.get(video, ()))
        good = [index for index in range(n) if index not in bad]
        names += [frame_name(video, index, n) for index in good]
        failures += [corrupt(video, index, n) for index in sorted(bad)]
        videos += [place] * len(good)
        indices += good
    run = a_run(len(names), k, names=names, failures=failures, config=config)
    at, which = np.array(indices, np.int64), np.array(videos, np.int32)
    seconds = np.where((which >= 0) & timed, start + at / RATE, np.nan)
    frames = FrameColumns(which, at, np.where(which >= 0, at, NO_PTS), seconds)
    chosen = np.bincount(which[run.selection.indices] + 1, minlength=len(lengths) + 1)[1:]
    counts = [
        VideoCounts(
            VideoFacts(
                video, n, len(broken.get(video, ())), "h264", "mov,mp4", 64, 48, RATE, n / RATE,
                problems.get(video, ""),
            ),
            embedded=n - len(broken.get(video, ())),
            corrupt=len(broken.get(video, ())),
            duplicates=0,
            selected=int(chosen[place]),
        )
        for place, (video, n) in enumerate(lengths.items())
    ]  # fmt: skip
    sums = replace(
        run.counts, inventory=images + len(lengths), videos=len(lengths),
        frames=sum(lengths.values()),
    )  # fmt: skip
    return replace(run, counts=sums, videos=counts, frames=frames)


def with_datapool(run: ReportInput, n: int = 30, found: Found | None = None) -> ReportInput:
    """Return the run with `n` samples that were selected before."""
    names = [f"old/before-{i:03d}-mp4.png" if i % 2 else f"old/image {i}.jpg" for i in range(n)]
    given = vectors(n, run.vectors.shape[1], seed=9)
    distances, nearest = covering_distances(run.vectors, given)
    rng = np.random.default_rng(2)
    measured = {name: rng.gamma(2, 50_000, n) for name in run.properties}
    earlier = Preselected(names, given, measured, nearest, distances)
    return replace(run, preselected=earlier, datapool=found or Found(selected_before=n))
