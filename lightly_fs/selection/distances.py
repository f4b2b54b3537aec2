"""The squared L2 distance that decides every comparison, in numpy.

Defined to the last bit, so that picks never depend on threads, blocks or the processor: float64;
four partial sums of (a[d] - b[d])², the term of dimension d in sum d mod 4, in the order of d; in
the end (s0 + s1) + (s2 + s3). `kernels.squared_distance` is the same definition compiled.

Estimates are made in float32, as |x|² + |c|² - 2 x·c, and are off by at most `slack` times
|x|² + |c|² (`rounded_slack` with products in bfloat16). They only decide which distances need not
be measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 4
UNIT = 1.001
"""What still counts as the length of a unit vector."""
SMALL_VALUES = 4_000_000
SMALL_TERMS = 1_000_000_000


def is_small(vectors: NDArray[np.float32], n_centres: int) -> bool:
    """Whether numpy compares all pairs (in about a second) sooner than numba is loaded."""
    return vectors.size <= SMALL_VALUES and vectors.size * n_centres <= SMALL_TERMS


def in_lanes(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (N, D) vectors as (ceil(D / 4), 4, N) float64, padded with zeros."""
    count, dimensions = vectors.shape
    groups = -(-dimensions // LANES)
    padded = np.zeros((groups * LANES, count))
    padded[:dimensions] = vectors.T
    return padded.reshape(groups, LANES, count)


def squared_distances(lanes: NDArray[np.float64], to: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the (N,) squared distances of vectors in lanes to one (D,) vector."""
    difference = lanes - in_lanes(to[None])
    difference *= difference
    # An outer axis is reduced one slice after the other: the order that the definition asks for.
    sums = np.add.reduce(difference, axis=0)
    total: NDArray[np.float64] = (sums[0] + sums[1]) + (sums[2] + sums[3])
    return total


def squared_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N,) |x|² for estimates."""
    lengths: NDArray[np.float32] = np.einsum("nd,nd->n", vectors, vectors)
    return lengths


def slack(dimensions: int, significant_bits: int = 24) -> float:
    """Return how far an estimate in float32 (float64: 53 bits) is off, relative to |x|² + |c|².

    A dot product summed in any order errs by at most g |x| |c|, g about D · 2^-24 (Higham, Accuracy
    and Stability of Numerical Algorithms, §3.1), and 2 |x| |c| <= |x|² + |c|². Rounding the norms,
    the mean and the sum adds less than 12 more.
    """
    return 1.01 * (dimensions + 12) * 2.0**-significant_bits


def rounded_slack(dimensions: int) -> float:
    """Return the same for products of bfloat16 that are summed in float32 and rounded to bfloat16.

    Both factors and the result have 8 significant bits, so each is off by at most 2^-8 of itself:
    the product by (1 + 2^-8)³ - 1 of |x| |c|, about 1.2 %, beside the roundings of `slack`.
    """
    return (1 + 2.0**-8) ** 3 - 1 + 1.02 * slack(dimensions)


def farthest_from_mean(vectors: NDArray[np.float32]) -> int:
    """Return the row farthest from the mean, the lowest of equally far ones.

    Measured as |N x - sum|, without the division, so that equal distances on a grid stay equal.
    """
    count, dimensions = vectors.shape
    total = np.add.reduce(vectors, axis=0, dtype=np.float64)
    mean = total / count
    lengths = squared_lengths(vectors)
    estimate = lengths - 2 * (vectors @ mean.astype(np.float32))
    margin = slack(dimensions) * float(lengths.max() + mean @ mean) + 1e-36
    far = np.flatnonzero(estimate >= estimate.max() - 2 * margin)
    squared = np.empty(len(far))
    for start in range(0, len(far), 4096):
        rows = far[start : start + 4096]
        squared[start : start + 4096] = squared_distances(in_lanes(vectors[rows]) * count, total)
    return int(far[squared.argmax()])


def from_mean(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N,) squared distances |N x - sum|², each N² times that to the mean."""
    count = len(vectors)
    total = np.add.reduce(vectors, axis=0, dtype=np.float64)
    squared = np.empty(count)
    for start in range(0, count, 4096):
        part = slice(start, start + 4096)
        squared[part] = squared_distances(in_lanes(vectors[part]) * count, total)
    return squared


def largest_distance(*groups: NDArray[np.float32]) -> float:
    """Return 2, the largest distance of unit vectors; of longer ones, twice the longest length."""
    longest = 0.0
    for vectors in groups:
        if not len(vectors):
            continue
        estimate = squared_lengths(vectors)
        margin = slack(vectors.shape[1]) * float(estimate.max()) + 1e-36
        if float(estimate.max()) + margin <= UNIT * UNIT:
            continue
        longer = np.flatnonzero(estimate >= estimate.max() - 2 * margin)
        for start in range(0, len(longer), 4096):
            lanes = in_lanes(vectors[longer[start : start + 4096]])
            squared = squared_distances(lanes, np.zeros(vectors.shape[1]))
            longest = max(longest, float(np.sqrt(squared.max())))
    return 2.0 if longest <= UNIT else 2.0 * longest
