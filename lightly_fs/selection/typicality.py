"""`TYPICALITY`: prefer samples in dense regions of the embedding space.

The typicality of TypiClust (Hacohen, Dekel & Weinshall, *Active Learning on a Budget: Opposite
Strategies Suit High and Low Budgets*, ICML 2022) is one over the mean distance to the K nearest
neighbours, t = 1 / d. It has no upper end, so the objective is t / (1 + t) = 1 / (1 + d): the same
order, 1 among identical samples, 1/3 for the loneliest of unit vectors. Longer vectors are measured
in the unit in which the longest has length 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.cells import Cells, cell_count
from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    largest_distance,
    squared_distances,
    squared_lengths,
)
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.types import Progress

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from lightly_fs.selection.products import Compares

ROWS_AT_ONCE = 2048
OTHERS_AT_ONCE = 4096


def objectives(
    vectors: NDArray[np.float32],
    num_nearest_neighbors: int,
    progress: Progress,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Return (N,) typicalities in (0, 1] of (N, D) vectors among themselves.

    They do not depend on the device that makes the products (`device.on_device`). With no more
    than `num_nearest_neighbors` others, all others are the neighbours.
    """
    count = min(num_nearest_neighbors, len(vectors) - 1)
    if count < 1:
        return np.ones(len(vectors))
    if is_small(vectors, len(vectors)):
        squared = _scanned(vectors, count)
    else:
        from lightly_fs.selection.device import on_device

        squared = on_device(device, lambda where: _by_products(vectors, count, progress, where))
    total = np.zeros(len(vectors))
    for place in range(count):  # from near to far: one order of summation
        total += np.sqrt(squared[:, place])
    return 1.0 / (1.0 + total / count / (largest_distance(vectors) / 2.0))


def _scanned(vectors: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    lanes = in_lanes(vectors)
    kept = np.empty((len(vectors), count))
    for row, vector in enumerate(vectors):
        squared = squared_distances(lanes, vector)
        squared[row] = np.inf
        kept[row] = np.sort(np.partition(squared, count - 1)[:count])
    return kept


def _by_products(
    vectors: NDArray[np.float32], count: int, progress: Progress, device: torch.device | None
) -> NDArray[np.float64]:
    """Return (N, count) ascending squared distances, comparing cells from near to far."""
    from lightly_fs.selection.products import rounding_pays, workers_for

    n_cells = cell_count(len(vectors)) if device is None else 1
    cells = Cells(vectors, n_cells, Heartbeat(progress))
    norms = squared_lengths(vectors)
    result = np.empty((len(vectors), count))
    search = _Search(vectors, norms, cells, count)

    def find(comparison: Compares, item: tuple[int, NDArray[np.int64]]) -> int:
        cell, rows = item
        result[rows] = search.nearest(comparison, rows, cell)
        return len(rows)

    heartbeat, done = Heartbeat(progress), 0
    rounding = rounding_pays(vectors.size * len(vectors), float(norms.max()))
    with workers_for(vectors.shape[1], rounding=rounding, device=device) as workers:
        parts = search.parts(ROWS_AT_ONCE)
        for found in workers.each(find, parts):
            done += found
            heartbeat.tell_work("typicality", done, len(vectors))
    return result


class _Search:
    """Finds the nearest neighbours of some rows of one cell, among cells from near to far."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        norms: NDArray[np.float32],
        cells: Cells,
        count: int,
    ) -> None:
        self.vectors, self.norms, self.cells, self.count = vectors, norms, cells, count

    def parts(self, size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield all rows: a cell, and up to so many of its rows."""
        for cell in range(len(self.cells.radii)):
            members = self.cells.members(cell)
            for start in range(0, len(members), size):
                yield cell, members[start : start + size]

    def nearest(
        self, comparison: Compares, names: NDArray[np.int64], cell: int
    ) -> NDArray[np.float64]:
        """Return (R, count) ascending squared distances of rows of one cell."""
        cells = self.cells
        kept = np.full((len(names), self.count), np.inf)
        estimates = cells.estimates(self.vectors[names])
        order = np.argsort(cells.apart[cell], kind="stable")
        order = np.append(cell, order[order != cell])
        batches = np.cumsum(np.diff(cells.starts)[order]) // OTHERS_AT_ONCE
        for others in np.split(order, np.flatnonzero(np.diff(batches)) + 1):
            within = np.sqrt(kept[:, -1])
            may_hold = cells.may_hold(estimates[:, others], names, within, others)
            places = np.flatnonzero(may_hold.any(axis=1))
            if not len(places):
                continue
            every = [cells.members(int(other)) for other in others[may_hold.any(axis=0)]]
            kept[places] = self._compare(comparison, names[places], kept[places], every)
        return kept

    def _compare(
        self,
        comparison: Compares,
        names: NDArray[np.int64],
        kept: NDArray[np.float64],
        others: list[NDArray[np.int64]],
    ) -> NDArray[np.float64]:
        """Return (R, count) `kept` of the rows, updated in place, after comparing with others."""
        from lightly_fs.selection import kernels

        every = np.concatenate(others)
        for first in range(0, len(names), comparison.rows_at_once):
            part = slice(first, first + comparison.rows_at_once)
            rows = kernels.Neighbours(
                comparison.gather(self.vectors, names[part]),
                self.norms[names[part]],
                kept[part],
                names[part],
            )
            for start in range(0, len(every), comparison.centres_at_once):
                some = every[start : start + comparison.centres_at_once]
                columns = kernels.Neighbours(self.vectors[some], self.norms[some], kept, some)
                factors = comparison.factors(kernels.Centres(columns.vectors, columns.norms, 0))
                comparison.keep_nearest(rows, columns, factors)
        return kept
