"""The nearest of many selected samples, exact, in blocks of bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    slack,
    squared_distances,
    squared_lengths,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CENTRES_AT_ONCE = 1024
ROWS_AT_ONCE = 4096


def covering_distances(
    vectors: NDArray[np.float32], selected_vectors: NDArray[np.float32], block: int = 4096
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return how far each sample is from the selection, and from which selected sample.

    Args:
        vectors: (N, D) float32.
        selected_vectors: (K, D) float32.
        block: Samples compared at once; decides memory (about 4 KiB each), not the result.

    Returns:
        (N,) float32 L2 distances and (N,) int64 rows of the nearest selected sample, the lowest of
        equally near ones; inf and -1 when nothing is selected.
    """
    nearest = Nearest(compiled=not is_small(vectors, len(selected_vectors)))
    distances = np.empty(len(vectors), np.float32)
    rows = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), block):
        part = slice(start, start + block)
        squared, rows[part] = nearest.squared(vectors[part], selected_vectors)
        distances[part] = np.sqrt(squared)
    return distances, rows


class Nearest:
    """Compares a block of rows with all centres, in numpy or compiled: to the same last bit."""

    def __init__(self, *, compiled: bool) -> None:
        self._compare = _by_products if compiled else _by_scan

    def squared(
        self, rows: NDArray[np.float32], centres: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (R,) squared distances to the nearest centre and its (R,) index."""
        if not len(centres) or not len(rows):
            return np.full(len(rows), np.inf), np.full(len(rows), -1)
        return self._compare(rows, centres)


def _by_scan(
    rows: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    lanes = in_lanes(rows)
    best = np.full(len(rows), np.inf)
    nearest = np.full(len(rows), -1)
    for index, centre in enumerate(centres):
        squared = squared_distances(lanes, centre)
        nearest[squared < best] = index
        np.minimum(best, squared, out=best)
    return best, nearest


def _by_products(
    rows: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from lightly_fs.selection import kernels

    rows = np.ascontiguousarray(rows)
    block = kernels.Rows(
        rows, squared_lengths(rows), np.full(len(rows), np.inf), np.full(len(rows), -1)
    )
    error = slack(rows.shape[1])
    for first in range(0, len(centres), CENTRES_AT_ONCE):
        part = np.ascontiguousarray(centres[first : first + CENTRES_AT_ONCE])
        kernels.see(
            block,
            kernels.Centres(part, squared_lengths(part), first),
            rows @ part.T,
            error,
        )
    return block.best, block.nearest


class ToNearest:
    """Distances of rows to the nearest centre, in numpy or compiled: to the same last bit.

    Attributes:
        best: (N,) float64 squared distances; inf before the first centre.
    """

    def __init__(self, vectors: NDArray[np.float32], *, compiled: bool) -> None:
        self.vectors = vectors
        self.compiled = compiled
        self.best = np.full(len(vectors), np.inf)
        if compiled:
            self.norms = squared_lengths(vectors)
        else:
            self.lanes = in_lanes(vectors)

    def show_all(self, centres: NDArray[np.float32]) -> None:
        """Count many centres."""
        nearest = Nearest(compiled=self.compiled)
        for start in range(0, len(self.vectors), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            squared, _ = nearest.squared(self.vectors[part], centres)
            np.minimum(self.best[part], squared, out=self.best[part])

    def show(self, row: int) -> None:
        """Count one of the rows as a centre."""
        if not self.compiled:
            squared = squared_distances(self.lanes, self.vectors[row])
            np.minimum(self.best, squared, out=self.best)
            return
        from lightly_fs.selection import kernels

        error = slack(self.vectors.shape[1])
        kernels.come_nearer(self.vectors, self.norms, self.vectors[row], self.best, error)
