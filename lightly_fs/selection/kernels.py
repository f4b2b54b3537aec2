"""Compiled inner loops of exact distance search. Importing this module imports numba.

Distances are first estimated in float32 as |x|² + |c|² - 2 x·c. An estimate is off by at most
`slack` · (|x|² + |c|²) (see `distances`), so only the few pairs that it cannot tell from the best
known one are measured, by `squared_distance`. The products x·c may come as bits of bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from lightly_fs.compiled import REORDERED, compiled

Products = TypeVar("Products", np.float32, np.uint16)
CHUNK = 64
"""Products that are looked at together before any is looked at by itself."""
VANISHING = 1e-30
"""More than all that is lost of squared distances where terms below 2^-126 count as 0."""


class Rows(NamedTuple):
    """Candidates that are looked at together.

    Attributes:
        vectors: (R, D) float32.
        norms: (R,) float32 squared lengths.
        best: (R,) float64 squared distance to the nearest centre seen; updated in place.
        nearest: (R,) int64 number of that centre; updated in place.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    best: NDArray[np.float64]
    nearest: NDArray[np.int64]


class Centres(NamedTuple):
    """Selected samples: (C, D) vectors, (C,) squared lengths, and the number of the first."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    first: int


# Without fastmath: the compiler neither reorders nor fuses, the definition holds to the last bit.
@compiled()
def squared_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the defining squared distance of two (D,) vectors; see `distances`."""
    s0 = s1 = s2 = s3 = 0.0
    whole = len(a) - len(a) % 4
    for d in range(0, whole, 4):
        d0 = np.float64(a[d]) - np.float64(b[d])
        d1 = np.float64(a[d + 1]) - np.float64(b[d + 1])
        d2 = np.float64(a[d + 2]) - np.float64(b[d + 2])
        d3 = np.float64(a[d + 3]) - np.float64(b[d + 3])
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    if whole < len(a):
        d0 = np.float64(a[whole]) - np.float64(b[whole])
        s0 += d0 * d0
    if whole + 1 < len(a):
        d1 = np.float64(a[whole + 1]) - np.float64(b[whole + 1])
        s1 += d1 * d1
    if whole + 2 < len(a):
        d2 = np.float64(a[whole + 2]) - np.float64(b[whole + 2])
        s2 += d2 * d2
    return (s0 + s1) + (s2 + s3)


@compiled(fastmath=REORDERED)
def estimated_dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@compiled()
def surely_farther(
    a: NDArray[np.float32], b: NDArray[np.float32], total: float, error: float, squared: float
) -> bool:
    """Return whether |a - b|² is more than `squared`, by an estimate; `total` is |a|² + |b|²."""
    least: float = total - 2.0 * np.float64(estimated_dot(a, b)) - error * total - VANISHING
    return least > squared


def as_float(product: Any) -> Any:  # noqa: ANN401 - float32 or uint16, decided by numba
    """Return a product as float32: itself, or that whose upper half are the bits of a bfloat16."""


def _as_float_by_type(product: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - a type of numba
    def same(product: Any) -> Any:  # noqa: ANN401
        return product

    def widened(product: Any) -> Any:  # noqa: ANN401
        return np.uint32(np.uint32(product) << np.uint32(16)).view(np.float32)

    return same if isinstance(product, types.Float) else widened


overload(as_float)(_as_float_by_type)


@compiled()
def _in_order(bits: np.int32) -> np.int32:
    """Return the bits of a float32 as an integer that compares like it, or such integers' bits."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled()
def smallest(products: NDArray[Products], norms: NDArray[np.float32]) -> np.float32:
    """Return the minimum of |c|² - 2 x·c.

    Compares integers: that becomes vector instructions, the comparison of floats does not.
    """
    least = np.int32(0x7F7FFFFF)  # the largest float32
    for j in range(len(norms)):
        estimate = np.float32(norms[j] - np.float32(2.0) * as_float(products[j]))
        least = min(least, _in_order(estimate.view(np.int32)))
    return np.int32(_in_order(least)).view(np.float32)


@compiled()
def see(
    rows: Rows,
    centres: Centres,
    products: NDArray[Products],
    error: float,
    finer_error: float = math.inf,
) -> int:
    """Bring `best` and `nearest` of the rows up to date with centres they have not seen.

    Args:
        rows: R rows.
        centres: C centres.
        products: (R, C), or larger, dot products in float32 or as bits of bfloat16.
        error: `slack` or `rounded_slack` of the dimensions.
        finer_error: `slack`, if pairs shall be estimated again in float32 before they are measured.

    Returns:
        How many pairs the products could not tell from the best known one.
    """
    close = 0
    largest = centres.norms.max()
    for i in range(len(rows.best)):
        norm = np.float64(rows.norms[i])
        margin = error * (norm + largest) + VANISHING
        estimate = norm + smallest(products[i], centres.norms)
        if estimate - margin > rows.best[i]:
            continue
        for start in range(0, len(centres.norms), CHUNK):
            stop = min(start + CHUNK, len(centres.norms))
            ceiling = min(rows.best[i], estimate + margin) + margin
            if norm + smallest(products[i, start:stop], centres.norms[start:stop]) > ceiling:
                continue
            for j in range(start, stop):
                product = as_float(products[i, j])
                if norm + (centres.norms[j] - np.float32(2.0) * product) > ceiling:
                    continue
                close += 1
                total = norm + np.float64(centres.norms[j])
                one, other = rows.vectors[i], centres.vectors[j]
                if finer_error < error and surely_farther(
                    one, other, total, finer_error, rows.best[i]
                ):
                    continue
                squared = squared_distance(one, other)
                if squared < rows.best[i]:
                    rows.best[i] = squared
                    rows.nearest[i] = centres.first + j
                    ceiling = min(squared, estimate + margin) + margin
    return close


@compiled()
def distances_to(vectors: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (N,) defining squared distances to one (D,) point."""
    squared = np.empty(len(vectors))
    for i in range(len(vectors)):
        squared[i] = squared_distance(vectors[i], point)
    return squared


@compiled()
def come_nearer(
    vectors: NDArray[np.float32],
    norms: NDArray[np.float32],
    centre: NDArray[np.float32],
    best: NDArray[np.float64],
    error: float,
) -> None:
    """Bring the (N,) squared distances to the nearest centre up to date with one (D,) centre."""
    length = np.float64(estimated_dot(centre, centre))
    for i in range(len(best)):
        total = np.float64(norms[i]) + length
        estimate = total - 2.0 * np.float64(estimated_dot(vectors[i], centre))
        if estimate - error * total - 1e-36 <= best[i]:
            best[i] = min(best[i], squared_distance(vectors[i], centre))


class Neighbours(NamedTuple):
    """Rows whose nearest neighbours are looked for.

    Attributes:
        vectors: (R, D) float32.
        norms: (R,) float32 squared lengths.
        kept: (R, K) float64 smallest squared distances so far, ascending; updated in place.
        names: (R,) int64 numbers of the rows, to leave out each row itself.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    kept: NDArray[np.float64]
    names: NDArray[np.int64]


@compiled()
def keep_nearest(
    rows: Neighbours,
    others: Neighbours,
    products: NDArray[Products],
    error: float,
    finer_error: float,
) -> int:
    """Keep the smallest squared distances of the rows to others, whose `kept` is not looked at.

    Products and errors are as in `see`, and so is what is returned.
    """
    close = 0
    last = rows.kept.shape[1] - 1
    largest = others.norms.max()
    for i in range(len(rows.norms)):
        kept = rows.kept[i]
        norm = np.float64(rows.norms[i])
        margin = error * (norm + largest) + VANISHING
        if norm + smallest(products[i], others.norms) - margin > kept[last]:
            continue
        for start in range(0, len(others.norms), CHUNK):
            stop = min(start + CHUNK, len(others.norms))
            least = smallest(products[i, start:stop], others.norms[start:stop])
            if norm + least - margin > kept[last]:
                continue
            for j in range(start, stop):
                estimate = norm + (others.norms[j] - np.float32(2.0) * as_float(products[i, j]))
                if estimate - margin > kept[last] or rows.names[i] == others.names[j]:
                    continue
                close += 1
                total = norm + np.float64(others.norms[j])
                one, other = rows.vectors[i], others.vectors[j]
                if finer_error < error and surely_farther(
                    one, other, total, finer_error, kept[last]
                ):
                    continue
                _keep(kept, squared_distance(one, other))
    return close


@compiled()
def keep_measured(
    kept: NDArray[np.float64], rows: NDArray[np.int64], squared: NDArray[np.float64]
) -> None:
    """Keep the smallest of (P,) squared distances that belong to (P,) rows of (R, K) `kept`."""
    for place in range(len(rows)):
        _keep(kept[rows[place]], squared[place])


@compiled()
def pair_distances(
    rows: tuple[NDArray[np.float32], NDArray[np.int64]],
    others: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Return the (P,) defining squared distances of pairs, given as vectors and which of them."""
    squared = np.empty(len(rows[1]))
    for place in range(len(squared)):
        one, other = rows[1][place], others[1][place]
        squared[place] = squared_distance(rows[0][one], others[0][other])
    return squared


@compiled()
def _keep(kept: NDArray[np.float64], squared: float) -> None:
    """Sort a number into the ascending ones if it is smaller than the last."""
    place = len(kept) - 1
    if squared >= kept[place]:
        return
    while place > 0 and kept[place - 1] > squared:
        kept[place] = kept[place - 1]
        place -= 1
    kept[place] = squared


class Covered(NamedTuple):
    """Samples and how well the selection stands for them: (N,) `best` squared distances."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    best: NDArray[np.float64]
    squared_largest: float


@compiled()
def _similarity(squared: float, squared_largest: float) -> float:
    raw = max(1.0 - squared / squared_largest, 0.0)
    return math.floor(raw * 1073741824.0 + 0.5) / 1073741824.0


@compiled()
def add_gains(
    chosen: Centres,
    covered: Covered,
    products: NDArray[np.float32],
    error: float,
    gains: NDArray[np.float64],
) -> None:
    """Add to (R,) `gains` what each chosen row adds to the similarity of the covered samples."""
    for i in range(len(gains)):
        for j in range(len(covered.norms)):
            total = np.float64(chosen.norms[i]) + np.float64(covered.norms[j])
            estimate = total - 2.0 * np.float64(products[i, j])
            if estimate - error * total - 1e-36 >= covered.best[j]:
                continue
            squared = squared_distance(chosen.vectors[i], covered.vectors[j])
            if squared < covered.best[j]:
                added = _similarity(squared, covered.squared_largest) - _similarity(
                    covered.best[j], covered.squared_largest
                )
                gains[i] += added


@compiled()
def distances_from_mean(
    vectors: NDArray[np.float32], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N,) |N x - sum|² by the defining order; `total` (D,) is the sum."""
    count, dimensions = vectors.shape
    squared = np.empty(count)
    for i in range(count):
        lanes = np.zeros(4)
        for d in range(dimensions):
            difference = np.float64(vectors[i, d]) * count - total[d]
            lanes[d % 4] += difference * difference
        squared[i] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
    return squared


@compiled(fastmath=REORDERED)
def lower_bounds(
    nearer: Centres,
    covered: tuple[NDArray[np.float64], NDArray[np.float64]],
    candidates: tuple[NDArray[np.float32], NDArray[np.float64]],
    products: NDArray[np.float32],
    scale: tuple[float, float],
) -> None:
    """Lower the bounds of gains by what they surely lose.

    Args:
        nearer: (R,) samples that the last pick came nearer to.
        covered: (R,) their similarities to the selection before and now.
        candidates: (N,) squared lengths and bounds; the bounds are updated in place.
        products: (R, N) dot products.
        scale: `slack` of the dimensions, and the squared largest distance.
    """
    before, now = covered
    norms, bounds = candidates
    error, squared_largest = scale
    for i in range(len(before)):
        norm = np.float64(nearer.norms[i])
        most = now[i] - before[i]
        for j in range(len(bounds)):
            total = norm + np.float64(norms[j])
            farthest = total - 2.0 * np.float64(products[i, j]) + error * total + VANISHING
            lost = min(1.0 - farthest / squared_largest - before[i], most)
            bounds[j] -= max(lost - 4e-9, 0.0)  # the grid and the rounding of the bound
