"""Frames of videos beside images: every embedded sample can be read again as an image file."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from PIL import Image

from lightly_fs.datasource.ranged import RangedFile
from lightly_fs.datasource.reader import Buffer, Reader, ReaderStatistics
from lightly_fs.decoding.videos import FrameExtractor
from lightly_fs.types import Failure, Frame, Sample


class FrameFiles:
    """A reader of images and frames; a frame is decoded at its full size when it is read.

    Ascending frames of a video are read in one pass over it, and of several threads that wait for
    frames, the one whose frame comes next is served next: going back costs a seek. What a frame is
    read as (BMP) is lossless and nothing but a copy of its pixels, because whoever reads it decodes
    it at once.

    Attributes:
        kind: That of the reader of the files.
    """

    def __init__(
        self,
        reader: Reader,
        video: Callable[[str], Sample],
        frame: Callable[[str], Frame | None],
        max_pixels: int,
    ) -> None:
        """Prepare; videos are opened when their frames are read.

        Args:
            reader: Gives images, and the videos.
            video: Returns the inventory's sample of a video.
            frame: Returns which frame has a name; None for an image's.
            max_pixels: As for the run.
        """
        self.kind = reader.kind
        self._reader, self._video, self._frame = reader, video, frame
        self._extractor = FrameExtractor(reader.open, max_pixels)
        self._turn = threading.Condition()
        self._waiting: set[tuple[str, int]] = set()
        self._at: tuple[str, int] | None = None
        self._busy = False

    def read(self, sample: Sample) -> Buffer | Failure:
        frame = self._frame(sample.filename)
        if frame is None:
            return self._reader.read(sample)
        with self._served((frame.video, frame.index)):
            pixels = self._extractor.read(self._video(frame.video), frame)
        if isinstance(pixels, Failure):
            return Failure(sample.filename, pixels.outcome, pixels.reason, frame)
        return _encoded(Image.fromarray(pixels), "BMP")

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        for frames, some in groupby(samples, key=self._is_frame):
            if frames:
                yield from map(self.read, some)
            else:
                yield from self._reader.stream(list(some))

    def open(self, sample: Sample) -> RangedFile:
        return self._reader.open(sample)

    def statistics(self) -> ReaderStatistics:
        return self._reader.statistics()

    def close(self) -> None:
        """Close the video that is open; the reader of the files is its owner's."""
        self._extractor.close()

    @contextmanager
    def _served(self, place: tuple[str, int]) -> Iterator[None]:
        """Wait until it is the turn of a frame; nobody else is served meanwhile."""
        with self._turn:
            self._waiting.add(place)
            self._turn.wait_for(lambda: not self._busy and self._next() == place)
            self._waiting.discard(place)
            self._busy = True
        try:
            yield
        finally:
            with self._turn:
                self._at, self._busy = place, False
                self._turn.notify_all()

    def _next(self) -> tuple[str, int]:
        """Return the next frame of those that are waited for, going up and then from the start."""
        ahead = [place for place in self._waiting if self._at is None or place >= self._at]
        return min(ahead or self._waiting)

    def _is_frame(self, sample: Sample) -> bool:
        return self._frame(sample.filename) is not None


def as_png(data: Buffer) -> bytes:
    """Return an image file as PNG, pixel by pixel the same."""
    with Image.open(io.BytesIO(data)) as image:
        return _encoded(image, "PNG")


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()
