"""The run's own log.txt and memlog.txt: kept locally, published whole at the end."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

MEMORY_EVERY_S = 5.0
_FORMAT = "[%(asctime)s] %(message)s"
_DATE = "%Y-%m-%d %H:%M:%S"


@contextmanager
def journal(directory: Path) -> Iterator[None]:
    """Write log.txt and memlog.txt in `directory` while the block runs."""
    handler = _LogFile(directory / "log.txt", encoding="utf-8")
    handler.setFormatter(_Formatter(_FORMAT, _DATE))
    logger = logging.getLogger("lightly_fs")
    handler.setLevel(logging.INFO)
    before = logger.level
    for other in logger.handlers:
        other.setLevel(max(other.level, logger.getEffectiveLevel()))
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    logger.addHandler(handler)
    stop = threading.Event()
    watcher = threading.Thread(
        target=_watch_memory, args=(directory / "memlog.txt", stop), name="memlog", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        logger.removeHandler(handler)
        logger.setLevel(before)
        with suppress(OSError):  # a full disk is told by whatever else cannot be written
            handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Stay silent about a full disk: `logging` would print a traceback for every line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if record.levelno < logging.WARNING else f"{line} ({record.levelname})"


def _watch_memory(path: Path, stop: threading.Event) -> None:
    process = psutil.Process(os.getpid())
    with suppress(OSError), path.open("w", encoding="utf-8") as file:
        file.write("time\tresident_MB\tsystem_available_MB\tcpu_seconds\n")
        while True:
            used = process.memory_info().rss / 1e6
            free = psutil.virtual_memory().available / 1e6
            times = process.cpu_times()
            now = datetime.now(UTC).strftime(_DATE)
            file.write(f"{now}\t{used:.0f}\t{free:.0f}\t{times.user + times.system:.1f}\n")
            file.flush()
            if stop.wait(MEMORY_EVERY_S):
                return
