"""Compiled inner loops of finding near duplicates. Importing this module imports numba.

As in `kernels`: estimates in float32 decide what need not be measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.selection.kernels import CHUNK, Centres, Rows, compiled, smallest, squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Limit(NamedTuple):
    """Up to which distance a sample is a near duplicate, and the `slack` of the dimensions."""

    distance: float
    error: float


@compiled()
def _show(rows: Rows, i: int, vector: NDArray[np.float32], number: int) -> None:
    """Compare a row with a kept sample; of equally near ones the lowest number counts."""
    squared = squared_distance(rows.vectors[i], vector)
    if squared < rows.best[i] or (squared == rows.best[i] and number < rows.nearest[i]):
        rows.best[i] = squared
        rows.nearest[i] = number


@compiled()
def show_kept(
    rows: Rows,
    places: NDArray[np.int64],
    kept: Centres,
    numbers: NDArray[np.int64],
    products: NDArray[np.float32],
    limit: Limit,
) -> None:
    """Bring rows up to date with kept samples.

    Args:
        rows: `best` and `nearest` are updated in place.
        places: (R,) which of the rows to compare.
        kept: K samples.
        numbers: (K,) their numbers.
        products: (R, K) dot products.
        limit: Of which the error is used.
    """
    largest = kept.norms.max()
    for r in range(len(places)):
        i = places[r]
        norm = np.float64(rows.norms[i])
        margin = limit.error * (norm + largest) + 1e-36
        for start in range(0, len(numbers), CHUNK):
            stop = min(start + CHUNK, len(numbers))
            least = smallest(products[r, start:stop], kept.norms[start:stop])
            if norm + least - margin > rows.best[i]:
                continue
            for j in range(start, stop):
                if (
                    norm + (kept.norms[j] - np.float32(2.0) * products[r, j]) - margin
                    <= (rows.best[i])
                ):
                    _show(rows, i, kept.vectors[j], numbers[j])


@compiled()
def keep_in_order(
    rows: Rows, numbers: NDArray[np.int64], products: NDArray[np.float32], limit: Limit
) -> NDArray[np.bool_]:
    """Return (R,) which rows are kept, when each is compared with those kept before it.

    `rows.best` and `rows.nearest` tell of what was kept before all of them, `numbers` (R,) are the
    rows' own, `products` (R, R) their dot products.
    """
    kept = np.zeros(len(numbers), np.bool_)
    largest = rows.norms.max()
    for i in range(len(numbers)):
        norm = np.float64(rows.norms[i])
        margin = limit.error * (norm + largest) + 1e-36
        for j in range(i):
            estimate = norm + (rows.norms[j] - np.float32(2.0) * products[i, j])
            if kept[j] and estimate - margin <= rows.best[i]:
                _show(rows, i, rows.vectors[j], numbers[j])
        kept[i] = not math.sqrt(rows.best[i]) <= limit.distance
    return kept
