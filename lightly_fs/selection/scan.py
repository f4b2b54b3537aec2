"""Greedy selection by looking at every candidate at every step: every strategy, any strength.

Slow for many candidates, but the one way where no bound holds: negative strengths of what shrinks,
amounts of classes, sums on their way to a range, several embeddings. A pick is compared with all
candidates in float32; what is measured, and scored again, are those that it comes nearer to. Gains
of representativeness take all candidates to measure one, so they are bounded by what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import representativeness
from lightly_fs.selection.objective import logarithm
from lightly_fs.selection.reach import Reach
from lightly_fs.selection.score import Changing, Score, term
from lightly_fs.selection.weights import SumRange
from lightly_fs.types import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

REFRESHED_AT_ONCE, MOST_REFRESHED_AT_ONCE = 8, 128
"""Gains that are measured at once: more and more, since many at once take less time each."""


class Scan:
    """An engine: `advance` picks one candidate.

    Attributes:
        rows: Picks so far.
        squared: For each pick, its squared distance to what was selected, per `Score.spreads`.
        gains: For each pick, what it added, per `Score.covers`.
    """

    def __init__(self, score: Score, *, compiled: bool, progress: Progress = silent) -> None:
        self.score = score
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []
        self.left = score.able.copy()
        self.changing = [part.fresh() for part in score.changing]
        self.reaches = [Reach(part, compiled=compiled) for part in score.spreads]
        self.terms = [np.empty(len(self.left)) for _ in score.spreads]
        self.settled = score.constant.copy()
        self._settle([np.arange(len(self.left))] * len(self.reaches))
        self.coverage: list[representativeness.Coverage] = []
        for cover in score.covers:
            coverage = representativeness.Coverage(
                cover, compiled=compiled, progress=progress, device=score.device
            )
            self.coverage.append(coverage)

    def advance(self) -> bool:
        """Pick the best candidate; return False when there is none."""
        allowed = self._allowed()
        if not allowed.any():
            return False
        row = self._best_of(allowed)
        self.rows.append(row)
        self.squared.append([float(reach.best[row]) for reach in self.reaches])
        self.gains.append([float(coverage.gains[row]) for coverage in self.coverage])
        self.left[row] = False
        for part in self.changing:
            part.add(row)
        self._settle([reach.show(row) for reach in self.reaches])
        for coverage in self.coverage:
            coverage.show(row)
        return True

    def _allowed(self) -> NDArray[np.bool_]:
        allowed = self.left.copy()
        for reach in self.reaches:
            least = reach.spread.strategy.minimum_distance
            if least > 0:
                allowed &= np.sqrt(reach.best) >= least
        for changing in self.changing:
            if isinstance(changing, SumRange):
                allowed &= changing.allows()
        return allowed

    def _best_of(self, allowed: NDArray[np.bool_]) -> int:
        added = self._changing_part()
        at_once = REFRESHED_AT_ONCE
        while True:
            keys = self._keys()
            scores = np.where(allowed, keys + added, -np.inf)
            ties = np.flatnonzero(scores == scores.max())
            stale = [c for c in self.coverage if not c.fresh[ties].all()]
            if not stale:
                return champion(ties, keys, self.score.groups)
            for coverage in stale:
                waiting = np.where(coverage.fresh, -np.inf, scores)
                coverage.refresh(_largest(waiting, at_once))
            at_once = min(2 * at_once, MOST_REFRESHED_AT_ONCE)

    def _settle(self, changed: list[NDArray[np.int64]]) -> None:
        """Bring constant part + diversities up to date; `changed` are the rows per spread."""
        if not changed:
            return
        if self.score.by_distance:
            (reach,), (rows,) = self.reaches, changed
            if len(rows):
                squared = reach.best if reach.started else reach.from_mean()
                self.settled[rows] = squared[rows]
            return
        for part, reach, rows in zip(self.terms, self.reaches, changed, strict=True):
            if len(rows):
                found = reach.objectives(rows)
                part[rows] = reach.spread.strategy.strength * logarithm(found)
        every = np.concatenate(changed) if len(changed) > 1 else changed[0]
        keys = self.score.constant[every]
        for part in self.terms:
            keys += part[every]
        self.settled[every] = keys

    def _keys(self) -> NDArray[np.float64]:
        """Return constant + shrinking parts: bounds where representativeness is not fresh."""
        if self.score.by_gain:
            return self.coverage[0].gains
        if not self.coverage:
            return self.settled
        keys = self.settled.copy()
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


def _largest(values: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """Return the rows of the largest values, -inf excepted."""
    size = min(size, len(values))
    rows = np.argpartition(-values, size - 1)[:size]
    largest: NDArray[np.int64] = rows[values[rows] > -np.inf]
    return largest
