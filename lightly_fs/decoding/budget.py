"""How much may be held at the same time, over all threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Amounts are held while there is room; one that is larger than everything is held alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        self._changed = threading.Condition()

    def take(self, amount: int) -> None:
        """Wait until `amount` fits; `give` it back from any thread."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + amount <= self._total)
            self._held += amount

    def give(self, amount: int) -> None:
        with self._changed:
            self._held -= amount
            self._changed.notify_all()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        self.take(amount)
        try:
            yield
        finally:
            self.give(amount)


PIXELS = Budget(1 << 28)
"""Pixels that are being decoded in this process: about 4 bytes each, twice while converted."""
