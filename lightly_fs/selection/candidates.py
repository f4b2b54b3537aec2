"""What a selection method is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """Samples to choose from, in the order of their names.

    Attributes:
        vectors: (N, D) float32, contiguous, finite.
        filenames: N names, ascending.
        preselected: (P, D) float32 samples that are selected already.
        limit: How many to choose at most, 0 to N.
        min_distance: Smallest distance between two selected samples; 0 for none.
    """

    vectors: NDArray[np.float32]
    filenames: Sequence[str]
    preselected: NDArray[np.float32]
    limit: int
    min_distance: float

    def selection(self, picks: NDArray[np.int64], squared: NDArray[np.float64]) -> Selection:
        """Return the picks with their distances and the condition that ended them."""
        stopped_by = "n_samples" if len(picks) == self.limit else "min_distance"
        return Selection(
            indices=picks,
            distances=np.sqrt(squared).astype(np.float32),
            stopped_by="all" if len(picks) == len(self.vectors) else stopped_by,
        )
