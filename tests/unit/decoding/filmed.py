"""What tests of decoding share: files that fail, all batches at once, the plain way to decode."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.ranged import RangedReadError
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.video_scaling import FrameScaler
from lightly_fs.decoding.videos import FrameBatch, Position, Sampling, frame_batches
from lightly_fs.types import Failure, ImageRecord, Sample, VideoFacts

SIZE = 32


def settings(threads: int = 2, **options) -> DecodeSettings:
    given = {"properties": PropertiesMode.OFF, "batch_size": 8, **options}
    return DecodeSettings(given.pop("size", SIZE), threads=threads, **given)


class LocalFile:
    """A file on the disk with the surface of a `RangedFile`; `error` appears at byte `fails_at`."""

    def __init__(self, path: Path, fails_at: int | None = None) -> None:
        self.path, self.size, self.fails_at = path, path.stat().st_size, fails_at
        self.error: RangedReadError | None = None
        self.n_handles = 0
        self.closed = False

    def handle(self) -> io.RawIOBase:
        self.n_handles += 1
        return _Handle(self)

    def close(self) -> None:
        self.closed = True


class _Handle(io.FileIO):
    def __init__(self, file: LocalFile) -> None:
        super().__init__(file.path)
        self._of = file

    def read(self, size: int = -1) -> bytes:
        fails_at = self._of.fails_at
        if fails_at is not None and self.tell() + max(size, 0) > fails_at:
            from lightly_fs.types import Outcome

            self._of.error = RangedReadError(Outcome.GONE, "the object is not there any more")
            raise self._of.error
        return super().read(size)


def sample(path: Path) -> Sample:
    return Sample(str(path), path.stat().st_size, None, 0)


def opened(video: Sample) -> LocalFile:
    return LocalFile(Path(video.filename))


@dataclass(frozen=True)
class Watched:
    """All that `frame_batches` gave."""

    results: Sequence[ImageRecord | Failure]
    ended: Sequence[VideoFacts | Failure]
    resumes: Sequence[tuple[int, Position]]
    """How many results came before, and where to go on behind them."""

    def hashes(self) -> list[bytes | str]:
        return [r.reason if isinstance(r, Failure) else r.pixel_hash for r in self.results]

    def frames(self) -> list[tuple[int, int | None]]:
        return [(r.frame.index, r.frame.pts) for r in self.results]


def watch(
    paths: Sequence[Path],
    *,
    sampling: Sampling | None = None,
    start: Position | None = None,
    using: DecodeSettings | None = None,
) -> Watched:
    batches = frame_batches(
        [sample(path) for path in paths],
        opened,
        using or settings(),
        sampling or Sampling(),
        start=start,
    )
    return collect(batches)


def collect(batches: Iterator[FrameBatch]) -> Watched:
    results, ended, resumes = [], [], []
    for batch in batches:
        for place, result in enumerate(batch.results):
            if isinstance(result, ImageRecord):
                pixels = batch.pixels[place].numpy()
                assert hashlib.sha256(pixels.data).digest() == result.pixel_hash
        assert not batch.pixels[len(batch.results) :].any()
        results += batch.results
        ended += batch.ended
        if batch.resume is not None:
            resumes.append((len(results), batch.resume))
    return Watched(results, ended, resumes)


def plainly(path: Path, using: DecodeSettings | None = None) -> list[tuple[int | None, bytes]]:
    """Timestamp and hash of every frame, by PyAV's own loop and one decoder."""
    scaler = FrameScaler(using or settings())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return [(f.pts, scaler.scale(f).pixel_hash) for f in container.decode(stream)]
