"""Farthest-first traversal, exact and lazy. Importing this module imports numba.

A scan of all candidates per pick is bound by memory. But distances to the selection only shrink, so
a distance to *some* of the selected samples is an upper bound. Take the candidates with the largest
bounds, bring only them up to date (matrix products with hundreds of centres at once), pick among
them as long as the best of them beats every bound outside, and repeat. The picks are those of a
scan, ties included: the float32 products only decide what need not be measured (see `kernels`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import kernels
from lightly_fs.selection.distances import farthest_from_mean, slack, squared_lengths
from lightly_fs.selection.kcenter import Picks
from lightly_fs.selection.pick_kernels import Rivals, pick
from lightly_fs.selection.products import Compares, Factors, compare, comparisons_for, rounding_pays
from lightly_fs.types import Progress, Stage
from lightly_fs.workers import Workers

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from lightly_fs.selection.candidates import Candidates

CENTRES_AT_ONCE = 256
PICKS_AT_ONCE = 1024
"""Bounds the time in one compiled call to well below half a second, for Ctrl-C."""
BLOCK_BYTES = 32 << 20


def block_rows(count: int, dimensions: int) -> int:
    """Return how many rows to look at together.

    Fewer are brought up to date in vain when the block is small; fewer blocks are drawn from all
    bounds (one pass each) when it is large. Measured best: a 25th, between 4,096 and 32,768.
    """
    fitting = BLOCK_BYTES // (4 * dimensions)
    return max(256, min(fitting, max(4096, min(count // 25, 32_768))))


class Search:
    """Bounds of all candidates, and the centres (preselected samples, then picks) so far.

    Attributes:
        best: (N,) float64 squared distance to the nearest centre seen; -1 for a pick.
        seen: (N,) int64 how many of the centres, in order, `best` takes into account.
    """

    def __init__(self, candidates: Candidates, device: torch.device | None = None) -> None:
        self.candidates = candidates
        self.vectors = candidates.vectors
        self.norms = squared_lengths(self.vectors)
        self.error = slack(self.vectors.shape[1])
        self.block = block_rows(*self.vectors.shape)
        self.best = np.full(len(self.vectors), np.inf)
        self.seen = np.zeros(len(self.vectors), np.int64)
        self.comparisons = comparisons_for(
            self.vectors.shape[1],
            rounding=self._rounding_pays(),
            device=device,
            n_centres=CENTRES_AT_ONCE,
        )
        self.picks = np.empty(candidates.limit, np.int64)
        self.squared = np.empty(candidates.limit)
        self.made = 0

    def _rounding_pays(self) -> bool:
        preselected = self.candidates.preselected
        norm = max(float(self.norms.max()), float(squared_lengths(preselected).max(initial=0)))
        n_centres = len(preselected) + self.candidates.limit
        return rounding_pays(self.vectors.size * n_centres, norm)

    def run(self, progress: Progress) -> Picks:
        with Workers(self.comparisons) as self.workers:
            return self._run(progress)

    def _run(self, progress: Progress) -> Picks:
        if not len(self.candidates.preselected):
            self._pick_first()
        told = time.monotonic()
        while self.made < self.candidates.limit:
            if np.sqrt(max(self.best.max(), 0)) < self.candidates.min_distance:
                break
            self._pick_block()
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                progress(Stage.SELECT, self.made, self.candidates.limit)
        return Picks(self.picks[: self.made], self.squared[: self.made])

    def _pick_first(self) -> None:
        first = farthest_from_mean(self.vectors)
        self.picks[0], self.squared[0], self.made = first, np.inf, 1
        self.best = kernels.distances_to(self.vectors, self.vectors[first])
        self.seen[:] = 1
        self.best[first] = -1

    def _pick_block(self) -> None:
        """Bring the rows with the largest bounds up to date and pick among them."""
        rows, rivals = self._largest(self.block)
        fresh = self._update(rows, rivals)
        block = self._rows(fresh, self.vectors[fresh])
        seen = self.seen[fresh]
        room = np.empty(min(self.candidates.limit - self.made, PICKS_AT_ONCE), np.int64)
        squared = np.empty(len(room))
        made = pick(block, fresh, seen, rivals, room, squared, self.error)
        self.picks[self.made : self.made + made] = fresh[room[:made]]
        self.squared[self.made : self.made + made] = squared[:made]
        self.best[fresh] = block.best
        self.seen[fresh] = seen
        self.best[self.picks[self.made : self.made + made]] = -1
        self.made += made

    def _largest(self, size: int) -> tuple[NDArray[np.int64], Rivals]:
        """Return the `size` rows that come first by bound, then index; and what is outside."""
        smallest = self.candidates.min_distance
        n_left = len(self.best) - self.made
        if n_left <= size:
            return np.flatnonzero(self.best >= 0), Rivals(0.0, len(self.best), smallest)
        edge = float(np.partition(self.best, -size)[-size])
        above = np.flatnonzero(self.best > edge)
        ties = np.flatnonzero(self.best == edge)
        taken = size - len(above)
        outside = int(ties[taken]) if taken < len(ties) else len(self.best)
        return (
            np.concatenate([above, ties[:taken]]),
            Rivals(edge, outside, smallest),
        )

    def _rows(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> kernels.Rows:
        nearest = np.empty(len(rows), np.int64)
        return kernels.Rows(vectors, self.norms[rows], self.best[rows], nearest)

    def _see(self, rows: NDArray[np.int64], centres: kernels.Centres) -> None:
        def see(comparison: Compares, some: NDArray[np.int64], factors: Factors) -> None:
            block = self._rows(some, comparison.gather(self.vectors, some))
            comparison.see(block, factors)
            self.best[some] = block.best

        compare(self.workers, rows, centres, see)

    def _update(self, rows: NDArray[np.int64], rivals: Rivals) -> NDArray[np.int64]:
        """Show the rows the centres they have not seen; return those that still beat the rivals."""
        n_centres = len(self.candidates.preselected) + self.made
        start = int(self.seen[rows].min())
        while start < n_centres and len(rows):
            stop = min(start + CENTRES_AT_ONCE, n_centres)
            stale = rows[self.seen[rows] < stop]
            self._see(stale, self._centres(start, stop))
            self.seen[stale] = stop
            rows = rows[self.best[rows] >= rivals.squared]
            start = stop
        return rows

    def _centres(self, start: int, stop: int) -> kernels.Centres:
        n_preselected = len(self.candidates.preselected)
        given = self.candidates.preselected[start : min(stop, n_preselected)]
        picked = self.picks[max(start - n_preselected, 0) : max(stop - n_preselected, 0)]
        vectors = np.concatenate([given, self.vectors[picked]])
        return kernels.Centres(vectors, squared_lengths(vectors), start)
