"""Greedy selection where nothing shrinks: groups are sorted once, and picks merge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.balance import LabelBalance
from lightly_fs.selection.objective import clipped, logarithm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.score import Score

PICKS_AT_ONCE = 1024


class Ranked:
    """An engine for constant parts and balances of labels; `advance` makes up to 1,024 picks."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []
        self.balances = Offsets(score)
        rows = np.flatnonzero(score.able)
        order = np.lexsort((rows, -score.constant[rows], score.groups[rows]))
        self.ranking = rows[order]
        counts = np.bincount(score.groups[rows], minlength=len(self.balances.members))
        self.ends = np.cumsum(counts)
        self.heads = np.concatenate([[0], self.ends[:-1]]).astype(np.int64)

    def advance(self) -> bool:
        """Pick; return False when nothing is left."""
        if len(self.heads) == 1:
            start = len(self.rows)
            self.rows += self.ranking[start : start + PICKS_AT_ONCE].tolist()
            return len(self.rows) > start
        for made in range(PICKS_AT_ONCE):
            left = np.flatnonzero(self.heads < self.ends)
            if not len(left) or len(self.rows) == self.score.limit:
                return made > 0
            heads = self.ranking[self.heads[left]]
            scores = self.score.constant[heads] + self.balances.offsets()[left]
            row = int(heads[scores == scores.max()].min())
            self.rows.append(row)
            self.heads[self.score.groups[row]] += 1
            self.balances.add(row)
        return True


class Offsets:
    """What the balances of labels add to the score of each group, as picks are made."""

    def __init__(self, score: Score) -> None:
        self.parts = [p.fresh() for p in score.changing if isinstance(p, LabelBalance)]
        self.members = np.zeros((1, 0), np.int64) if score.members is None else score.members

    def offsets(self) -> NDArray[np.float64]:
        """Return (groups,) sums of strength · log objective."""
        added = np.zeros(len(self.members))
        for place, part in enumerate(self.parts):
            worth = part.shares.worth()
            added += (part.strength * logarithm(clipped(worth)))[self.members[:, place]]
        return added

    def add(self, row: int) -> None:
        for part in self.parts:
            part.add(row)
