"""Near-duplicate removal: of samples that look alike, keep the first.

Samples are gone through in the order of their names. One is removed when an earlier sample that was
kept lies within the largest distance (L2, between embeddings), and the nearest of those is its
original. So no two kept samples are that near to each other, and every removed one is that near to
one that was kept: the kept ones are the greedy maximal independent set of the graph of near pairs.

Large inputs are searched by `near_pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.errors import ConfigError
from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    squared_distances,
)
from lightly_fs.selection.pool import check_vectors, name_order
from lightly_fs.types import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    device: str = "auto",
    progress: Progress = silent,
) -> NearDuplicates:
    """Find the samples to remove so that no two are within a distance of each other.

    The result depends on the set of samples alone, not on their order, threads, blocks or device.

    Args:
        vectors: (N, D) float32, finite; may be a memory-mapped file.
        filenames: N unique names; earlier ones, in code point order (that of UTF-8), are kept.
        max_distance: L2 distance up to which two samples are near, 0 or more.
        keep_first: Rows that come before all others (in the order of their names), such as samples
            that are labelled already. They too are removed when near to an earlier one of them.
        device: Where products are made: `cpu`, `cuda`, `cuda:1`, or `auto`, a GPU where torch is
            loaded and has one.
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
        from lightly_fs.selection.device import on_device
        from lightly_fs.selection.near_pairs import NearPairs

        given = np.asarray(vectors, np.float32)
        found = on_device(device, NearPairs(given, order, max_distance, progress).run)
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
