"""What a report says of videos, in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightly_fs.artifacts.videos_table import VideoCounts
from lightly_fs.config.video import VideoConfig
from lightly_fs.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Foreign,
    Heading,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.lettering import counted, duration
from lightly_fs.report.timeline import common_axis
from lightly_fs.report.videos import (
    MAX_TIMELINES,
    MAX_VIDEOS,
    damaged,
    lost_videos,
    shown_videos,
    timelines,
)

TIMELINE = "video_sampling_timeline"
"""The chart's name in `plots/`."""
_LIST = "data/videos.csv"


def videos_section(report: Report, figures: Mapping[str, Drawing]) -> Section | None:
    """Return what the videos are and what became of their frames; None without any video."""
    videos = report.given.videos
    if not videos:
        return None
    blocks: list[Block] = [Words(_words(report))]
    shown = shown_videos(videos)
    blocks.append(_table(shown))
    if more := len(videos) - len(shown):
        which = "with most selected frames, and those with problems"
        blocks.append(Words(f"Videos {which}; {more:,} more are in {_LIST}.", small=True))
    else:
        blocks.append(Words(f"The same and more of each is in {_LIST}.", small=True))
    if TIMELINE in figures:
        blocks += _timeline(report)
    return Section("videos", "The videos", "Videos", blocks)


def damaged_blocks(report: Report) -> Iterator[Block]:
    """Say which videos are not whole and why; nothing where all are."""
    broken = [one for one in report.given.videos if one.facts.problem]
    if not broken:
        return
    yield Heading("Videos that are not whole")
    were = "was" if len(broken) == 1 else "were"
    yield Words(
        f"{counted(len(broken), 'video')} {were} decoded in part; all good frames are used."
    )
    rows: list[Sequence[Cell]] = [
        [
            Foreign(one.facts.filename, 40),
            Foreign(one.facts.problem, 110),
            f"{one.facts.n_frames:,}",
            f"{one.corrupt:,}",
        ]
        for one in broken[:MAX_VIDEOS]
    ]
    yield Table(["Video", "Problem", "Frames", "Corrupt"], rows, n_left=2)
    if more := len(broken) - len(rows):
        yield Words(f"{more:,} more {'is' if more == 1 else 'are'} in {_LIST}.", small=True)


def _words(report: Report) -> str:
    videos = report.given.videos
    frames = sum(one.frames for one in videos)
    selected = sum(one.selected for one in videos)
    gave = f"{counted(len(videos), 'video')} gave {counted(frames, 'frame')}"
    seconds = sum(one.facts.seconds or 0 for one in videos)
    long = f" of {duration(seconds)}" if seconds else ""
    text = f"{gave}{long}, {_sampled(report.given.config.video)}. "
    n_with = sum(one.selected > 0 for one in videos)
    was = "was" if selected == 1 else "were"
    text += f"{selected:,} {was} selected, from {counted(n_with, 'video')}." if selected else ""
    if lost := len(lost_videos(report.given)):
        gave = "gave none and is" if lost == 1 else "gave none and are"
        text += f" {counted(lost, 'other video')} {gave} among what was left out."
    if broken := sum(map(damaged, videos)):
        are = "is" if broken == 1 else "are"
        text += f" {broken:,} {are} not whole, the reasons are among what was left out."
    return text.strip()


def _sampled(config: VideoConfig) -> str:
    if config.fps is not None:
        return f"{config.fps:g} per second as configured"
    if config.every_nth > 1:
        return f"one of every {config.every_nth:,} as configured"
    return "the keyframes alone as configured" if config.keyframes_only else "every single one"


def _table(videos: Sequence[VideoCounts]) -> Table:
    head = ["Video", "Codec", "Size", "Seconds", "Frames", "Corrupt", "Duplicates", "Selected"]
    rows: list[Sequence[Cell]] = [
        [
            Foreign(one.facts.filename, 40),
            one.facts.codec + (", not whole" if one.facts.problem else ""),
            f"{one.facts.width} × {one.facts.height}",  # noqa: RUF001
            "—" if one.facts.seconds is None else f"{one.facts.seconds:,.1f}",
            f"{one.frames:,}",
            f"{one.corrupt:,}",
            f"{one.duplicates:,}",
            f"{one.selected:,}",
        ]
        for one in videos
    ]
    return Table(head, rows, n_left=2)


def _timeline(report: Report) -> Iterator[Block]:
    lines = timelines(report.given)
    yield Heading("When frames were selected")
    text = "A mark for every selected frame; at the right how many, and how long the video is."
    if not common_axis(lines):
        text += " Each video has a scale of its own."
    if not all(line.unit == "seconds" for line in lines):
        text += " Where timestamps are missing, frames are counted."
    n = len(report.given.videos)
    if n > MAX_TIMELINES:
        text += f" The {len(lines)} videos of {n:,} with most selected frames are drawn."
    yield Charts([Chart(TIMELINE, text)])
