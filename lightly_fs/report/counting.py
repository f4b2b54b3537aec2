"""Distributions of whole numbers, from how often each occurs: exact, and as small as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.statistics import BINS, Comparison, Distribution, Numbers


@dataclass(frozen=True, eq=False)
class Tally:
    """How often numbers occur: (V,) ascending `values`, (V,) `times`, each 1 or more."""

    values: NDArray[np.int64]
    times: NDArray[np.int64]


def tally(values: Numbers) -> Tally:
    """Return how often each of the finite, whole `values` occurs."""
    finite = np.asarray(values, np.float64)
    found, times = np.unique(finite[np.isfinite(finite)], return_counts=True)
    return Tally(found.astype(np.int64), times.astype(np.int64))


def is_whole(values: Numbers) -> bool:
    """Tell whether all finite values are whole numbers of so small a range that each has a bin."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or abs(finite).max() > 2**52:
        return False
    return bool(finite.max() - finite.min() < BINS and (finite == np.rint(finite)).all())


def compare_tallies(sets: Mapping[str, Tally]) -> Comparison:
    """Return `input`, `selected` and `random` over common bins that are whole numbers wide."""
    values = np.concatenate([made.values for made in sets.values()])
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    width = math.ceil((high - low + 1) / BINS)
    bins = math.ceil((high - low + 1) / width)
    edges = low - 0.5 + width * np.arange(bins + 1, dtype=np.float64)
    made = {name: _distribution(one, edges) for name, one in sets.items()}
    return Comparison(edges, made["input"], made["selected"], made["random"], whole=True)


def _distribution(given: Tally, edges: NDArray[np.float64]) -> Distribution:
    counts = np.histogram(given.values, edges, weights=given.times)[0].astype(np.int64)
    if not len(given.values):
        return Distribution(counts, 0)
    ends = np.cumsum(given.times)
    n = int(ends[-1])
    mean = float(given.values @ given.times) / n
    variance = float(np.square(given.values - mean) @ given.times) / n
    p10, median, p90 = (_quantile(given.values, ends, share) for share in (0.1, 0.5, 0.9))
    low, high = float(given.values[0]), float(given.values[-1])
    return Distribution(counts, n, mean, math.sqrt(variance), low, p10, median, p90, high)


def _quantile(values: NDArray[np.int64], ends: NDArray[np.int64], share: float) -> float:
    """Return the quantile that numpy gives for the numbers written out."""
    place = share * (int(ends[-1]) - 1)
    below = math.floor(place)
    low, high = (
        float(values[np.searchsorted(ends, index, side="right")])
        for index in (below, math.ceil(place))
    )
    return low + (place - below) * (high - low)
