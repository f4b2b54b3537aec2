"""A cache of objects on a local disk, addressed by what they are: never stale."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from lightly_fs.types import Sample

logger = logging.getLogger(__name__)

Buffer = bytes | memoryview

_CHECKSUM = hashlib.sha256
_CHECKSUM_SIZE = 32


class ObjectCache:
    """Least recently used objects under one directory, in at most `max_bytes`.

    A file is named after the object's ETag and size and begins with the SHA-256 of the rest, so
    that a file cut short or altered is found, deleted and fetched again. Several processes may
    share the directory: files appear whole (rename) and a file that vanished is a miss.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.hits = 0
        self._directory, self._max_bytes = directory, max_bytes
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._checked: set[str] = set()
        directory.mkdir(parents=True, exist_ok=True)
        self._sizes = _found(directory)
        self._total = sum(self._sizes.values())
        with self._lock:
            self._shrink()

    def get(self, sample: Sample, part: tuple[int, int] | None = None) -> bytes | None:
        """Return an object's bytes, or None when they are not here.

        Args:
            sample: Only whole objects are kept, so that each can be checked.
            part: Offset and number of bytes to return; None for all.
        """
        name = _name(sample)
        if name is None:
            return None
        with self._lock:
            if name not in self._sizes:
                return None
            self._sizes.move_to_end(name)
        path = self._directory / name[:2] / name
        try:
            data = _stored(path) if part is None else self._stored_part(path, sample, part)
            os.utime(path)
        except OSError:
            self._forget(name)
            return None
        if data is None or len(data) != (part[1] if part else sample.size):
            logger.warning("%s in the cache is damaged: fetched again", path)
            self._forget(name)
            return None
        with self._lock:
            self.hits += 1
        return data

    def _stored_part(self, path: Path, sample: Sample, part: tuple[int, int]) -> bytes | None:
        """Return a part of a file that was checked once; None when it is damaged."""
        with self._checking, path.open("rb") as file:
            if path.name not in self._checked:
                checksum = file.read(_CHECKSUM_SIZE)
                whole = hashlib.file_digest(file, _CHECKSUM)
                if file.tell() != _CHECKSUM_SIZE + sample.size or whole.digest() != checksum:
                    return None
                self._checked.add(path.name)
            file.seek(_CHECKSUM_SIZE + part[0])
            return file.read(part[1])

    def put(self, sample: Sample, data: Buffer) -> None:
        """Keep an object; a disk that is full only costs the next run time."""
        name = _name(sample)
        size = len(data) + _CHECKSUM_SIZE
        if name is None or size > self._max_bytes or name in self._sizes:
            return
        with self._lock:
            self._total += size
            self._sizes[name] = size
            self._shrink()
        try:
            self._write(self._directory / name[:2], name, data)
        except OSError as error:
            logger.debug("%s cannot be cached: %s", sample.filename, error)
            self._forget(name)

    def _write(self, folder: Path, name: str, data: Buffer) -> None:
        folder.mkdir(exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_CHECKSUM(data).digest())
                file.write(data)
            Path(temporary).rename(folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _shrink(self) -> None:
        while self._total > self._max_bytes:
            name, size = self._sizes.popitem(last=False)
            self._total -= size
            (self._directory / name[:2] / name).unlink(missing_ok=True)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._total -= self._sizes.pop(name, 0)
            self._checked.discard(name)
        with contextlib.suppress(OSError):
            (self._directory / name[:2] / name).unlink(missing_ok=True)


def _stored(path: Path) -> bytes | None:
    """Return what a file holds; None when it is damaged."""
    stored = path.read_bytes()
    data = stored[_CHECKSUM_SIZE:]
    return data if _CHECKSUM(data).digest() == stored[:_CHECKSUM_SIZE] else None


def _name(sample: Sample) -> str | None:
    if sample.etag is None:
        return None
    return hashlib.sha256(f"{sample.etag}\n{sample.size}".encode()).hexdigest()


def _found(directory: Path) -> OrderedDict[str, int]:
    """Return what is cached, the least recently used first; leftovers of a crash are deleted."""
    files = []
    for path in directory.glob("??/*"):
        try:
            if path.suffix == ".part":
                path.unlink()
                continue
            found = path.stat()
        except OSError:  # another process shrank the cache
            continue
        files.append((found.st_mtime_ns, path.name, found.st_size))
    return OrderedDict((name, size) for _, name, size in sorted(files))
