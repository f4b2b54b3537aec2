"""Which images a report shows: pairs of selected and removed ones, and images spread over a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.statistics import Cover


@dataclass(frozen=True, slots=True)
class Pair:
    """A removed candidate and the selected one nearest to it, as rows; `distance` is L2."""

    selected: int
    removed: int
    distance: float


def _removed(cover: Cover | None, selected: NDArray[np.int64]) -> list[Pair]:
    """Return the measured candidates that were removed, nearest first."""
    if cover is None:
        return []
    left = np.flatnonzero(~np.isin(cover.rows, selected))
    order = left[np.argsort(cover.distances[left], kind="stable")]
    return [
        Pair(int(cover.nearest[i]), int(cover.rows[i]), float(cover.distances[i])) for i in order
    ]


def choose_pairs(cover: Cover | None, selected: NDArray[np.int64], n: int) -> list[Pair]:
    """Return `n` pairs by distance: the nearest ones, then some across the whole range.

    The first half shows what was left out as redundant, the second what the selection stands for up
    to the image that it covers worst. No selected image is shown twice in the first half.
    """
    removed = _removed(cover, selected)
    if len(removed) <= n:
        return removed
    seen: set[int] = set()
    first: list[int] = []
    for index, pair in enumerate(removed):
        if len(first) == n - n // 2:
            break
        if pair.selected not in seen:
            seen.add(pair.selected)
            first.append(index)
    rest = np.setdiff1d(np.arange(len(removed)), first)
    places = np.linspace(0, len(rest) - 1, n // 2 + 1).round().astype(np.int64)[1:]
    return [removed[index] for index in sorted({*first, *rest[places].tolist()})]


def closest_removed(
    cover: Cover | None, selected: NDArray[np.int64], shown: NDArray[np.int64]
) -> dict[int, Pair]:
    """Return by row of `shown`, in their order, the nearest candidate removed for it."""
    nearest: dict[int, Pair] = {}
    for pair in _removed(cover, selected):
        nearest.setdefault(pair.selected, pair)
    return {int(row): nearest[int(row)] for row in shown if int(row) in nearest}


def spread(
    points: NDArray[np.float32], eligible: NDArray[np.int64], n: int, *, gap: float = 0.11
) -> NDArray[np.int64]:
    """Return up to `n` positions in `eligible`, each as far as possible from those before.

    Args:
        points: (M, 2) the map.
        eligible: Rows of `points` that may be chosen.
        n: How many at most.
        gap: Smallest distance along one axis, as a share of the map.
    """
    if not len(eligible) or not n:
        return np.empty(0, np.int64)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points[eligible] - low) / np.where(high > low, high - low, 1)
    chosen = [int(np.square(scaled - scaled.mean(axis=0)).sum(axis=1).argmax())]
    gaps = np.abs(scaled - scaled[chosen[0]]).max(axis=1)
    while len(chosen) < n and gaps.max() > gap:
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, np.abs(scaled - scaled[chosen[-1]]).max(axis=1))
    return np.array(chosen, np.int64)
