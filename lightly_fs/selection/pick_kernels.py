"""Compiled inner loop of farthest-first selection. Importing this module imports numba."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightly_fs.compiled import compiled
from lightly_fs.selection.kernels import Rows, estimated_dot, squared_distance


class Rivals(NamedTuple):
    """What a row must beat to be picked now: the best row elsewhere, and the smallest distance."""

    squared: float
    row: int
    min_distance: float


@compiled()
def _beats(squared: float, row: int, rivals: Rivals) -> bool:
    if squared < rivals.squared or (squared == rivals.squared and row > rivals.row):
        return False
    return math.sqrt(squared) >= rivals.min_distance


@compiled()
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
            estimate = total - 2.0 * estimated_dot(rows.vectors[i], rows.vectors[centre])
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
