"""`TYPICALITY`: prefer samples in dense regions of the embedding space.

The typicality of TypiClust (Hacohen, Dekel & Weinshall, *Active Learning on a Budget: Opposite
Strategies Suit High and Low Budgets*, ICML 2022) is one over the mean distance to the K nearest
neighbours, t = 1 / d. It has no upper end, so the objective is t / (1 + t) = 1 / (1 + d): the same
order, 1 among identical samples, 1/3 for the loneliest of unit vectors. Longer vectors are measured
in the unit in which the longest has length 1.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import (
    in_lanes,
    is_small,
    largest_distance,
    slack,
    squared_distances,
    squared_lengths,
)
from lightly_fs.types import Progress, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE = 1024
CENTRES_AT_ONCE = 4096


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
    from lightly_fs.selection import kernels

    norms = squared_lengths(vectors)
    kept = np.full((len(vectors), count), np.inf)
    told = time.monotonic()
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        for first in range(0, len(vectors), CENTRES_AT_ONCE):
            others = slice(first, first + CENTRES_AT_ONCE)
            kernels.keep_nearest(
                kernels.Neighbours(vectors[part], norms[part], kept[part], start),
                kernels.Centres(vectors[others], norms[others], first),
                vectors[part] @ vectors[others].T,
                slack(vectors.shape[1]),
            )
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            progress(Stage.SELECT, 0, None, f"typicality of {start:,} samples")
    return kept
