"""Gains of representativeness, measured and bounded by products. Importing this imports numba."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lightly_fs.cpus import usable_cpus
from lightly_fs.selection import kernels
from lightly_fs.selection.device import (
    NO_MEMORY,
    DeviceBounds,
    DeviceMemoryError,
    find_device,
)
from lightly_fs.selection.distances import slack
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.workers import Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

ROWS_AT_ONCE = 4096
TILE_ROWS, TILE_COLUMNS = 256, 1024
"""Products that stay in the cache."""
COLUMNS_AT_ONCE, COLUMNS_OF_A_THREAD = 65_536, 4096
PAIRS_PER_THREAD = 1 << 22
"""Fewer are looked at sooner than threads are started."""


class GainBounds:
    """N samples, how near the selection is to each, and what each would add.

    Attributes:
        vectors: (N, D) float32.
        norms: (N,) float32 squared lengths.
        squared_largest: The squared distance at which similarity is 0.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        norms: NDArray[np.float32],
        squared_largest: float,
        device: str,
    ) -> None:
        self.vectors, self.norms, self.squared_largest = vectors, norms, squared_largest
        self._error = slack(vectors.shape[1])
        self._cpus = usable_cpus()
        self._device: DeviceBounds | None = None
        self._where = find_device(device)
        if self._where is not None:
            try:
                self._device = DeviceBounds(vectors, self._where)
            except DeviceMemoryError:
                self._without_device()

    def measure(self, rows: NDArray[np.int64], best: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (R,) gains of rows, exact in any order of summation; `best` (N,) as it is now."""
        chosen = kernels.Centres(self.vectors[rows], self.norms[rows], 0)

        def add(_: None, part: slice) -> NDArray[np.float64]:
            gains = np.zeros(len(rows))
            vectors, norms = self.vectors[part], self.norms[part]
            covered = kernels.Covered(vectors, norms, best[part], self.squared_largest)
            products = chosen.vectors @ vectors.T
            kernels.add_gains(chosen, covered, products, self._error, gains)
            return gains

        total = np.zeros(len(rows))
        for gains in self._each_part(add, len(rows)):
            total += gains
        return total

    def lower(
        self,
        gains: NDArray[np.float64],
        nearer: NDArray[np.int64],
        similarities: tuple[NDArray[np.float64], NDArray[np.float64]],
        heartbeat: Heartbeat,
    ) -> None:
        """Lower (N,) bounds of gains by what they surely lose.

        Args:
            gains: Updated in place.
            nearer: (R,) samples that the last pick came nearer to.
            similarities: (R,) theirs to the selection before that and now.
            heartbeat: Told how far it is.
        """
        before, now = similarities
        for start in range(0, len(nearer), ROWS_AT_ONCE):
            heartbeat.tell_work("representativeness", start, len(nearer))
            part = slice(start, start + ROWS_AT_ONCE)
            chosen = kernels.Centres(self.vectors[nearer[part]], self.norms[nearer[part]], 0)
            lost = self._lost(chosen, before[part], now[part])
            if lost is None:
                self._lower(gains, chosen, before[part], now[part])
            else:
                gains -= lost

    def _lower(
        self,
        gains: NDArray[np.float64],
        chosen: kernels.Centres,
        before: NDArray[np.float64],
        now: NDArray[np.float64],
    ) -> None:
        scale = self._error, self.squared_largest

        def lower(_: None, part: slice) -> None:
            for first in range(part.start, part.stop, TILE_COLUMNS):
                columns = slice(first, min(first + TILE_COLUMNS, part.stop))
                candidates = self.norms[columns], gains[columns]
                others = self.vectors[columns].T
                for start in range(0, len(before), TILE_ROWS):
                    rows = slice(start, start + TILE_ROWS)
                    nearer = kernels.Centres(chosen.vectors[rows], chosen.norms[rows], 0)
                    similarities = before[rows], now[rows]
                    products = nearer.vectors @ others
                    kernels.lower_bounds(nearer, similarities, candidates, products, scale)

        for _ in self._each_part(lower, len(before)):
            pass

    def _lost(
        self, chosen: kernels.Centres, before: NDArray[np.float64], now: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        if self._device is None:
            return None
        try:
            vectors = chosen.vectors.astype(np.float64)
            return self._device.lost(vectors, before, now, self.squared_largest)
        except DeviceMemoryError:
            self._without_device()
            return None

    def _without_device(self) -> None:
        self._device = None
        logger.warning(NO_MEMORY, self._where)

    def _each_part(self, task: Callable[[None, slice], Found], n_rows: int) -> Iterator[Found]:
        """Yield what the task makes of each part of the samples, on as many threads as pay."""
        count = len(self.vectors)
        threads = min(self._cpus, n_rows * count // PAIRS_PER_THREAD)
        size = COLUMNS_AT_ONCE if threads < 2 else COLUMNS_OF_A_THREAD
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        if threads < 2:
            for part in parts:
                yield task(None, part)
            return
        with Workers([None] * threads) as workers:
            yield from workers.each(task, parts)
