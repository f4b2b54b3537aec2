"""Progress about twice a second, however often there is something to tell."""

from __future__ import annotations

import time

from lightly_fs.types import Progress, Stage

SECONDS = 0.5


class Heartbeat:
    """Tells `progress` of the stage of selecting; what that raises ends the work."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._started = self._told = time.monotonic()

    def tell(self, done: int, total: int | None, note: str = "") -> None:
        """Say how far the selection is, unless that was said just now."""
        if time.monotonic() - self._told > SECONDS:
            self._told = time.monotonic()
            self._progress(Stage.SELECT, done, total, note)

    def tell_work(self, what: str, done: float, total: float) -> None:
        """Say how much of some work is done, and from the time it took, how much is left."""
        now = time.monotonic()
        if now - self._told <= SECONDS:
            return
        left = (now - self._started) * (total - done) / max(done, 1e-9)
        self.tell(0, None, f"{what}: {done / max(total, 1e-9):.0%}, about {_span(left)} left")


def _span(seconds: float) -> str:
    """Return a time to the precision at which one plans."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
