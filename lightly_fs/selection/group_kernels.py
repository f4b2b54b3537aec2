"""Compiled inner loops of scored selection. Importing this module imports numba.

The definitions are those of `objective`, `diversity` and `balance`, operation by operation: no
fastmath here, so numpy and these loops agree to the last bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.compiled import compiled
from lightly_fs.selection.objective import FLOOR, LN_2, SQRT_HALF, TERMS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Scale(NamedTuple):
    """How a squared distance becomes part of a key: the strategy's numbers.

    A largest distance of 0 says that squared distances are the keys, as they are.
    """

    largest: float
    strength: float
    min_distance: float


class Edges(NamedTuple):
    """The best outside of a block, per group: (G,) key (-inf for none), lowest name with it."""

    key: NDArray[np.float64]
    row: NDArray[np.int64]


class Balances(NamedTuple):
    """All balances of labels, their classes one after the other.

    Attributes:
        target, counts, occurs: (sum of C,) as in `balance.Shares`; counts are updated in place.
        starts: (B + 1,) where the classes of each balance begin.
        strengths: (B,).
        members: (G, B) class of each group, counted from the start of its balance.
    """

    target: NDArray[np.float64]
    counts: NDArray[np.float64]
    occurs: NDArray[np.bool_]
    starts: NDArray[np.int64]
    strengths: NDArray[np.float64]
    members: NDArray[np.int64]


@compiled()
def logarithm(value: float) -> float:
    """Return `objective.logarithm` of one value."""
    mantissa, exponent = math.frexp(value)
    if mantissa < SQRT_HALF:
        mantissa = 2.0 * mantissa
        exponent -= 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 1.0 / (2 * TERMS - 1)
    for term in range(TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    return np.float64(exponent) * LN_2 + (2.0 * ratio) * series


@compiled()
def key_of(constant: float, squared: float, scale: Scale) -> float:
    """Return constant + strength · log of the diversity; -inf nearer than the smallest distance."""
    distance = math.sqrt(squared)
    if distance < scale.min_distance:
        return -np.inf
    if scale.largest == 0.0:
        return squared
    clipped = min(max(distance / scale.largest, FLOOR), 1.0)
    objective = max(np.float64(np.float32(clipped)), FLOOR)
    return constant + scale.strength * logarithm(objective)


@compiled()
def set_keys(
    keys: NDArray[np.float64],
    constant: NDArray[np.float64],
    best: NDArray[np.float64],
    scale: Scale,
) -> None:
    """Set (N,) keys from squared distances; negative ones mark rows that are out: -inf."""
    for i in range(len(keys)):
        keys[i] = key_of(constant[i], best[i], scale) if best[i] >= 0 else -np.inf


@compiled()
def set_offsets(balances: Balances, offsets: NDArray[np.float64]) -> None:
    """Set (G,) what the balances add to each group's score."""
    offsets[:] = 0.0
    for b in range(len(balances.strengths)):
        start, stop = balances.starts[b], balances.starts[b + 1]
        most = 0.0
        for c in range(start, stop):
            if balances.occurs[c]:
                most = max(most, balances.target[c] / (balances.counts[c] + 0.5))
        terms = np.empty(stop - start)
        for c in range(start, stop):
            worth = 1.0
            if most > 0:
                worth = balances.target[c] / (balances.counts[c] + 0.5) / most
            terms[c - start] = balances.strengths[b] * logarithm(min(max(worth, FLOOR), 1.0))
        for g in range(len(offsets)):
            offsets[g] += terms[balances.members[g, b]]


@compiled()
def count_pick(balances: Balances, group: int) -> None:
    """Count a pick of that group in every balance."""
    for b in range(len(balances.strengths)):
        balances.counts[balances.starts[b] + balances.members[group, b]] += 1.0


@compiled()
def find_edges(
    keys: NDArray[np.float64],
    groups: NDArray[np.int64],
    owners: NDArray[np.int64],
    inside: NDArray[np.bool_],
    edges: Edges,
) -> None:
    """Take the best row of each group inside, and find the best of what stays outside."""
    count = len(edges.key)
    top_key = np.full(count, -np.inf)
    top = np.full(count, -1)
    for i in range(len(keys)):
        g = groups[i]
        if keys[i] > top_key[g] or (
            keys[i] == top_key[g] and top[g] >= 0 and owners[i] < owners[top[g]]
        ):
            top_key[g] = keys[i]
            top[g] = i
    for g in range(count):
        if top[g] >= 0:
            inside[top[g]] = True
    edges.key[:] = -np.inf
    edges.row[:] = len(keys)
    for i in range(len(keys)):
        g = groups[i]
        if inside[i] or keys[i] < edges.key[g]:
            continue
        if keys[i] > edges.key[g] or owners[i] < edges.row[g]:
            edges.key[g] = keys[i]
            edges.row[g] = owners[i]


@compiled()
def leads(key: float, row: int, group: int, edges: Edges) -> bool:
    """Whether a row comes before every other candidate outside in its group."""
    if key == -np.inf or key < edges.key[group]:
        return False
    return bool(key > edges.key[group] or row <= edges.row[group])
