"""One mount as a reader sees it: calls that cannot hang, and a mount that comes back."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from lightly_fs.datasource import mount, table
from lightly_fs.errors import MountError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 3
_FRUITLESS = 5
_CHECK_S = 5.0


def within(seconds: float, call: Callable[[], T], *, stop: Future[None]) -> T:
    """Call something that may never return; after the deadline its thread is left behind.

    A read from a hung FUSE mount cannot be interrupted, not even by SIGKILL, until its daemon
    answers or dies.

    Raises:
        TimeoutError: It did not return in time, or `stop` was set.
    """
    result: Future[T] = Future()

    def run() -> None:
        with suppress(InvalidStateError):
            try:
                result.set_result(call())
            except Exception as error:  # noqa: BLE001 - handed to who waits
                result.set_exception(error)

    threading.Thread(target=run, name="bounded", daemon=True).start()
    both: tuple[Future[Any], ...] = (result, stop)
    wait(both, timeout=seconds, return_when=FIRST_COMPLETED)
    if not result.done():
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return result.result()


class Lane:
    """A mount, or a folder on it, that is read.

    Attributes:
        directory: What is read.
        generation: Grows with each remount; tells whose error is an old one.
        remounts: How often it was mounted again.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self.generation = 0
        self.remounts = 0
        self._environ = environ
        found = table.record_of(directory, environ)
        entry = table.entry_of(directory)
        self._point = found[1] if found else entry.directory if entry else directory
        self._is_ours = found is not None
        self._was_s3fs = entry is not None and entry.is_s3fs
        self._lock = threading.Lock()
        self._fruitless = 0
        self._end: MountError | None = None

    def proved(self) -> None:
        """Take note of a file that could be read."""
        self._fruitless = 0

    def shows_the_mount(self) -> bool:
        """Tell whether the directory still is on the mount; without it, every file is missing."""
        return not self._was_s3fs or table.is_s3fs(self.directory)

    def recover(self, generation: int) -> bool:
        """Mount again if the mount is dead or hangs; whoever comes second finds it done.

        Args:
            generation: Of the mount when the error happened.

        Returns:
            Whether there is a new mount.

        Raises:
            MountError: It could not be mounted, three times (reason `stopped`).
        """
        with self._lock:
            if self._end is not None:
                raise self._end
            if self.generation != generation:
                return True
            if self._is_well():
                return False
            try:
                self._remount()
            except MountError as error:
                self._end = error
                raise
            self.generation += 1
            self.remounts += 1
            return True

    def _is_well(self) -> bool:
        if not self.shows_the_mount():
            return False
        if self._hangs():
            self._kill()
            return False
        try:
            mount.check(self._point, timeout_s=_CHECK_S)
        except MountError as error:
            logger.debug("%s: %s", self._point, error.message)
            return False
        return True

    def _hangs(self) -> bool:
        try:
            within(_CHECK_S, lambda: os.statvfs(self._point), stop=Future())
        except OSError as error:
            return isinstance(error, TimeoutError)
        return False

    def _kill(self) -> None:
        """Kill the s3fs that hangs, before another process is started to do so.

        Whoever starts a process copies and closes its descriptors, and closing one of a file on
        a hung mount asks that mount: as long as a read is under way there, starting hangs too.
        """
        if self._is_ours:
            for process in table.s3fs_pids(self._point):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)

    def _remount(self) -> None:
        self._fruitless += 1
        if self._fruitless > _FRUITLESS:
            raise self._stopped(f"it died {_FRUITLESS} times without one file being read")
        logger.warning("the mount %s is dead or hangs: mounting it again", self._point)
        for attempt in range(_TRIES):
            try:
                mount.remount(self._point, self._environ)
            except MountError as error:
                if error.reason == "credentials":
                    raise
                last = error.message
                time.sleep(2.0**attempt)
            else:
                return
        raise self._stopped(f"it could not be mounted again, {_TRIES} times: {last}")

    def _stopped(self, why: str) -> MountError:
        return MountError(
            f"the mount {self._point} stopped: {why}",
            reason="stopped",
            hint="Mount it again, then start the same command: it resumes.",
        )
