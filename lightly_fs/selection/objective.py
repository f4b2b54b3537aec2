"""The scale on which strategies meet: objectives in [1e-6, 1], multiplied as sums of logarithms.

A score is a product of objectives, each to the power of its strength. Strengths go up to ±1e9, so
products are compared by their logarithms, which never overflow. The logarithm is computed here, of
additions, multiplications and divisions alone: those of numpy and of the C library differ in the
last bit between processors. `group_kernels.logarithm` is the same definition compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 1e-6
"""The smallest objective: nothing is worth 0, or negative strengths would be infinite."""

SQRT_HALF = 0.7071067811865476
LN_2 = 0.6931471805599453
TERMS = 11
"""Of the series below; the first one left out is smaller than 1e-17 of the sum."""


def clipped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values, those outside [1e-6, 1] brought to its ends."""
    return np.minimum(np.maximum(values, FLOOR), 1.0)


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values clipped, with the precision of float32.

    Numbers that differ here differ by 6e-8 of their size, far more than the error of a logarithm:
    so an upper bound of a value always has a logarithm at least as large, to the last bit.
    """
    return np.maximum(clipped(values).astype(np.float32).astype(np.float64), FLOOR)


def logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return natural logarithms of positive values, off by less than 1e-15 of max(1, |log|).

    With x = m · 2^e and m between the roots of 1/2 and 2, log x = e · log 2 + 2 artanh s, where
    s = (m - 1) / (m + 1), and artanh s = s + s³/3 + s⁵/5 + …
    """
    mantissa, exponent = np.frexp(values)
    small = mantissa < SQRT_HALF
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = np.full_like(ratio, 1.0 / (2 * TERMS - 1))
    for term in range(TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    result: NDArray[np.float64] = (exponent - small) * LN_2 + (2.0 * ratio) * series
    return result
