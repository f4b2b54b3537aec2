"""Scored selection with one diversity, exact and lazy. Importing this module imports numba.

As `lazy`, with scores for distances. A distance to some of the picks bounds the one to all from
above, so it bounds the key (constant + diversity) too; what the balances add is the same for all
candidates of a group and changes at every pick. So bounds are compared within groups: take the
candidates with the largest bounds, remember the best bound outside per group, bring the taken ones
up to date, and pick as long as the best score among them beats every group's best outside.

A candidate with objects is worth as much as its most diverse object, so its objects compete in its
place, each with its constant part and group: the best object is one of the best candidate. Picking
it picks all objects of that candidate. One without objects has a row that is 0 from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import diversity, group_kernels, kernels, queue_kernels
from lightly_fs.selection.balance import LabelBalance
from lightly_fs.selection.distances import slack, squared_lengths
from lightly_fs.selection.lazy import CENTRES_AT_ONCE, PICKS_AT_ONCE, block_rows
from lightly_fs.selection.nearest import Nearest
from lightly_fs.selection.objective import logarithm
from lightly_fs.selection.objects import largest_of, ownership
from lightly_fs.selection.pool import members_of
from lightly_fs.selection.products import Compares, Factors, compare, comparisons_for, rounding_pays
from lightly_fs.selection.scan import champion
from lightly_fs.selection.score import TERMS_AT_ONCE
from lightly_fs.workers import Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.score import Score


class Blocks:
    """An engine: `advance` makes up to a thousand picks. Its attributes are those of `Scan`.

    Attributes:
        owned: Which candidate each of R rows belongs to: its own, or those of its objects.
        best: (R,) float64 squared distance to the nearest centre seen; -1 for what is out.
        keys: (R,) constant + diversity by `best`, so upper bounds; -inf for what is out.
        seen: (R,) how many of the centres `best` takes into account.
        centres: Vectors of the picks, in order; preselected ones come before them.
    """

    def __init__(self, score: Score) -> None:
        (self.spread,) = score.spreads
        self.score = score
        self.vectors = self.spread.vectors
        self.norms = squared_lengths(self.vectors)
        self.block = block_rows(*self.vectors.shape)
        self.owned = ownership(len(score.constant), self.spread.offsets)
        strategy = self.spread.strategy
        self.scale = group_kernels.Scale(
            0.0 if score.by_distance else self.spread.largest,
            float(strategy.strength),
            float(strategy.minimum_distance),
        )
        self.members = queue_kernels.Members(
            self.vectors,
            self.norms,
            self.owned.offsets,
            slack(self.vectors.shape[1]),
            PICKS_AT_ONCE,
        )
        given = squared_lengths(self.spread.preselected)
        most = max(float(self.norms.max()), float(given.max(initial=0)))
        n_centres = len(self.spread.preselected) + score.limit
        rounding = rounding_pays(self.vectors.size * n_centres, most)
        self.workers = Workers(
            comparisons_for(self.vectors.shape[1], rounding=rounding, n_centres=CENTRES_AT_ONCE)
        )
        self.balances = _balances(score)
        n_groups = len(self.balances.members)
        self.offsets = np.zeros(n_groups)
        self.edges = group_kernels.Edges(np.empty(n_groups), np.empty(n_groups, np.int64))
        self.able = score.able.copy()
        self.constant = self.owned.spread(score.constant)
        self.groups = self.owned.spread(score.groups)
        self.best = np.where(self.owned.spread(score.able), np.inf, -1.0)
        outside = self.best[len(self.vectors) :]
        outside[outside > 0] = 0.0
        self.keys = np.empty(len(self.best))
        group_kernels.set_keys(self.keys, self.constant, self.best, self.scale)
        self.seen = np.zeros(len(self.best), np.int64)
        self.centres: list[int] = []
        self.first_keys: NDArray[np.float64] | None = None
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []

    def advance(self) -> bool:
        """Pick; return False when nothing is left."""
        if not self.centres and not len(self.spread.preselected):
            return self._pick_first()
        while True:
            rows = self._take()
            if not len(rows):
                return False
            if self._pick_among(self._update(rows)):
                return True

    def _pick_first(self) -> bool:
        """Pick by the distance to the mean: nothing, or nothing with objects, is selected."""
        if self.first_keys is None:
            self.first_keys = self._keys_by_mean()
        if not self.able.any():
            return False
        group_kernels.set_offsets(self.balances, self.offsets)
        scores = self.first_keys + self.offsets[self.score.groups]
        scores[~self.able] = -np.inf
        ties = np.flatnonzero(scores == scores.max())
        first = champion(ties, self.first_keys, self.score.groups)
        started = self.owned.has_objects(first)
        self.squared.append([np.inf if started else 0.0])
        self._count(np.array([first]))
        group_kernels.count_pick(self.balances, int(self.score.groups[first]))
        if started:
            self.first_keys = None
            for row in self.centres:
                kernels.come_nearer(
                    self.vectors, self.norms, self.vectors[row], self.best, self.members.error
                )
            self.seen[:] = len(self.centres)
            group_kernels.set_keys(self.keys, self.constant, self.best, self.scale)
        return True

    def _keys_by_mean(self) -> NDArray[np.float64]:
        """Return the (N,) keys of candidates while nothing is selected."""
        total = np.add.reduce(self.vectors, axis=0, dtype=np.float64)
        squared = kernels.distances_from_mean(self.vectors, total)
        if not self.owned.single:
            squared = largest_of(squared, self.owned.offsets)
            if self.scale.min_distance > 0:
                self.able &= np.diff(self.owned.offsets) > 0
        if self.score.by_distance:
            return squared
        keys = self.score.constant.copy()
        for start in range(0, len(keys), TERMS_AT_ONCE):
            part = slice(start, start + TERMS_AT_ONCE)
            found = diversity.objectives(squared[part], self.scale.largest * len(self.vectors))
            keys[part] += self.scale.strength * logarithm(found)
        return keys

    def _count(self, candidates: NDArray[np.int64]) -> None:
        """Take candidates out, and their vectors among the centres."""
        self.rows += candidates.tolist()
        rows = self.owned.rows(candidates)
        self.best[rows] = -1
        self.keys[rows] = -np.inf
        self.able[candidates] = False
        self.centres += rows[rows < len(self.vectors)].tolist()

    def _take(self) -> NDArray[np.int64]:
        """Return the rows with the largest bounds of their scores; set the edges."""
        live = self.keys > -np.inf
        n_live = int(np.count_nonzero(live))
        if n_live <= self.block:
            self.edges.key[:] = -np.inf
            self.edges.row[:] = len(self.keys)
            return np.flatnonzero(live)
        group_kernels.set_offsets(self.balances, self.offsets)
        scores = self.keys + self.offsets[self.groups]
        edge = np.partition(scores, -self.block)[-self.block]
        inside = scores > edge
        ties = np.flatnonzero(scores == edge)
        inside[ties[: self.block - np.count_nonzero(inside)]] = True
        group_kernels.find_edges(self.keys, self.groups, self.owned.owners, inside, self.edges)
        return np.flatnonzero(inside)

    def _update(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Show the rows the centres they have not seen; return those that lead their group."""
        n_centres = len(self.spread.preselected) + len(self.centres)
        start = int(self.seen[rows].min())
        while start < n_centres and len(rows):
            stop = min(start + CENTRES_AT_ONCE, n_centres)
            stale = rows[self.seen[rows] < stop]
            compare(self.workers, stale, self._centres(start, stop), self._show)
            self.seen[stale] = stop
            rows = rows[self.keys[rows] >= self.edges.key[self.groups[rows]]]
            rows = rows[self.keys[rows] > -np.inf]
            start = stop
        return rows

    def _show(self, comparison: Compares, rows: NDArray[np.int64], factors: Factors) -> None:
        """Bring the distances and keys of rows up to date with the centres."""
        vectors = comparison.gather(self.vectors, self._real(rows))
        block = self._rows(rows, vectors)
        comparison.see(block, factors)
        keys = np.empty(len(rows))
        group_kernels.set_keys(keys, self.constant[rows], block.best, self.scale)
        self.best[rows] = block.best
        self.keys[rows] = keys

    def _pick_among(self, fresh: NDArray[np.int64]) -> int:
        rows = self._rows(fresh, self.vectors[self._real(fresh)])
        block = queue_kernels.Block(
            self.constant[fresh],
            self.keys[fresh],
            self.groups[fresh],
            self.owned.owners[fresh],
            np.zeros(len(fresh), np.int64),
        )
        per_pick = max(1, len(self.vectors) // len(self.able))
        most = max(1, PICKS_AT_ONCE // per_pick)
        room = np.empty(min(self.score.limit - len(self.rows), most), np.int64)
        made = queue_kernels.pick(
            rows, block, self.edges, self.balances, self.scale, self.members, room
        )
        places = room[:made]
        self.best[fresh] = rows.best
        self.keys[fresh] = block.keys
        self.seen[fresh] += block.seen
        candidates = block.names[places]
        squared = rows.best[places]
        self._measure_objects(candidates, squared)
        self.squared += squared[:, None].tolist()
        self._count(candidates)
        return made

    def _measure_objects(self, candidates: NDArray[np.int64], squared: NDArray[np.float64]) -> None:
        """Bring the distances of picks to the largest of their objects, where keys were equal.

        What leads by its key may be some object of the candidate whose objective was the same after
        rounding; `squared` is updated in place.
        """
        if self.owned.single:
            return
        n_centres = len(self.spread.preselected) + len(self.centres)
        nearest = Nearest(compiled=True)
        for place, candidate in enumerate(candidates):
            members = slice(*self.owned.offsets[candidate : candidate + 2])
            if self.best[members].max(initial=0.0) > squared[place]:
                centres = self._centres(0, n_centres).vectors
                earlier, _ = members_of(self.owned.offsets, candidates[:place])
                centres = np.concatenate([centres, self.vectors[earlier]])
                squared[place] = nearest.squared(self.vectors[members], centres)[0].max()

    def _real(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return whose vectors to take: for a row without one any, as its distance is 0 already."""
        return rows if self.owned.single else np.minimum(rows, len(self.vectors) - 1)

    def _rows(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> kernels.Rows:
        nearest = np.empty(len(rows), np.int64)
        return kernels.Rows(vectors, self.norms[self._real(rows)], self.best[rows], nearest)

    def _centres(self, start: int, stop: int) -> kernels.Centres:
        n_preselected = len(self.spread.preselected)
        given = self.spread.preselected[start : min(stop, n_preselected)]
        picked = self.centres[max(start - n_preselected, 0) : max(stop - n_preselected, 0)]
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
