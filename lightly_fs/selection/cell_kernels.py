"""Compiled inner loops of finding near pairs. Importing this module imports numba.

As in `kernels`: estimates decide what need not be measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.compiled import compiled
from lightly_fs.selection.kernels import (
    CHUNK,
    VANISHING,
    as_float,
    smallest,
    squared_distance,
    surely_farther,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.products import Products


class Limit(NamedTuple):
    """Up to which distance samples are near, and a squared distance that is just above."""

    distance: float
    squared: float


class Members(NamedTuple):
    """Samples that may be near to one another.

    Attributes:
        vectors: (R, D) float32.
        norms: (R,) float32 squared lengths.
        best: (R,) float64 squared distance to the nearest original that is known.
        numbers: (R,) int64 numbers of the samples: of two, the one with the lower comes first.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    best: NDArray[np.float64]
    numbers: NDArray[np.int64]


class Pairs(NamedTuple):
    """(P,) numbers of samples, of earlier ones near to them, and their squared distances."""

    later: NDArray[np.int64]
    earlier: NDArray[np.int64]
    squared: NDArray[np.float64]

    @classmethod
    def room(cls, count: int) -> Pairs:
        """Return room for so many."""
        return cls(np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count))

    def take(self, which: slice | NDArray[np.int64]) -> Pairs:
        """Return some of them."""
        return Pairs(self.later[which], self.earlier[which], self.squared[which])


class Around(NamedTuple):
    """Rows and cells that may hold something near to them; see `cells`.

    Attributes:
        own: (R,) float32 squared distance of each row to the pivot of its own cell.
        cell: (R,) int64 that cell.
        within: (R,) float64 distances.
        others: (C,) int64 the cells in question.
        apart: (cells, cells) float32 distances between pivots.
        radii: (cells,) float32.
        error: Of squared distances to pivots.
    """

    own: NDArray[np.float32]
    cell: NDArray[np.int64]
    within: NDArray[np.float64]
    others: NDArray[np.int64]
    apart: NDArray[np.float32]
    radii: NDArray[np.float32]
    error: float


@compiled()
def may_hold(squared: NDArray[np.float32], around: Around) -> NDArray[np.bool_]:
    """Return (R, C) whether a cell may hold something near to a row.

    `squared` (R, C) are estimated distances of the rows to the pivots of the cells in question.
    """
    found = np.empty(squared.shape, np.bool_)
    for i in range(squared.shape[0]):
        reach = around.within[i] * (1 + 1e-5)
        least = np.float64(around.own[i]) + 4 * around.error
        apart = around.apart[around.cell[i]]
        for j in range(squared.shape[1]):
            other = around.others[j]
            ball = reach + np.float64(around.radii[other])
            # Written so that inf · 0 = nan leaves nothing out.
            beyond = squared[i, j] - least > 2 * reach * np.float64(apart[other])
            found[i, j] = not (beyond or squared[i, j] - around.error > ball * ball)
    return found


@compiled()
def near_pairs(
    rows: Members,
    others: Members,
    products: Products,
    limit: Limit,
    room: Pairs,
    begin: tuple[int, int],
) -> tuple[int, int, int]:
    """Put the near pairs that may decide something in the room.

    A pair decides nothing when the earlier sample is removed already, or when a nearer original of
    the later one is known. Rows begin at the first of `begin`. So many as the second of it says are
    samples that are among the others too, where each pair comes twice: they count as later ones.

    Returns:
        How many pairs were found, the row to go on at (there may be no room for all), and how many
        pairs the products could not tell from near ones.
    """
    start_row, n_same = begin
    count = close = 0
    largest = others.norms.max()
    for i in range(start_row, len(rows.norms)):
        if count + len(others.norms) > len(room.later):
            return count, i, close
        norm = np.float64(rows.norms[i])
        margin = products.error * (norm + largest) + VANISHING
        ceiling = limit.squared + margin
        if norm + smallest(products.values[i], others.norms) > ceiling:
            continue
        for start in range(0, len(others.norms), CHUNK):
            stop = min(start + CHUNK, len(others.norms))
            part = products.values[i, start:stop]
            if norm + smallest(part, others.norms[start:stop]) > ceiling:
                continue
            for j in range(start, stop):
                product = as_float(products.values[i, j])
                if norm + (others.norms[j] - np.float32(2.0) * product) > ceiling:
                    continue
                close += 1
                later = rows.numbers[i] > others.numbers[j]
                first, second = (others.best[j], rows.best[i])
                if not later:
                    first, second = second, first
                if (i < n_same and not later) or first < limit.squared:
                    continue
                total = norm + np.float64(others.norms[j])
                one, other = rows.vectors[i], others.vectors[j]
                if products.finer_error < products.error and surely_farther(
                    one, other, total, products.finer_error, limit.squared
                ):
                    continue
                squared = squared_distance(one, other)
                if math.sqrt(squared) <= limit.distance and squared < second:
                    room.later[count] = rows.numbers[i] if later else others.numbers[j]
                    room.earlier[count] = others.numbers[j] if later else rows.numbers[i]
                    room.squared[count] = squared
                    count += 1
    return count, len(rows.norms), close


@compiled()
def decide(
    pairs: Pairs, kept: NDArray[np.bool_], best: NDArray[np.float64], nearest: NDArray[np.int64]
) -> None:
    """Remove what is near to something kept before it.

    Args:
        pairs: By the number of the later one.
        kept: By number, whether a sample is kept; true in advance, and updated in place.
        best: By number, squared distance to the nearest original; updated in place.
        nearest: By number, that original; of equally near ones the lowest; updated in place.
    """
    for place in range(len(pairs.later)):
        later, earlier = pairs.later[place], pairs.earlier[place]
        if not kept[earlier]:
            continue
        kept[later] = False
        squared = pairs.squared[place]
        if squared < best[later] or (squared == best[later] and earlier < nearest[later]):
            best[later] = squared
            nearest[later] = earlier
