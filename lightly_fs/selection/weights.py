"""`WEIGHTS`: prefer samples with high numbers, or keep their sum within a range.

The objective is the number on a scale from the smallest to the largest among the candidates, the
same for every step. With a target range it is instead how near the sum stays to its way into that
range: after pick j of n the sum should lie in [min_sum, max_sum] · j / n; the objective is 1 for
what leads there, and falls linearly with the distance from it, to 0 at the spread of the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVERY = slice(None)


def objectives(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) numbers in [0, 1]: min-max scaled; 1 when all are the same."""
    half = values * 0.5  # the span of two finite numbers may not be finite
    if not len(half) or half.min() == half.max():
        return np.ones(len(half))
    scaled: NDArray[np.float64] = (half - half.min()) / (half.max() - half.min())
    return scaled


@dataclass
class SumRange:
    """The way of a sum into its target range; changes with every pick.

    Attributes:
        values: (N,) numbers.
        target: (min_sum, max_sum).
        n_picks: How many picks there will be.
    """

    values: NDArray[np.float64]
    target: tuple[float, float]
    n_picks: int
    strength: float
    total: float = 0.0
    made: int = 0

    def fresh(self) -> SumRange:
        """Return it as it was before the first pick."""
        return SumRange(self.values, self.target, self.n_picks, self.strength)

    def objectives(self, rows: slice | NDArray[np.int64] = EVERY) -> NDArray[np.float64]:
        """Return the rows' objectives in [0, 1] of being picked next."""
        share = (self.made + 1) / self.n_picks
        low, high = self.target[0] * share, self.target[1] * share
        sums = self.values[rows] + self.total
        gap = np.maximum(np.maximum(low - sums, sums - high), 0.0)
        spread = float(self.values.max() - self.values.min()) or 1.0
        return np.maximum(1.0 - gap / spread, 0.0)

    def allows(self) -> NDArray[np.bool_]:
        """Return (N,) whether the sum stays below its largest value."""
        allowed: NDArray[np.bool_] = self.values + self.total <= self.target[1]
        return allowed

    def add(self, row: int) -> None:
        """Count a pick."""
        self.total += float(self.values[row])
        self.made += 1
