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
from lightly_fs.workers import Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

CENTRES_AT_ONCE = 1024
ROWS_AT_ONCE = 4096


def covering_distances(
    vectors: NDArray[np.float32], selected_vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return how far each sample is from the selection, and from which selected sample.

    By as many threads as there are processors, in bfloat16 where that is faster: the distances of
    pairs that may be the nearest are measured again, so that the result depends on neither.

    Args:
        vectors: (N, D) float32.
        selected_vectors: (K, D) float32.

    Returns:
        (N,) float32 L2 distances and (N,) int64 rows of the nearest selected sample, the lowest of
        equally near ones; inf and -1 when nothing is selected.
    """
    if is_small(vectors, len(selected_vectors)):
        squared, rows = Nearest(compiled=False).squared(vectors, selected_vectors)
    else:
        squared, rows = _by_tiles(vectors, selected_vectors)
    return np.sqrt(squared).astype(np.float32), rows


def _by_tiles(
    vectors: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from lightly_fs.selection import kernels, products

    vectors = np.ascontiguousarray(vectors)
    norms, theirs = squared_lengths(vectors), squared_lengths(centres)
    best, nearest = np.full(len(vectors), np.inf), np.full(len(vectors), -1)

    def see(
        comparison: products.Compares, rows: NDArray[np.int64], factors: products.Factors
    ) -> None:
        part = slice(rows[0], rows[-1] + 1)
        block = kernels.Rows(vectors[part], norms[part], best[part], nearest[part])
        comparison.see(block, factors)

    largest = max(float(norms.max()), float(theirs.max(initial=0)))
    rounding = products.rounding_pays(vectors.size * len(centres), largest)
    every, at_once = np.arange(len(vectors)), products.CENTRES_AT_ONCE
    with Workers(products.comparisons_for(vectors.shape[1], rounding=rounding)) as workers:
        for first in range(0, len(centres), at_once):
            part = slice(first, first + at_once)
            some = kernels.Centres(np.ascontiguousarray(centres[part]), theirs[part], first)
            products.compare(workers, every, some, see)
    return best, nearest


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
