"""Is the file broken, or the system? Ask for something that is known to work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from lightly_fs.types import Clock, Sample

_TRIED = 8
_UNANSWERED = 2


class Vitals:
    """Tells whether storage answers at all, from the samples that were read and from probes.

    A refusal of one sample is the sample's fault only if another one can be read *after* it.
    Concurrent doubts share one probe: its answer counts for everybody who doubted before it began.
    """

    def __init__(
        self,
        probe: Callable[[Sample], bool | None],
        *,
        elsewhere: Callable[[Sample], Iterable[Sample]] = lambda _: (),
        clock: Clock = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            probe: Reads a sample in one attempt; whether that worked, None when nobody can tell.
            elsewhere: Names samples far from one, to be tried when no other is known.
            clock: Seconds.
        """
        self._probe, self._elsewhere, self._clock = probe, elsewhere, clock
        self._lock = threading.Lock()
        self._proved = self._disproved = float("-inf")
        self._silent_since: float | None = None
        self._good: Sample | None = None
        self._candidates: tuple[Sample, ...] = ()

    def expect(self, samples: Iterable[Sample]) -> None:
        """Name samples to probe as long as none could be read yet."""
        self._candidates = tuple(samples)[:_TRIED]

    def expect_also(self, sample: Sample) -> None:
        """Name one more; the oldest is forgotten."""
        self._candidates = (*self._candidates, sample)[-_TRIED:]

    def good(self, sample: Sample, started: float) -> None:
        """Take note of a sample that could be read by a request that began at `started`."""
        self._silent_since = None
        self._proved = max(self._proved, started)
        if sample.size > 0:  # an empty object reads the same when nothing works
            self._good = sample

    def bad(self) -> None:
        """Take note of a request that storage did not answer."""
        if self._silent_since is None:
            self._silent_since = self._clock()

    @property
    def silent_s(self) -> float:
        """Seconds since the first request went wrong after which none went right."""
        since = self._silent_since
        return 0.0 if since is None else self._clock() - since

    def alive(self, since: float, *, suspect: Sample) -> bool | None:
        """Tell whether anything but `suspect` can be read at a moment after `since`.

        Args:
            since: When the doubt arose: a request that was sent before proves nothing.
            suspect: The sample in doubt.

        Returns:
            True or False, or None when storage gives no answer to that either.
        """
        with self._lock:
            if self._proved > since:
                return True
            if self._disproved > since:
                return False
            started = self._clock()
            unanswered = 0
            for sample in self._others(suspect):
                answer = self._probe(sample)
                if answer:
                    self.good(sample, started)
                    return True
                unanswered += answer is None
                if unanswered == _UNANSWERED:  # each may have cost a whole timeout
                    break
            if unanswered:
                return None
            self._disproved = started
            return False

    def _others(self, suspect: Sample) -> Iterable[Sample]:
        good = self._good
        if good is not None and good != suspect:
            yield good
            return
        yield from (sample for sample in self._candidates if sample != suspect)
        yield from self._elsewhere(suspect)
