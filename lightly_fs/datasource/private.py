"""Private directories of a process, and the removal of those that killed ones left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lightly_fs.datasource import mount, table
from lightly_fs.datasource.process import Process
from lightly_fs.errors import MountError, TemporarySpaceError

logger = logging.getLogger(__name__)

_PREFIX = "lightly-fs-"
_OWNER = "owner.json"
_PATIENCE_S = 5.0
_LITTLE = 1 << 20
"""Bytes; a file system with less is full: the file that met its end is still there."""


@contextmanager
def private_directory(name: str) -> Iterator[Path]:
    """Make an empty directory for this process alone, and remove it with all in it at the end.

    Nothing is removed while a mount lies in it: that would delete the objects of the bucket.

    Args:
        name: What it is for; the last part of its path.

    Raises:
        TemporarySpaceError: It cannot be made, or became full while it was used.
    """
    where = None
    try:
        where = Path(tempfile.gettempdir())
        top = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).resolve()
    except OSError as error:  # also: there is no directory that can be written
        raise _no_space(where, error) from error
    try:
        (top / _OWNER).write_text(json.dumps(asdict(Process.current()), indent=1) + "\n")
        directory = top / name
        directory.mkdir()
        yield directory
    except OSError as error:
        if not _is_full(top, error):
            raise
        raise _no_space(top.parent, error) from error
    finally:
        _remove(top)


def _is_full(top: Path, error: OSError) -> bool:
    """Tell whether an error is that of this directory's file system."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return False
    if isinstance(error.filename, str):
        return Path(error.filename).is_relative_to(top)
    # A failed write names no file, and the output may be full as well.
    return shutil.disk_usage(top).free < _LITTLE


def _no_space(where: Path | None, error: OSError) -> TemporarySpaceError:
    place = f" in {where}" if where else ""
    found = TemporarySpaceError(
        f"temporary files cannot be written{place}: {error.strerror or error}",
        hint="TMPDIR=DIR, a directory on a local disk with room for the results of a run",
    )
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found


def sweep(environ: Mapping[str, str]) -> list[Path]:
    """Unmount and remove the private directories of processes that were killed.

    Left alone is what belongs to a living process, to another user, host or container, or to
    nobody known; and, with a warning, what is in use.

    Args:
        environ: Says where the records of mounts are.

    Returns:
        The directories that are gone.
    """
    gone = []
    for top in _tops(environ):
        with _claimed(top) as dead:
            if dead and _clear(top, environ):
                logger.info("removed %s, which a run that was killed had left", top)
                gone.append(top)
    return gone


def _tops(environ: Mapping[str, str]) -> list[Path]:
    """Return the private directories of this user, below this temporary directory or mounted."""
    found = set(Path(tempfile.gettempdir()).resolve().glob(f"{_PREFIX}*"))
    for record in table.records(environ):
        if record.directory.parent.name.startswith(_PREFIX):
            found.add(record.directory.parent)
    return sorted(top for top in found if _is_own(top))


def _is_own(top: Path) -> bool:
    try:
        found = top.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


@contextmanager
def _claimed(top: Path) -> Iterator[bool]:
    """Tell whether the owner is dead, and keep others who sweep away meanwhile."""
    with contextlib.ExitStack() as stack:
        dead = False
        try:
            file = stack.enter_context((top / _OWNER).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead = Process(**json.loads(file.read())).is_dead()
        except (OSError, ValueError, TypeError) as error:
            logger.debug("%s is left alone: %s", top, error)
        yield dead


def _clear(top: Path, environ: Mapping[str, str]) -> bool:
    for record in table.records(environ):
        if record.directory.is_relative_to(top):
            _unmount(record.directory, environ)
    # Without a record: whoever mounted it was killed in the middle.
    for directory in _mounts_below(top):
        _unmount(directory, environ)
    return _remove(top)


def _unmount(directory: Path, environ: Mapping[str, str]) -> None:
    try:
        mount.unmount(directory, environ, timeout_s=_PATIENCE_S)
    except MountError as error:
        if error.reason != "not-mounted":
            logger.warning("a run that was killed left a mount: %s", error.message)


def _mounts_below(top: Path) -> list[Path]:
    entries = table.mount_entries()
    return [entry.directory for entry in entries if entry.directory.is_relative_to(top)]


def _remove(top: Path) -> bool:
    """Remove a directory with all in it; tell whether it is gone. Never enters a mount."""
    if mounts := _mounts_below(top):
        logger.warning("%s stays: `%s` is still mounted", top, mounts[0])
        return False
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _empty(fd, os.fstat(fd).st_dev)
        finally:
            os.close(fd)
        top.rmdir()
    except OSError as error:
        logger.warning("%s cannot be removed: %s", top, error)
        return False
    return True


def _empty(folder: int, device: int) -> None:
    """Delete what is in an open folder, the owner's record last.

    Raises:
        OSError: Something is mounted there at this moment (`EXDEV`), or may not be deleted.
    """
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in sorted(found, key=lambda one: one[0] == _OWNER):
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        below = os.open(name, flags, dir_fd=folder)
        try:
            if os.fstat(below).st_dev != device:
                raise OSError(errno.EXDEV, "it is being mounted", name)
            _empty(below, device)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=folder)
