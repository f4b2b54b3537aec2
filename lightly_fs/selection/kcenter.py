"""Farthest-first traversal (greedy k-center), exact: by scanning when small, else by `lazy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.selection.distances import farthest_from_mean, in_lanes, is_small, squared_distances
from lightly_fs.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.candidates import Candidates


class Picks(NamedTuple):
    """(K,) int64 rows and (K,) float64 squared distances when picked, in order."""

    rows: NDArray[np.int64]
    squared: NDArray[np.float64]


def farthest_first(candidates: Candidates, progress: Progress, device: str = "cpu") -> Picks:
    """Pick the farthest candidate until `limit`, or until it is nearer than `min_distance`.

    Ties go to the lowest row. Without preselected samples the first pick is the candidate farthest
    from the mean, at distance inf. The picks do not depend on the device that makes the products
    (`device.on_device`).
    """
    if candidates.limit == 0:
        return Picks(np.empty(0, np.int64), np.empty(0))
    if is_small(candidates.vectors, len(candidates.preselected) + candidates.limit):
        return scan(candidates)
    from lightly_fs.selection.device import on_device
    from lightly_fs.selection.lazy import Search

    return on_device(device, lambda where: Search(candidates, where).run(progress))


def scan(candidates: Candidates) -> Picks:
    """Compare every candidate with every pick."""
    lanes = in_lanes(candidates.vectors)
    best = np.full(len(candidates.vectors), np.inf)
    for vector in candidates.preselected:
        np.minimum(best, squared_distances(lanes, vector), out=best)
    rows: list[int] = []
    squared: list[float] = []
    while len(rows) < candidates.limit:
        row = int(best.argmax()) if best[0] < np.inf else farthest_from_mean(candidates.vectors)
        if np.sqrt(best[row]) < candidates.min_distance:
            break
        rows.append(row)
        squared.append(float(best[row]))
        np.minimum(best, squared_distances(lanes, candidates.vectors[row]), out=best)
        best[row] = -1
    return Picks(np.array(rows, np.int64), np.array(squared, np.float64))
