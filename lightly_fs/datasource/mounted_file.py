"""A large file on a mount: it stays open while its blocks are read."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from lightly_fs.types import CHANGED, Sample

_RENEW_BYTES = 512 << 20


class ChangedError(OSError):
    """A file is not the one that was listed."""

    def __init__(self, detail: str) -> None:
        super().__init__(errno.ESTALE, f"{CHANGED}: {detail}")


@dataclass(eq=False)
class _Descriptor:
    number: int
    users: int = 0
    n_bytes: int = 0


class MountedFile:
    """Reads parts of a file through one descriptor, from several threads.

    s3fs downloads some 10 to 64 MB behind the first byte that is read of an open file, and forgets
    them when the last descriptor is closed: opened anew for each block, a file would be
    transferred several times over. What it downloaded lies in its temporary directory until then,
    so the descriptor is renewed after every 512 MiB: no file, however long, fills that disk.

    Every method but `close_soon` may hang as the mount does: call them within a deadline.
    """

    def __init__(self, path: bytes, sample: Sample, *, renew_bytes: int = _RENEW_BYTES) -> None:
        self._path, self._sample, self._renew_bytes = path, sample, renew_bytes
        self._room = threading.Condition()
        self._current: _Descriptor | None = None
        self._mtime_ns = sample.mtime_ns if sample.etag is None else None
        self._closed = False

    def read(self, first: int, length: int) -> bytes:
        """Return a part of the file.

        Raises:
            ChangedError: It has another size or time of change than when it was listed or begun.
            ShortError: It ends too early.
            OSError: The system's answer. After any of these, the next call opens the file again.
        """
        with self._opened(length) as number:
            data = _read_part(number, first, length)
            found = os.fstat(number)
            # s3fs shows a refused object as an empty file: that is not a change.
            if found.st_size not in (0, self._sample.size):
                raise ChangedError(
                    f"{self._sample.size} bytes were listed, {found.st_size} are there"
                )
            # A listing by ListObjectsV2 has another notion of time: only a change tells something.
            if found.st_size:
                self._mtime_ns = self._mtime_ns or found.st_mtime_ns
                if found.st_mtime_ns != self._mtime_ns:
                    raise ChangedError("its time of change is another")
            if len(data) != length:
                raise ShortError(length, len(data), found.st_mode)
        return data

    def close_soon(self) -> None:
        """Close in a thread that nobody waits for."""
        threading.Thread(target=self.close, name="closing", daemon=True).start()

    def close(self) -> None:
        """Give the descriptor back, or let the last one who reads do so."""
        with self._room:
            self._closed = True
            if self._current is not None:
                self._retire(self._current)

    @contextmanager
    def _opened(self, length: int) -> Iterator[int]:
        with self._room:
            current = self._current
            while current and current.n_bytes >= self._renew_bytes and current.users:
                self._room.wait()  # s3fs forgets only what nobody has open
                current = self._current
            if current and current.n_bytes >= self._renew_bytes:
                self._retire(current)
                current = None
            if current is None:
                current = _Descriptor(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
                self._current = current
            current.users += 1
            current.n_bytes += length
        broken = True
        try:
            yield current.number
            broken = False
        finally:
            with self._room:
                current.users -= 1
                if broken or self._closed or current is not self._current:
                    self._retire(current)
                self._room.notify_all()

    def _retire(self, descriptor: _Descriptor) -> None:
        """Give a descriptor to nobody any more, and close it when nobody has it."""
        if self._current is descriptor:
            self._current = None
        if descriptor.users == 0:
            with suppress(OSError):
                os.close(descriptor.number)


class ShortError(OSError):
    """A read that succeeded with too few or too many bytes, as s3fs does for a refused object."""

    def __init__(self, wanted: int, found: int, mode: int) -> None:
        super().__init__(errno.EIO, f"{wanted} bytes were listed, {found} bytes were read")
        self.denied = found == 0 and mode & 0o777 == 0


def read_whole(path: bytes, sample: Sample) -> bytes:
    """Return a file's bytes; raises as `MountedFile.read`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        data = file.readall()
        found = os.fstat(descriptor)
    if len(data) != sample.size:
        raise ShortError(sample.size, len(data), found.st_mode)
    # A listing by ListObjectsV2 has another notion of time than s3fs, which shows when a file
    # was changed before it was uploaded; a listing through the mount has the same.
    if sample.etag is None and found.st_mtime_ns != sample.mtime_ns:
        raise ChangedError("its time of change is another")
    return data


def read_beginning(path: bytes, sample: Sample, n_bytes: int) -> bytes:
    """Return a file's first bytes; raises as `MountedFile.read`."""
    with closing(MountedFile(path, sample)) as file:
        return file.read(0, n_bytes)


def _read_part(descriptor: int, first: int, length: int) -> bytes:
    """Read until a part is whole or the file ends: a FUSE read may be short."""
    pieces: list[bytes] = []
    while length > 0 and (piece := os.pread(descriptor, length, first)):
        pieces.append(piece)
        first += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
