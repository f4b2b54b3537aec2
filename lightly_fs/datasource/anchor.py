"""The directory that results go to, held open, so that nothing ever lands in another one.

A path may come to mean something else: when a mount vanishes, the same path names the bare
directory below it, and writing there succeeds. A descriptor does not change: everything is opened
relative to the directory that was there at the start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path, PurePosixPath
from typing import TypeVar

from lightly_fs.datasource import mount, table
from lightly_fs.errors import DatasourceError, MountError

logger = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE_S = 30.0
"""After how long a call into a mount is suspected to hang."""
_TEMPORARY = ".lightly-fs-"
_CHUNK = 1 << 20


class Anchor:
    """One directory, plain or mounted.

    Attributes:
        is_mount: It lies on s3fs or another FUSE file system, where writing is not atomic.
        fd: Descriptor of the directory; changes when a dead mount is mounted again.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        entry = table.entry_of(root)
        self.is_mount = entry is not None and entry.fstype.startswith("fuse.")
        self._is_s3fs = entry is not None and entry.is_s3fs
        self.fd = _open_directory(root)
        self._environ = environ
        self._lock = threading.Lock()
        self._past: list[int] = []
        self._folders: set[PurePosixPath] = set()
        self._making = threading.Lock()

    def close(self) -> None:
        """Let go of the directory; a mount cannot be unmounted before."""
        for fd in (*self._past, self.fd):
            os.close(fd)
        self._past, self.fd = [], -1

    def call(self, action: Callable[[], T]) -> T:
        """Run `action`; on a mount under a watch that revives a mount that hangs.

        A call that waits for a stopped s3fs cannot be interrupted, but it ends with ENOTCONN once
        the process is gone, which mounting again sees to.
        """
        if not self.is_mount:
            return action()
        future: Future[T] = Future()
        threading.Thread(target=_settle, args=(future, action), daemon=True).start()
        while not wait((future,), PATIENCE_S).done:
            self._answering_or_remounted()
        return future.result()

    def verify(self) -> None:
        """Make sure that the path still names the directory that was opened; mount it again if not.

        Raises:
            MountError: The mount is gone and cannot be brought back (reason `vanished`).
            DatasourceError: A plain directory was replaced by another one.
        """
        if self._same():
            return
        if self.is_mount:
            self.remount(self.fd)
            return
        raise DatasourceError(
            f"`{self.root}` is no longer the directory that this run was writing to",
            hint="put it back and run the same command again: the run resumes",
        )

    def remount(self, seen: int) -> None:
        """Mount again and open the new mount, unless another thread did since `fd` was `seen`."""
        with self._lock:
            if self.fd != seen:
                return
            logger.warning("the output mount %s is gone; mounting it again", self.root)
            try:
                mount.remount(self.root, self._environ)
                fd = _open_directory(self.root)
            except (MountError, DatasourceError, OSError) as error:
                raise MountError(
                    f"the output mount `{self.root}` is gone: {error}",
                    reason="vanished",
                    hint=f"mount it again (lightly-fs mount BUCKET {self.root} --profile output) "
                    "and run the same command: the run resumes",
                ) from error
            self._past.append(self.fd)
            self.fd = fd
            self._folders.clear()

    def make_parents(self, path: PurePosixPath) -> None:
        """Create the folders above `path`, each once: a `mkdir` through s3fs costs 11 requests."""
        with self._making:
            for folder in reversed(path.parents[:-1]):
                if folder not in self._folders:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, 0o755, dir_fd=self.fd)
                    self._folders.add(folder)

    def create(self, path: PurePosixPath, local: Path, flags: int = os.O_EXCL) -> None:
        """Write a new file and check every step; `close` is where s3fs reports a failed upload."""
        mode = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags
        fd = os.open(path, mode, 0o644, dir_fd=self.fd)
        try:
            with local.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: PurePosixPath, local: Path) -> None:
        """Put a file in place whole or not at all: a plain directory renames atomically."""
        # The temporary name follows from the target's: killed runs leave at most one behind.
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
        temporary = path.parent / f"{_TEMPORARY}{digest[:16]}.tmp"
        try:
            self.create(temporary, local, os.O_TRUNC)
            os.replace(temporary, path, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            self.remove(temporary)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, path: PurePosixPath) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path, dir_fd=self.fd)

    def remove_folder(self, path: PurePosixPath) -> None:
        """Remove a folder that holds nothing but what killed writes left there."""
        self._folders.discard(path)
        with contextlib.suppress(FileNotFoundError):
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
            try:
                with os.scandir(folder) as entries:
                    left = [entry.name for entry in entries if entry.name.startswith(_TEMPORARY)]
                for name in left:
                    os.unlink(name, dir_fd=folder)
            finally:
                os.close(folder)
            try:
                os.rmdir(path, dir_fd=self.fd)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                logger.warning("%s holds files of somebody else and stays", self.root / path)

    def remove_empty(self, path: PurePosixPath) -> None:
        """Remove a folder, and those above it, as far as they hold nothing; not the opened one."""
        while path.parts:
            try:
                os.rmdir(path, dir_fd=self.fd)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.ENOENT):
                    return
                raise
            self._folders.discard(path)
            path = path.parent

    def read(self, path: PurePosixPath) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def sha256(self, path: PurePosixPath) -> str | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def size(self, path: PurePosixPath) -> int | None:
        try:
            return os.stat(path, dir_fd=self.fd).st_size
        except FileNotFoundError:
            return None

    def files(self, folder: PurePosixPath) -> Iterator[str]:
        """Yield the files below a folder, relative to it; no folder is no file."""
        try:
            os.stat(folder, dir_fd=self.fd)
        except FileNotFoundError:
            return
        for above, _, names, _ in os.fwalk(folder, dir_fd=self.fd):
            below = PurePosixPath(above).relative_to(folder)
            yield from (str(below / name) for name in names if not name.startswith(_TEMPORARY))

    def _same(self) -> bool:
        try:
            named, held = self.root.stat(), os.fstat(self.fd)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def _answering_or_remounted(self) -> None:
        seen = self.fd
        if not self._is_s3fs:
            return
        try:
            mount.check(self.root, self._environ)
        except MountError:
            self.remount(seen)


def _open_directory(root: Path) -> int:
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _settle(future: Future[T], action: Callable[[], T]) -> None:
    try:
        future.set_result(action())
    except BaseException as error:  # noqa: BLE001 - handed on to the caller
        future.set_exception(error)
