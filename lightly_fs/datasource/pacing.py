"""How many requests at once, how long to wait, and when a second one is worth its cost."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_SLOWER = 0.5
_HEDGE_FLOOR_S = 2.0
_HEDGE_FACTOR = 1.5
_REMEMBERED = 512


class Pacer:
    """Additive increase, multiplicative decrease of the requests in flight (TCP's rule).

    Starts at `start`, gains one per answer until the store first says that it is busy, from then
    on one per round of answers. A refusal halves the limit, once per round: a request sent before
    the last halving says nothing new (RFC 6582 has the same rule for losses).
    """

    def __init__(self, *, start: int = 32, most: int = 96, least: int = 2) -> None:
        self._limit, self._most, self._least = float(start), most, least
        self._active = 0
        self._round = 0  # how often the limit was halved
        self._room = threading.Condition()

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait until one more request may be in flight; gives the round it belongs to."""
        with self._room:
            while self._active >= int(self._limit):
                self._room.wait()
            self._active += 1
            sent = self._round
        try:
            yield sent
        finally:
            with self._room:
                self._active -= 1
                self._room.notify()

    def answered(self) -> None:
        """Take note of an answer: a little more is possible."""
        if self._limit >= self._most:
            return
        with self._room:
            gain = 1.0 / self._limit if self._round else 1.0
            self._limit = min(float(self._most), self._limit + gain)
            self._room.notify()

    def refused(self, sent: int) -> None:
        """Take note that the store was too busy, or gone, for a request of round `sent`."""
        with self._room:
            if sent == self._round:
                self._limit = max(float(self._least), self._limit * _SLOWER)
                self._round += 1


class Latencies:
    """The last answers' seconds; `hedge_after` says from when on a request is an outlier.

    2 s is the first retry that AWS advises for small objects; 1.5 x p99 keeps a store that is
    always slow from being asked everything twice.
    """

    def __init__(self, *, floor_s: float = _HEDGE_FLOOR_S) -> None:
        self._floor_s = floor_s
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def hedge_after(self) -> float:
        known = sorted(self._seconds.copy())
        if not known:
            return self._floor_s
        return max(self._floor_s, _HEDGE_FACTOR * known[int(0.99 * (len(known) - 1))])


def backoff_s(attempt: int, *, most: float = 4.0) -> float:
    """Return how long to wait after the failed attempt number `attempt`; half of it is chance."""
    return float(min(most, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
