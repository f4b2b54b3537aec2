"""Scored selection with one diversity, exact and lazy. Importing this module imports numba.

As `lazy`, with scores for distances. A distance to some of the picks bounds the one to all from
above, so it bounds the key (constant + diversity) too; what the balances add is the same for all
candidates of a group and changes at every pick. So bounds are compared within groups: take the
candidates with the largest bounds, remember the best bound outside per group, bring the taken ones
up to date, and pick as long as the best score among them beats every group's best outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import diversity, group_kernels, kernels
from lightly_fs.selection.balance import LabelBalance
from lightly_fs.selection.distances import slack, squared_lengths
from lightly_fs.selection.lazy import CENTRES_AT_ONCE, PICKS_AT_ONCE, block_rows
from lightly_fs.selection.objective import logarithm
from lightly_fs.selection.scan import champion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.score import Score


class Blocks:
    """An engine: `advance` makes up to a thousand picks. Its attributes are those of `Scan`.

    Attributes:
        best: (N,) float64 squared distance to the nearest centre seen; -1 for what is out.
        keys: (N,) constant + diversity by `best`, so upper bounds; -inf for what is out.
        seen: (N,) how many of the centres (preselected, then picks) `best` takes into account.
    """

    def __init__(self, score: Score) -> None:
        (self.spread,) = score.spreads
        self.score = score
        self.vectors = self.spread.vectors
        self.norms = squared_lengths(self.vectors)
        self.error = slack(self.vectors.shape[1])
        self.block = block_rows(*self.vectors.shape)
        strategy = self.spread.strategy
        self.scale = group_kernels.Scale(
            self.spread.largest, float(strategy.strength), float(strategy.minimum_distance)
        )
        self.balances = _balances(score)
        n_groups = len(self.balances.members)
        self.offsets = np.zeros(n_groups)
        self.edges = group_kernels.Edges(np.empty(n_groups), np.empty(n_groups, np.int64))
        self.best = np.where(score.able, np.inf, -1.0)
        self.keys = np.where(score.able, score.constant, -np.inf)
        self.seen = np.zeros(len(self.vectors), np.int64)
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []

    def advance(self) -> bool:
        """Pick; return False when nothing is left."""
        if not self.rows and not len(self.spread.preselected):
            return self._pick_first()
        while True:
            rows = self._take()
            if not len(rows):
                return False
            if self._pick_among(self._update(rows)):
                return True

    def _pick_first(self) -> bool:
        if not self.score.able.any():
            return False
        total = np.add.reduce(self.vectors, axis=0, dtype=np.float64)
        squared = kernels.distances_from_mean(self.vectors, total)
        found = diversity.objectives(squared, self.scale.largest * len(self.vectors))
        keys = self.score.constant + self.scale.strength * logarithm(found)
        group_kernels.set_offsets(self.balances, self.offsets)
        scores = np.where(self.score.able, keys + self.offsets[self.score.groups], -np.inf)
        first = champion(np.flatnonzero(scores == scores.max()), keys, self.score.groups)
        self.rows.append(first)
        self.squared.append([np.inf])
        group_kernels.count_pick(self.balances, int(self.score.groups[first]))
        self.best = kernels.distances_to(self.vectors, self.vectors[first])
        self.best[first] = -1
        self.best[~self.score.able] = -1
        self.seen[:] = 1
        group_kernels.set_keys(self.keys, self.score.constant, self.best, self.scale)
        return True

    def _take(self) -> NDArray[np.int64]:
        """Return the rows with the largest bounds of their scores; set the edges."""
        live = self.keys > -np.inf
        n_live = int(np.count_nonzero(live))
        if n_live <= self.block:
            self.edges.key[:] = -np.inf
            self.edges.row[:] = len(self.keys)
            return np.flatnonzero(live)
        group_kernels.set_offsets(self.balances, self.offsets)
        scores = self.keys + self.offsets[self.score.groups]
        edge = np.partition(scores, -self.block)[-self.block]
        inside = scores > edge
        ties = np.flatnonzero(scores == edge)
        inside[ties[: self.block - np.count_nonzero(inside)]] = True
        group_kernels.find_edges(self.keys, self.score.groups, inside, self.edges)
        return np.flatnonzero(inside)

    def _update(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Show the rows the centres they have not seen; return those that lead their group."""
        n_centres = len(self.spread.preselected) + len(self.rows)
        start = int(self.seen[rows].min())
        while start < n_centres and len(rows):
            stop = min(start + CENTRES_AT_ONCE, n_centres)
            stale = rows[self.seen[rows] < stop]
            block, centres = self._gather(stale), self._centres(start, stop)
            kernels.see(block, centres, block.vectors @ centres.vectors.T, self.error)
            keys = np.empty(len(stale))
            group_kernels.set_keys(keys, self.score.constant[stale], block.best, self.scale)
            self.best[stale] = block.best
            self.keys[stale] = keys
            self.seen[stale] = stop
            rows = rows[self.keys[rows] >= self.edges.key[self.score.groups[rows]]]
            rows = rows[self.keys[rows] > -np.inf]
            start = stop
        return rows

    def _pick_among(self, fresh: NDArray[np.int64]) -> int:
        rows = self._gather(fresh)
        block = group_kernels.Block(
            self.score.constant[fresh],
            self.keys[fresh],
            self.score.groups[fresh],
            fresh,
            self.seen[fresh],
        )
        room = np.empty(min(self.score.limit - len(self.rows), PICKS_AT_ONCE), np.int64)
        made = group_kernels.pick(
            rows, block, self.edges, self.balances, self.scale, room, self.error
        )
        places = room[:made]
        self.rows += fresh[places].tolist()
        self.squared += rows.best[places][:, None].tolist()
        rows.best[places] = -1
        block.keys[places] = -np.inf
        self.best[fresh] = rows.best
        self.keys[fresh] = block.keys
        self.seen[fresh] = block.seen
        return made

    def _gather(self, rows: NDArray[np.int64]) -> kernels.Rows:
        nearest = np.empty(len(rows), np.int64)
        return kernels.Rows(self.vectors[rows], self.norms[rows], self.best[rows], nearest)

    def _centres(self, start: int, stop: int) -> kernels.Centres:
        n_preselected = len(self.spread.preselected)
        given = self.spread.preselected[start : min(stop, n_preselected)]
        picked = self.rows[max(start - n_preselected, 0) : max(stop - n_preselected, 0)]
        vectors = np.concatenate([given, self.vectors[np.array(picked, np.int64)]])
        return kernels.Centres(vectors, squared_lengths(vectors), start)


def _balances(score: Score) -> group_kernels.Balances:
    parts = [part for part in score.changing if isinstance(part, LabelBalance)]
    sizes = [len(part.shares.target) for part in parts]
    none = np.empty(0)
    return group_kernels.Balances(
        target=np.concatenate([none, *(part.shares.target for part in parts)]),
        counts=np.concatenate([none, *(part.shares.counts for part in parts)]),
        occurs=np.concatenate([none, *(part.shares.occurs for part in parts)]).astype(np.bool_),
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        strengths=np.array([part.strength for part in parts], np.float64),
        members=np.zeros((1, 0), np.int64) if score.members is None else score.members,
    )
