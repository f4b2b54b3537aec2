"""`SIMILARITY`: prefer samples that look like one of the query samples.

The objective is the similarity to the nearest query, max over q of (1 + cos(x, q)) / 2. It is the
query relevance of facility-location mutual information (Kothawade, Kaushal, Ramakrishnan, Bilmes &
Iyer, *PRISM: A Rich Class of Parameterized Submodular Information Measures for Guided Data Subset
Selection*, AAAI 2022), and the same for every step. For unit vectors (1 + cos) / 2 = 1 - d² / 4,
which is how it is computed, and what it is for others (with their largest distance for 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import is_small, largest_distance
from lightly_fs.selection.nearest import Nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


def objectives(
    vectors: NDArray[np.float32], query: NDArray[np.float32], block: int = 4096
) -> NDArray[np.float64]:
    """Return (N,) similarities in [0, 1] of (N, D) vectors to the nearest of (Q, D) queries."""
    nearest = Nearest(compiled=not is_small(vectors, len(query)))
    largest = largest_distance(vectors, query)
    result = np.empty(len(vectors))
    for start in range(0, len(vectors), block):
        part = slice(start, start + block)
        result[part] = nearest.squared(vectors[part], query)[0]
    return np.maximum(1.0 - result / (largest * largest), 0.0)
