"""`REPRESENTATIVENESS`: prefer samples that stand for many which nothing selected stands for.

Facility location (Mirchandani & Francis 1990; for data subsets Lin & Bilmes, *Learning Mixtures of
Submodular Shells*, UAI 2012): the value of a selection is the sum over all candidates of their
similarity (1 + cos) / 2 to the selected sample most like them, and the objective of a candidate is
what it would add, per candidate. Such gains only shrink, so an old one bounds the new one and only
candidates whose old gain reaches the top are measured again (Minoux 1978). In large pools every
pick lowers all bounds by products in float32 with the samples that it came nearer to, fewer with
every pick. The greedy selection is worth at least 63 % of the best one (Nemhauser, Wolsey & Fisher
1978).

Similarities are multiples of 2^-30: their sums are exact in any order, up to 8 million samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import slack, squared_distances, squared_lengths
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.selection.nearest import ToNearest
from lightly_fs.selection.objective import rounded
from lightly_fs.types import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.gain_bounds import GainBounds
    from lightly_fs.selection.score import Cover

GRID = 2.0**30
REMEMBERED_BYTES = 64 << 20


def objectives(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) gains per candidate, in [1e-6, 1]."""
    return rounded(gains / len(gains))


class Coverage:
    """How well each candidate is stood for, and what each would add.

    Attributes:
        gains: (N,) upper bounds of what each would add, exact where `fresh`.
        fresh: (N,) bool.
    """

    def __init__(
        self,
        cover: Cover,
        *,
        compiled: bool,
        progress: Progress = silent,
        device: str = "cpu",
    ) -> None:
        self.vectors = cover.vectors
        self.squared_largest = cover.largest * cover.largest
        self.reach = ToNearest(cover.vectors, compiled=compiled)
        self.best = self.reach.best
        self.norms = squared_lengths(cover.vectors)
        self.progress = progress
        self.remembered: dict[int, NDArray[np.float64]] = {}
        self.bounds: GainBounds | None = None
        if compiled:
            from lightly_fs.selection.gain_bounds import GainBounds

            self.bounds = GainBounds(cover.vectors, self.norms, self.squared_largest, device)
        self.gains = self._first_bounds()
        self.fresh = np.zeros(len(self.vectors), np.bool_)
        if len(cover.preselected):
            self.reach.show_all(cover.preselected)
            self._count(np.full(len(self.best), np.inf))

    def _first_bounds(self) -> NDArray[np.float64]:
        """Bound Σ_i 1 - |x_i - x|² / L², which needs only the sum of the vectors."""
        count = len(self.vectors)
        total = np.add.reduce(self.vectors, axis=0, dtype=np.float64)
        lengths, products = np.empty(count), np.empty(count)
        for start in range(0, count, 4096):
            part = self.vectors[start : start + 4096].astype(np.float64)
            lengths[start : start + 4096] = np.einsum("nd,nd->n", part, part)
            products[start : start + 4096] = part @ total
        squared = count * lengths + lengths.sum() - 2.0 * products
        off = 2.0 * slack(self.vectors.shape[1] + count, 53)  # the sum has as many terms
        off = off * (count * lengths + lengths.sum()) + 1e-30
        # A pair farther apart than L adds nothing, where the formula subtracts.
        farthest = np.sqrt(lengths) + np.sqrt(lengths.max(initial=0.0))
        beyond = np.maximum(np.square(farthest) * (1 + 1e-12) / self.squared_largest - 1.0, 0.0)
        most: NDArray[np.float64] = count * (1.0 + beyond + 2.0 / GRID) - (
            (squared - off) / self.squared_largest
        )
        return most

    def similarity(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return similarities on the grid."""
        raw = np.maximum(1.0 - squared / self.squared_largest, 0.0)
        grid: NDArray[np.float64] = np.floor(raw * GRID + 0.5) / GRID
        return grid

    def refresh(self, rows: NDArray[np.int64]) -> None:
        """Measure the gains of these rows."""
        if self.bounds is None:
            covered = self.similarity(self.best)
            for row in rows:
                self.gains[row] = np.maximum(self._near(int(row)) - covered, 0.0).sum()
        else:
            self.gains[rows] = self.bounds.measure(rows, self.best)
        self.fresh[rows] = True

    def _near(self, row: int) -> NDArray[np.float64]:
        """Return (N,) similarities to a row, kept for the next time while there is room."""
        near = self.remembered.get(row)
        if near is None:
            near = self.similarity(squared_distances(self.reach.lanes, self.vectors[row]))
            if (len(self.remembered) + 1) * near.nbytes <= REMEMBERED_BYTES:
                self.remembered[row] = near
        return near

    def show(self, row: int) -> None:
        """Count a pick."""
        before = self.best.copy()
        self.reach.show(row)
        self._count(before)

    def _count(self, before: NDArray[np.float64]) -> None:
        """Take note of what has become nearer than it was `before`."""
        nearer = np.flatnonzero(self.best < before)
        self.fresh[:] = False
        if self.bounds is not None:
            similarities = self.similarity(before[nearer]), self.similarity(self.best[nearer])
            self.bounds.lower(self.gains, nearer, similarities, Heartbeat(self.progress))
