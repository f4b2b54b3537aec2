"""Read files of a plain directory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightly_fs.datasource.listing import local_path
from lightly_fs.datasource.ranged import RangedFile
from lightly_fs.datasource.read_ahead import in_order
from lightly_fs.datasource.reader import Buffer, ReaderStatistics
from lightly_fs.types import CHANGED, Failure, Outcome, Sample

_THREADS = 8


class DirectoryReader:
    """Reads a local disk with a few threads; the size is checked against the inventory."""

    kind = "directory"

    def __init__(self, root: Path, *, threads: int = _THREADS) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(threads, "read")
        self._lock = threading.Lock()
        self._bytes = 0

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        return in_order(samples, lambda sample: self._pool.submit(self.read, sample))

    def read(self, sample: Sample) -> Buffer | Failure:
        return self._read(sample, None)

    def open(self, sample: Sample) -> RangedFile:
        return RangedFile(
            sample, lambda first, length: self._pool.submit(self._read, sample, (first, length))
        )

    def _read(self, sample: Sample, part: tuple[int, int] | None) -> Buffer | Failure:
        try:
            result = read_file(local_path(self._root, sample.filename, walked=True), sample, part)
        except OSError as error:
            return failure_of(error, sample)
        if not isinstance(result, Failure):
            with self._lock:
                self._bytes += len(result)
        return result

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(bytes_read=self._bytes)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def read_file(path: bytes, sample: Sample, part: tuple[int, int] | None = None) -> bytes | Failure:
    """Read a file that must still be the one that was listed.

    Args:
        path: Where it lies.
        sample: As it was listed.
        part: Offset and number of bytes; None for the whole file.

    Raises:
        OSError: The system's answer, to be judged by `failure_of` or by the caller.
    """
    # Neither a FIFO nor a device that took the file's place may block or never end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if part is None:
            data = file.read(sample.size + 1) or b""
            found = os.fstat(descriptor)
            whole = len(data) == sample.size
        else:
            data = os.pread(descriptor, part[1], part[0])
            found = os.fstat(descriptor)
            whole = len(data) == part[1] and found.st_size == sample.size
    detail = ""
    if not whole:
        detail = f"{sample.size} bytes were listed, {found.st_size} are there"
    elif found.st_mtime_ns != sample.mtime_ns and sample.etag is None:
        detail = "its time of change is another"
    if detail:
        return Failure(sample.filename, Outcome.FAILED, f"{CHANGED}: {detail}")
    return data


def failure_of(error: OSError, sample: Sample) -> Failure:
    """Say what an error of the operating system means for one sample."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Failure(sample.filename, Outcome.GONE, "deleted during the run")
    if isinstance(error, PermissionError):
        return Failure(sample.filename, Outcome.UNREADABLE, "access denied")
    return Failure(sample.filename, Outcome.FAILED, f"cannot be read: {error.strerror}")
