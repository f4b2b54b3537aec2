"""Greedy selection by looking at every candidate at every step: every strategy, any strength.

Slow for many candidates, but the one way where no bound holds: negative strengths of what shrinks,
amounts of classes, sums on their way to a range, several embeddings. Gains of representativeness
are the exception: measuring one takes all candidates, so they are bounded by what they were before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import diversity, representativeness
from lightly_fs.selection.distances import from_mean
from lightly_fs.selection.nearest import DistancesTo, Nearest
from lightly_fs.selection.objective import logarithm
from lightly_fs.selection.score import Changing, Score, term
from lightly_fs.selection.weights import SumRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFRESHED_AT_ONCE = 8


class Scan:
    """An engine: `advance` picks one candidate.

    Attributes:
        rows: Picks so far.
        squared: For each pick, its squared distance to what was selected, per `Score.spreads`.
        gains: For each pick, what it added, per `Score.covers`.
    """

    def __init__(self, score: Score, *, compiled: bool) -> None:
        self.score = score
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []
        self.left = score.able.copy()
        self.changing = [part.fresh() for part in score.changing]
        self.distances = [DistancesTo(part.vectors, compiled=compiled) for part in score.spreads]
        self.best = [
            _to_nearest(part.vectors, part.preselected, compiled=compiled) for part in score.spreads
        ]
        self.coverage: list[representativeness.Coverage] = []
        for cover in score.covers:
            coverage = representativeness.Coverage(cover.vectors, cover.largest, compiled=compiled)
            if len(cover.preselected):
                coverage.show(_to_nearest(cover.vectors, cover.preselected, compiled=compiled))
            self.coverage.append(coverage)
        self.cover_distances = [
            DistancesTo(part.vectors, compiled=compiled) for part in score.covers
        ]

    def advance(self) -> bool:
        """Pick the best candidate; return False when there is none."""
        allowed = self._allowed()
        if not allowed.any():
            return False
        row = self._best_of(allowed)
        self.rows.append(row)
        self.squared.append([float(best[row]) for best in self.best])
        self.gains.append([float(coverage.gains[row]) for coverage in self.coverage])
        self.left[row] = False
        for part in self.changing:
            part.add(row)
        for best, distances in zip(self.best, self.distances, strict=True):
            np.minimum(best, distances.squared(row), out=best)
        for coverage, distances in zip(self.coverage, self.cover_distances, strict=True):
            coverage.show(distances.squared(row))
        return True

    def _allowed(self) -> NDArray[np.bool_]:
        allowed = self.left.copy()
        for part, best in zip(self.score.spreads, self.best, strict=True):
            allowed &= np.sqrt(best) >= part.strategy.minimum_distance
        for changing in self.changing:
            if isinstance(changing, SumRange):
                allowed &= changing.allows()
        return allowed

    def _best_of(self, allowed: NDArray[np.bool_]) -> int:
        added = self._changing_part()
        settled = self._settled_part()
        while True:
            keys = self._keys(settled)
            scores = np.where(allowed, keys + added, -np.inf)
            ties = np.flatnonzero(scores == scores.max())
            stale = [c for c in self.coverage if not c.fresh[ties].all()]
            if not stale:
                return champion(ties, keys, self.score.groups)
            for coverage in stale:
                waiting = np.where(coverage.fresh, -np.inf, scores)
                coverage.refresh(_largest(waiting, REFRESHED_AT_ONCE))

    def _settled_part(self) -> NDArray[np.float64]:
        """Return the constant part and the diversities."""
        keys = self.score.constant.copy()
        for part, best in zip(self.score.spreads, self.best, strict=True):
            if self.rows or len(part.preselected):
                found = diversity.objectives(best, part.largest)
            else:
                found = first_objectives(part.vectors, part.largest)
            keys += part.strategy.strength * logarithm(found)
        return keys

    def _keys(self, settled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return constant + shrinking parts: bounds where representativeness is not fresh."""
        if self.score.by_gain:
            return self.coverage[0].gains
        keys = settled.copy()
        for part, coverage in zip(self.score.covers, self.coverage, strict=True):
            if part.strategy.strength < 0:
                coverage.refresh(np.flatnonzero(~coverage.fresh & self.left))
            found = representativeness.objectives(coverage.gains)
            keys += part.strategy.strength * logarithm(found)
        return keys

    def _changing_part(self) -> NDArray[np.float64]:
        added = np.zeros(len(self.left))
        for part in self.changing:
            added += changing_term(part)
        return added


def changing_term(part: Changing) -> NDArray[np.float64]:
    """Return (N,) strength · log objective of a changing part as it is now."""
    return term(part.strength, part.objectives())


def champion(ties: NDArray[np.int64], keys: NDArray[np.float64], groups: NDArray[np.int64]) -> int:
    """Return which of the rows with the largest score is picked."""
    order = np.lexsort((ties, -keys[ties], groups[ties]))
    ordered = ties[order]
    starts = np.flatnonzero(np.diff(groups[ordered], prepend=-1))
    return int(ordered[starts].min())


def first_objectives(vectors: NDArray[np.float32], largest: float) -> NDArray[np.float64]:
    """Return diversity's (N,) objectives when nothing is selected: distances to the mean."""
    return diversity.objectives(from_mean(vectors), largest * len(vectors))


def _to_nearest(
    vectors: NDArray[np.float32], preselected: NDArray[np.float32], *, compiled: bool
) -> NDArray[np.float64]:
    nearest = Nearest(compiled=compiled)
    best = np.empty(len(vectors))
    for start in range(0, len(vectors), 4096):
        part = slice(start, start + 4096)
        best[part] = nearest.squared(vectors[part], preselected)[0]
    return best


def _largest(values: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return the rows of the largest values, -inf excepted."""
    size = min(size, len(values))
    rows = np.argpartition(-values, size - 1)[:size]
    largest: NDArray[np.int64] = rows[values[rows] > -np.inf]
    return largest
