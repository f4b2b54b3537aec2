"""Single frames of videos at full resolution: exactly those that were embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from av.video.frame import VideoFrame

from lightly_fs.datasource.ranged import RangedReadError
from lightly_fs.decoding.raster import Pixels
from lightly_fs.decoding.video_file import Entry, ReadableFile, VideoError, VideoFile
from lightly_fs.decoding.video_sampling import Position
from lightly_fs.decoding.video_scaling import ScaledFrame, full_pixels
from lightly_fs.decoding.video_unit import LostKeyframe, Row, Unit
from lightly_fs.types import Failure, Frame, Outcome, Sample

_STEP_SECONDS = 1.0
"""Between keyframes that are sought; those of most videos are further apart."""


class FrameExtractor:
    """Reads frames again, for one thread at a time; the last video stays open."""

    def __init__(self, open_file: Callable[[Sample], ReadableFile], max_pixels: int) -> None:
        """Prepare; nothing is opened yet.

        Args:
            open_file: Opens a video.
            max_pixels: As for the run.
        """
        self._open_file = open_file
        self._max_pixels = max_pixels
        self._opened: _Opened | None = None

    def read(self, video: Sample, frame: Frame) -> Pixels | Failure:
        """Return a frame that was decoded before.

        Frames of one video in ascending order are read in one pass where they are near to one
        another; else decoding begins at the keyframe before. Frames without a timestamp are
        counted from the start.

        Returns:
            (H, W, 3) uint8 RGB at full resolution, the right way up; or why it cannot be read.
        """
        try:
            if self._opened is None or self._opened.sample != video:
                self.close()
                self._opened = _Opened(video, self._open_file(video), self._max_pixels)
            pixels = self._opened.read(frame)
        except (VideoError, RangedReadError) as error:
            self.close()
            return Failure(video.filename, error.outcome, error.reason, frame)
        except MemoryError:
            self.close()
            reason = "not enough memory to decode the video"
            return Failure(video.filename, Outcome.FAILED, reason, frame)
        if isinstance(pixels, str):
            return Failure(video.filename, Outcome.FAILED, pixels, frame)
        return pixels

    def close(self) -> None:
        """Close the video that is open."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


@dataclass(slots=True)
class _OneFrame:
    """Picks one frame by its index, and may then be given another one."""

    index: int = 0
    keyframes_only: bool = False

    def wants(self, index: int, pts: int | None, *, key: bool) -> bool:  # noqa: ARG002
        return index == self.index


class _Opened:
    """A video that is open, and how far it has been read."""

    def __init__(self, sample: Sample, file: ReadableFile, max_pixels: int) -> None:
        self.sample = sample
        self._file, self._max_pixels = file, max_pixels
        self._video: VideoFile | None = None
        self._entries: list[Entry] = []
        self._wanted = _OneFrame()
        self._rows: Iterator[Row] | None = None
        self._last: Frame | None = None

    def read(self, frame: Frame) -> Pixels | str:
        """Return a frame's pixels, or why they cannot be had."""
        row = self._next(frame) if self._is_near(frame) else None
        if row is None and frame.pts is not None:
            self._begin(frame)
            row = self._next(frame)
        if row is None:
            self._begin(None)
            row = self._next(frame)
        if row is None:
            return f"frame {frame.index:,} is not there any more"
        if isinstance(row.scaled, str):
            return row.scaled
        return row.scaled.pixels

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
        self._file.close()

    def _next(self, frame: Frame) -> Row | None:
        """Go forward to a frame; None where it does not come."""
        self._wanted.index = frame.index
        try:
            row = None if self._rows is None else next(self._rows, None)
        except LostKeyframe:
            row = None
        self._last = frame if row is not None else None
        return row

    def _is_near(self, frame: Frame) -> bool:
        """Return whether going forward decodes no more than going to the keyframe before."""
        last = self._last
        if last is None or last.index >= frame.index:
            return False
        if frame.pts is None or last.pts is None:
            return frame.pts is None
        passed = [e for e in self._entries if last.pts < e.timestamp <= frame.pts]
        return len(passed) <= 1

    def _begin(self, frame: Frame | None) -> None:
        """Go to the keyframe before a frame; None: to the start."""
        if self._video is None:
            self._video = VideoFile(self._file, threads=1, max_pixels=self._max_pixels)
            self._entries = self._video.entries(_STEP_SECONDS)
        start, first = None, 0
        if frame is not None and frame.pts is not None:
            start = Position(frame.video, frame.index, frame.pts)
            first = sum(1 for entry in self._entries if entry.timestamp <= frame.pts)
        if not first:
            self._video.restart(threads=1)
        unit = Unit(
            video=self._video,
            scale=_whole,
            picker=self._wanted,
            entries=self._entries,
            first=first,
            start=start,
            meet=lambda _number, _pts, _digest: False,
        )
        self._rows = unit.rows()


def _whole(frame: VideoFrame) -> ScaledFrame:
    pixels = full_pixels(frame)
    height, width = pixels.shape[:2]
    return ScaledFrame(pixels, None, b"", {}, width, height)
