"""The place of a lock: an object with conditional writes, or a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from lightly_fs.datasource.output import Objects, Output


@dataclass(frozen=True, slots=True)
class Seen:
    """What lay in a slot.

    Attributes:
        data: Its content.
        token: Changes with every write.
        mtime_ns: When it was written, by the storage's clock where it has one.
    """

    data: bytes
    token: str
    mtime_ns: int


class Slot(Protocol):
    """Holds at most one value; writes are conditional as far as the storage can."""

    def read(self) -> Seen | None: ...

    def create(self, data: bytes) -> bool:
        """Write if there is nothing; tell whether that was so."""

    def replace(self, data: bytes, seen: Seen) -> bool:
        """Write if what was seen is still there; tell whether that was so."""

    def delete(self) -> None: ...

    def age_s(self, seen: Seen) -> float:
        """Return for how many seconds the value has not been written."""

    def is_exclusive(self, data: bytes) -> bool:
        """Tell whether the conditions hold against every other process; `data` lies there."""


class ObjectSlot:
    """An object of a bucket, written with If-None-Match and If-Match; its times are the store's."""

    def __init__(self, objects: Objects, path: PurePosixPath) -> None:
        self._objects = objects
        self._store = objects.store
        self._path = path
        self._key = objects.key(path)

    def read(self) -> Seen | None:
        # The token first: content that is newer than its token only makes a write fail.
        head = self._store.head(self._key)
        data = None if head is None else self._objects.read(self._path)
        if head is None or data is None:
            return None
        return Seen(data, head.etag or "", head.mtime_ns)

    def create(self, data: bytes) -> bool:
        return self._store.create(self._key, data) is not None

    def replace(self, data: bytes, seen: Seen) -> bool:
        return self._store.replace(self._key, data, etag=seen.token) is not None

    def delete(self) -> None:
        self._store.delete(self._key)

    def age_s(self, seen: Seen) -> float:
        probe = f"{self._key}.{uuid.uuid4().hex}"
        self._store.create(probe, b"what time is it?")
        try:
            head = self._store.head(probe)
        finally:
            self._store.delete(probe)
        return 0.0 if head is None else (head.mtime_ns - seen.mtime_ns) / 1e9

    def is_exclusive(self, data: bytes) -> bool:
        """Some stores accept the conditions and ignore them: try both, with the same content."""
        if self._store.create(self._key, data) is not None:
            return False
        return self._store.replace(self._key, data, etag="0" * 32) is None


class FileSlot:
    """A file of an output.

    In a plain directory processes exclude one another by locking the directory while they write.
    On a mount whose bucket is unknown nothing excludes anybody: the lock is advisory.
    """

    def __init__(self, output: Output, name: str) -> None:
        self._anchor = output.anchor
        self._path = output.path(name)

    def read(self) -> Seen | None:
        return self._anchor.call(self._read)

    def create(self, data: bytes) -> bool:
        return self._anchor.call(lambda: self._write(data, None))

    def replace(self, data: bytes, seen: Seen) -> bool:
        return self._anchor.call(lambda: self._write(data, seen.token))

    def delete(self) -> None:
        self._anchor.call(lambda: self._anchor.remove(self._path))

    def age_s(self, seen: Seen) -> float:
        return time.time() - seen.mtime_ns / 1e9

    def is_exclusive(self, data: bytes) -> bool:  # noqa: ARG002 - nothing to try
        return not self._anchor.is_mount

    def _read(self) -> Seen | None:
        data = self._anchor.read(self._path)
        if data is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._path, dir_fd=self._anchor.fd)
            return Seen(data, data.decode(errors="replace"), found.st_mtime_ns)
        return None

    def _write(self, data: bytes, expected: str | None) -> bool:
        self._anchor.verify()
        self._anchor.make_parents(self._path)
        with self._alone(), _file(data) as local:
            seen = self._read()
            if (seen and seen.token) != expected:
                return False
            if not self._anchor.is_mount:
                self._anchor.replace(self._path, local)
                return True
            self._anchor.remove(self._path)
            try:
                self._anchor.create(self._path, local)
            except FileExistsError:
                return False
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._anchor.fd)
        try:
            with contextlib.suppress(OSError):  # some network file systems cannot lock directories
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryFile() as file:  # without a name: whoever is killed leaves nothing
        file.write(data)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")
