"""Cells of the embedding space, to tell exactly where no near sample can be.

Every sample belongs to the nearest of some pivots (from a few rounds of k-means; any would do). For
a sample x of cell A, a sample y of cell B and f(z) = |z - b|² - |z - a|², f(y) <= 0 and
|f(x) - f(y)| <= 2 |a - b| |x - y|. So nothing in B is within t of x when f(x) > 2 |a - b| t: x is
farther than t from the hyperplane between the pivots. Nor when x is farther than t from the ball of
B. Both hold for estimates in float32 with their `slack` added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import slack, squared_lengths
from lightly_fs.selection.heartbeat import Heartbeat

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE = 8192
ROUNDS = 4
SAMPLED_PER_CELL = 64
MOST_CELLS = 2048


def cell_count(count: int) -> int:
    """Return how many cells to make: with 500 samples each, at most 2,048."""
    return max(1, min(count // 500, MOST_CELLS))


class Cells:
    """A partition of (N, D) vectors.

    Attributes:
        assigned: (N,) int64 cell of each sample.
        own: (N,) float32 estimated squared distance to the pivot of that cell.
        rows: (N,) int64 samples by cell, ascending within each.
        starts: (C + 1,) int64 where the cells begin in `rows`.
        apart: (C, C) float32 upper bounds of the distances between pivots.
    """

    def __init__(self, vectors: NDArray[np.float32], count: int, heartbeat: Heartbeat) -> None:
        self.pivots = _pivots(vectors, count)
        self.norms = squared_lengths(self.pivots)
        longest = 0.0
        self.assigned = np.empty(len(vectors), np.int64)
        self.own = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            squared = self.estimates(vectors[part])
            self.assigned[part] = squared.argmin(axis=1)
            self.own[part] = squared.min(axis=1)
            longest = max(longest, float(squared_lengths(vectors[part]).max()))
            heartbeat.tell(0, None, f"cells of {start:,} samples")
        # Twice the error of an estimate: what float32 rounds in the comparisons is far less.
        self.error = 2.0 * slack(vectors.shape[1]) * (longest + float(self.norms.max())) + 1e-36
        self.rows = np.argsort(self.assigned, kind="stable")
        sizes = np.bincount(self.assigned, minlength=len(self.pivots))
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        farthest = np.zeros(len(self.pivots))
        np.maximum.at(farthest, self.assigned, self.own)
        self.radii = (np.sqrt(farthest + self.error) * (1 + 1e-5)).astype(np.float32)
        exact = self.pivots.astype(np.float64)
        lengths = np.einsum("cd,cd->c", exact, exact)
        squared = lengths[:, None] + lengths - 2.0 * (exact @ exact.T)
        bounds = np.sqrt(np.maximum(squared, 0.0) + 1e-9 * float(lengths.max())) * (1 + 1e-5)
        self.apart = bounds.astype(np.float32)

    def members(self, cell: int) -> NDArray[np.int64]:
        """Return the samples of a cell, ascending."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]]

    def estimates(
        self, vectors: NDArray[np.float32], cells: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Return (R, C) squared distances to the pivots, as float32 has them."""
        squared: NDArray[np.float32] = vectors @ self.pivots[cells].T
        squared *= np.float32(-2.0)
        squared += self.norms[cells]
        squared += squared_lengths(vectors)[:, None]
        return squared

    def may_hold(
        self,
        squared: NDArray[np.float32],
        rows: NDArray[np.int64],
        within: NDArray[np.float64],
        others: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Return (R, C) whether a cell may hold a sample within a distance of a row.

        Args:
            squared: (R, C) estimated squared distances of the rows to the cells' pivots.
            rows: (R,) the rows.
            within: (R,) distances; inf for any.
            others: (C,) the cells to tell it of.
        """
        from lightly_fs.selection import cell_kernels

        own, cell = self.own[rows], self.assigned[rows]
        around = cell_kernels.Around(own, cell, within, others, self.apart, self.radii, self.error)
        return cell_kernels.may_hold(squared, around)


def _pivots(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return (C, D) pivots: means of a sample spread evenly over the rows."""
    sampled = np.unique(np.linspace(0, len(vectors) - 1, count * SAMPLED_PER_CELL).astype(np.int64))
    sample = np.ascontiguousarray(vectors[sampled])
    pivots = sample[np.linspace(0, len(sample) - 1, count).astype(np.int64)]
    for _ in range(ROUNDS):
        nearest = np.empty(len(sample), np.int64)
        for start in range(0, len(sample), ROWS_AT_ONCE):
            part = sample[start : start + ROWS_AT_ONCE]
            score = squared_lengths(pivots) - 2 * (part @ pivots.T)
            nearest[start : start + ROWS_AT_ONCE] = score.argmin(axis=1)
        sizes = np.bincount(nearest, minlength=count)
        order = np.argsort(nearest, kind="stable")
        held = sizes > 0
        firsts = (np.cumsum(sizes) - sizes)[held]
        sums = np.add.reduceat(sample[order], firsts, axis=0)
        pivots[held] = sums / sizes[held][:, None]
    return pivots
