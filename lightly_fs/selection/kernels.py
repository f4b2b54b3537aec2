"""Compiled inner loops of exact distance search. Importing this module imports numba.

Distances are first estimated in float32 as |x|² + |c|² - 2 x·c. An estimate is off by at most
`slack` · (|x|² + |c|²) (see `distances`), so only the few pairs that it cannot tell from the best
known one are measured, by `squared_distance`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])
_REORDERED = {"reassoc", "contract", "nsz", "nnan"}
"""What the compiler may assume of estimates: any order of summation, no NaN."""


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


class Rivals(NamedTuple):
    """What a row must beat to be picked now: the best row elsewhere, and the smallest distance."""

    squared: float
    row: int
    min_distance: float


def _compiled(fastmath: bool | set[str] = False) -> Callable[[_Function], _Function]:  # noqa: FBT001, FBT002 - numba's own option
    """Compile, and keep the result on disk where there is a place for it."""

    def decorate(function: _Function) -> _Function:
        try:
            return cast("_Function", njit(nogil=True, cache=True, fastmath=fastmath)(function))
        except RuntimeError:  # neither the package's directory nor the home can be written
            return cast("_Function", njit(nogil=True, fastmath=fastmath)(function))

    return decorate


# Without fastmath: the compiler neither reorders nor fuses, the definition holds to the last bit.
@_compiled()
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


@_compiled(fastmath=_REORDERED)
def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@_compiled(fastmath=_REORDERED)
def _smallest(products: NDArray[np.float32], norms: NDArray[np.float32]) -> np.float32:
    """Return the minimum of |c|² - 2 x·c."""
    smallest = np.float32(3.0e38)
    for j in range(len(norms)):
        smallest = min(smallest, norms[j] - np.float32(2.0) * products[j])
    return smallest


@_compiled()
def see(rows: Rows, centres: Centres, products: NDArray[np.float32], error: float) -> None:
    """Bring `best` and `nearest` of the rows up to date with centres they have not seen.

    `products` (R, C) are their dot products in float32, `error` is the `slack` of the dimensions.
    """
    largest = centres.norms.max()
    for i in range(len(rows.best)):
        norm = np.float64(rows.norms[i])
        margin = error * (norm + largest) + 1e-36
        estimate = norm + _smallest(products[i], centres.norms)
        if estimate - margin > rows.best[i]:
            continue
        for j in range(len(centres.norms)):
            ceiling = min(rows.best[i], estimate + margin) + margin
            if norm + (centres.norms[j] - np.float32(2.0) * products[i, j]) <= ceiling:
                squared = squared_distance(rows.vectors[i], centres.vectors[j])
                if squared < rows.best[i]:
                    rows.best[i] = squared
                    rows.nearest[i] = centres.first + j


@_compiled()
def _beats(squared: float, row: int, rivals: Rivals) -> bool:
    if squared < rivals.squared or (squared == rivals.squared and row > rivals.row):
        return False
    return math.sqrt(squared) >= rivals.min_distance


@_compiled()
def pick(
    rows: Rows,
    names: NDArray[np.int64],
    seen: NDArray[np.int64],
    rivals: Rivals,
    picks: NDArray[np.int64],
    squared: NDArray[np.float64],
    error: float,
) -> int:
    """Pick farthest first while a row beats the rivals; return how many picks were made.

    A row that falls behind the rivals can never come back (distances only shrink), so it is left
    alone from then on. `names` (R,) are the rows' indices among all candidates and decide ties;
    `seen` (R,) counts the centres that each was compared with, -1 for a row that was picked.
    `picks` receives positions within `rows`, `squared` their distances; they bound the picks.
    """
    alive = np.empty(len(names), np.int64)
    count = 0
    for i in range(len(names)):
        if _beats(rows.best[i], names[i], rivals):
            alive[count] = i
            count += 1
    made = 0
    while count > 0 and made < len(picks):
        top = 0
        for a in range(1, count):
            i, t = alive[a], alive[top]
            if rows.best[i] > rows.best[t] or (
                rows.best[i] == rows.best[t] and names[i] < names[t]
            ):
                top = a
        centre = alive[top]
        picks[made] = centre
        squared[made] = rows.best[centre]
        made += 1
        seen[centre] = -1
        count -= 1
        alive[top] = alive[count]
        a = 0
        while a < count:
            i = alive[a]
            seen[i] += 1
            total = np.float64(rows.norms[i]) + np.float64(rows.norms[centre])
            estimate = total - 2.0 * _dot(rows.vectors[i], rows.vectors[centre])
            if estimate - error * total - 1e-36 <= rows.best[i]:
                exact = squared_distance(rows.vectors[i], rows.vectors[centre])
                if exact < rows.best[i]:
                    rows.best[i] = exact
                    if not _beats(exact, names[i], rivals):
                        count -= 1
                        alive[a] = alive[count]
                        continue
            a += 1
    return made


@_compiled()
def distances_to(vectors: NDArray[np.float32], point: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (N,) defining squared distances to one (D,) point."""
    squared = np.empty(len(vectors))
    for i in range(len(vectors)):
        squared[i] = squared_distance(vectors[i], point)
    return squared
