"""`TYPICALITY`: prefer samples in dense regions of the embedding space.

The typicality of TypiClust (Hacohen, Dekel & Weinshall, *Active Learning on a Budget: Opposite
Strategies Suit High and Low Budgets*, ICML 2022) is one over the mean distance to the K nearest
neighbours, t = 1 / d. It has no upper end, so the objective is t / (1 + t) = 1 / (1 + d): the same
order, 1 among identical samples, 1/3 for the loneliest of unit vectors. Longer vectors are measured
in the unit in which the longest has length 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.cells import Cells, cell_count
from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    largest_distance,
    slack,
    squared_distances,
    squared_lengths,
)
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection import kernels

ROWS_AT_ONCE = 2048
OTHERS_AT_ONCE = 4096


def objectives(
    vectors: NDArray[np.float32], num_nearest_neighbors: int, progress: Progress
) -> NDArray[np.float64]:
    """Return (N,) typicalities in (0, 1] of (N, D) vectors among themselves.

    With no more than `num_nearest_neighbors` others, all others are the neighbours.
    """
    count = min(num_nearest_neighbors, len(vectors) - 1)
    if count < 1:
        return np.ones(len(vectors))
    by_numpy = is_small(vectors, len(vectors))
    squared = _scanned(vectors, count) if by_numpy else _by_products(vectors, count, progress)
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
    vectors: NDArray[np.float32], count: int, progress: Progress
) -> NDArray[np.float64]:
    """Return (N, count) ascending squared distances, comparing cells from near to far."""
    heartbeat = Heartbeat(progress)
    cells = Cells(vectors, cell_count(len(vectors)), heartbeat)
    heartbeat = Heartbeat(progress)
    result = np.empty((len(vectors), count))
    done = 0
    for cell in range(len(cells.starts) - 1):
        stop = int(cells.starts[cell + 1])
        order = np.argsort(cells.apart[cell], kind="stable")
        order = order[order != cell]
        for start in range(int(cells.starts[cell]), stop, ROWS_AT_ONCE):
            names = cells.rows[start : min(start + ROWS_AT_ONCE, stop)]
            result[names] = _nearest(vectors, names, cells, np.append(cell, order), count)
            done += len(names)
            heartbeat.tell_work("typicality", done, len(vectors))
    return result


def _nearest(
    vectors: NDArray[np.float32],
    names: NDArray[np.int64],
    cells: Cells,
    order: NDArray[np.int64],
    count: int,
) -> NDArray[np.float64]:
    """Return (R, count) squared distances of some rows of one cell; `order` is that of cells."""
    from lightly_fs.selection import kernels

    error = slack(vectors.shape[1])
    mine = _neighbours(vectors, names, np.full((len(names), count), np.inf))
    estimates = cells.estimates(mine.vectors)
    cell = cells.assigned[names]
    sizes = np.diff(cells.starts)[order]
    batches = np.cumsum(sizes) // OTHERS_AT_ONCE
    for others in np.split(order, np.flatnonzero(np.diff(batches)) + 1):
        may_hold = cells.may_hold(estimates, cell, np.sqrt(mine.kept[:, -1]), others)
        places = np.flatnonzero(may_hold.any(axis=1))
        members = [cells.members(int(other)) for other in others[may_hold.any(axis=0)]]
        if not members:
            continue
        looking = mine.vectors[places]
        every = np.concatenate(members)
        for start in range(0, len(every), OTHERS_AT_ONCE):
            part = _neighbours(vectors, every[start : start + OTHERS_AT_ONCE], mine.kept)
            kernels.keep_nearest(mine, places, part, looking @ part.vectors.T, error)
    return mine.kept


def _neighbours(
    vectors: NDArray[np.float32], names: NDArray[np.int64], kept: NDArray[np.float64]
) -> kernels.Neighbours:
    from lightly_fs.selection import kernels

    chosen = vectors[names]
    return kernels.Neighbours(chosen, squared_lengths(chosen), kept, names)
