"""Near-duplicate removal: of samples that look alike, keep the first.

Samples are gone through in the order of their names. One is removed when an earlier sample that was
kept lies within the largest distance (L2, between embeddings), and the nearest of those is its
original. So no two kept samples are that near to each other, and every removed one is that near to
one that was kept: the kept ones are the greedy maximal independent set of the graph of near pairs.

Large inputs are divided into cells (see `cells`); a sample is compared, by matrix products, with
those kept samples alone whose cell may hold a near one. What decides is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.errors import ConfigError
from lightly_fs.selection.cells import Cells, cell_count
from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    slack,
    squared_distances,
    squared_lengths,
)
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.selection.pool import check_vectors, name_order
from lightly_fs.types import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection import kernels

BLOCK_ROWS = 4096
ROWS_IN_ORDER = 512
KEPT_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Samples that are near to an earlier one.

    Attributes:
        removed: (K,) int64 rows, ascending.
        original: (K,) int64 row of the nearest earlier sample that was kept; the first by name of
            equally near ones.
        distance: (K,) float32 L2 distances to those.
    """

    removed: NDArray[np.int64]
    original: NDArray[np.int64]
    distance: NDArray[np.float32]


def find_near_duplicates(
    vectors: NDArray[np.float32],
    filenames: Sequence[str],
    *,
    max_distance: float,
    keep_first: NDArray[np.int64] | None = None,
    progress: Progress = silent,
) -> NearDuplicates:
    """Find the samples to remove so that no two are within a distance of each other.

    The result depends on the set of samples alone, not on their order, threads or blocks.

    Args:
        vectors: (N, D) float32, finite; may be a memory-mapped file.
        filenames: N unique names; earlier ones, in code point order (that of UTF-8), are kept.
        max_distance: L2 distance up to which two samples are near, 0 or more.
        keep_first: Rows that come before all others (in the order of their names), such as samples
            that are labelled already. They too are removed when near to an earlier one of them.
        progress: Called about twice a second; an exception raised there ends the search.

    Raises:
        ConfigError: The distance is negative or not a number.
        ModelError: An embedding is not finite.
    """
    if not 0 <= max_distance < math.inf:
        raise ConfigError(
            f"the distance of near duplicates is {max_distance}, not a number of 0 or more",
            hint="embeddings of unit length are between 0 and 2 apart",
        )
    check_vectors(vectors, filenames)
    order = _order(filenames, keep_first)
    if is_small(vectors, len(vectors)):
        found = _scan(vectors, order, max_distance)
    else:
        found = _Search(vectors, order, max_distance, Heartbeat(progress)).run()
    squared, nearest = found
    places = np.flatnonzero(nearest >= 0)
    by_row = np.argsort(order[places])
    places = places[by_row]
    return NearDuplicates(
        order[places], order[nearest[places]], np.sqrt(squared[places]).astype(np.float32)
    )


def _order(filenames: Sequence[str], keep_first: NDArray[np.int64] | None) -> NDArray[np.int64]:
    by_name = name_order(filenames)
    order = np.arange(len(filenames)) if by_name is None else by_name
    if keep_first is None:
        return order
    leads = np.zeros(len(filenames), np.bool_)
    leads[keep_first] = True
    return np.concatenate([order[leads[order]], order[~leads[order]]])


def _scan(
    vectors: NDArray[np.float32], order: NDArray[np.int64], max_distance: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return squared distances and numbers (-1: kept) of the originals, both by place in order."""
    lanes = in_lanes(vectors[order])
    best = np.full(len(order), np.inf)
    nearest = np.full(len(order), -1)
    for place, row in enumerate(order):
        if nearest[place] >= 0:
            continue
        squared = squared_distances(lanes[:, :, place + 1 :], vectors[row])
        nearer = (np.sqrt(squared) <= max_distance) & (squared < best[place + 1 :])
        best[place + 1 :][nearer] = squared[nearer]
        nearest[place + 1 :][nearer] = place
    return best, nearest


class _Search:
    """Goes through the samples in blocks; numbers are places in the order."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        order: NDArray[np.int64],
        max_distance: float,
        heartbeat: Heartbeat,
    ) -> None:
        from lightly_fs.selection import cell_kernels, kernels

        self.kernels, self.cell_kernels = kernels, cell_kernels
        self.vectors, self.order, self.heartbeat = np.asarray(vectors, np.float32), order, heartbeat
        self.limit = cell_kernels.Limit(float(max_distance), slack(vectors.shape[1]))
        self.cells = Cells(self.vectors, cell_count(len(vectors)), heartbeat)
        # Kept samples by cell, each cell with room for all of its own.
        self.kept = np.empty(len(order), np.int64)
        self.n_kept = np.zeros(len(self.cells.starts) - 1, np.int64)

    def run(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        count = len(self.order)
        best = np.full(count, np.nextafter(self.limit.distance, np.inf) ** 2 * (1 + 1e-12) + 1e-300)
        nearest = np.full(count, count)
        for start in range(0, count, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, count))
            vectors = np.ascontiguousarray(self.vectors[self.order[part]])
            rows = self.kernels.Rows(vectors, squared_lengths(vectors), best[part], nearest[part])
            self._compare_with_kept(rows, self.cells.assigned[self.order[part]])
            self._keep(rows, start)
            self.heartbeat.tell_work("near duplicates", part.stop**2, count**2)
        nearest[np.sqrt(best) > self.limit.distance] = -1
        return best, nearest

    def _compare_with_kept(self, rows: kernels.Rows, cell: NDArray[np.int64]) -> None:
        """Compare rows with the kept samples of every cell that may hold a near one."""
        estimates = self.cells.estimates(rows.vectors)
        within = np.full(len(cell), self.limit.distance)
        held = np.flatnonzero(self.n_kept)
        for first in range(0, len(held), 256):
            others = held[first : first + 256]
            may_hold = self.cells.may_hold(estimates, cell, within, others)
            for column, other in enumerate(others):
                places = np.flatnonzero(may_hold[:, column])
                if len(places):
                    self._show(rows, places, self._kept_in(int(other)))

    def _kept_in(self, cell: int) -> NDArray[np.int64]:
        start = self.cells.starts[cell]
        return self.kept[start : start + self.n_kept[cell]]

    def _show(self, rows: kernels.Rows, places: NDArray[np.int64], kept: NDArray[np.int64]) -> None:
        mine = rows.vectors[places]
        for start in range(0, len(kept), KEPT_AT_ONCE):
            numbers = kept[start : start + KEPT_AT_ONCE]
            vectors = self.vectors[self.order[numbers]]
            centres = self.kernels.Centres(vectors, squared_lengths(vectors), 0)
            products = mine @ vectors.T
            self.cell_kernels.show_kept(rows, places, centres, numbers, products, self.limit)

    def _keep(self, rows: kernels.Rows, start: int) -> None:
        """Decide row by row, each after those before it in the block."""
        mine = np.empty(0, np.int64)
        for first in range(0, len(rows.norms), ROWS_IN_ORDER):
            part = slice(first, first + ROWS_IN_ORDER)
            some = self.kernels.Rows(
                rows.vectors[part], rows.norms[part], rows.best[part], rows.nearest[part]
            )
            numbers = start + first + np.arange(len(some.norms))
            self._show(some, np.arange(len(numbers)), mine)
            products = some.vectors @ some.vectors.T
            kept = self.cell_kernels.keep_in_order(some, numbers, products, self.limit)
            mine = np.concatenate([mine, numbers[kept]])
        cells = self.cells.assigned[self.order[mine]]
        for cell in np.unique(cells):
            added = mine[cells == cell]
            place = self.cells.starts[cell] + self.n_kept[cell]
            self.kept[place : place + len(added)] = added
            self.n_kept[cell] += len(added)
