"""How far each pick is from those before it, for selections that do not measure it themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import in_lanes, is_small, squared_distances
from lightly_fs.selection.nearest import Nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS_AT_ONCE = 256


def pick_distances(
    vectors: NDArray[np.float32], preselected: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the (K,) L2 distance of each pick to the nearest sample selected before it.

    It is inf for the first pick without preselected samples.

    Args:
        vectors: (K, D) float32 of the picks, in the order they were chosen.
        preselected: (P, D) samples that were selected before all picks.
    """
    vectors = np.ascontiguousarray(vectors)
    given = vectors[:0] if preselected is None else np.ascontiguousarray(preselected)
    nearest = Nearest(compiled=not is_small(vectors, len(given) + len(vectors)))
    squared = np.full(len(vectors), np.inf)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        best, _ = nearest.squared(block, vectors[:start])
        np.minimum(best, nearest.squared(block, given)[0], out=best)
        lanes = in_lanes(block)
        for place, vector in enumerate(block):
            later = best[place + 1 :]
            np.minimum(later, squared_distances(lanes[:, :, place + 1 :], vector), out=later)
        squared[start : start + len(block)] = best
    distances: NDArray[np.float32] = np.sqrt(squared).astype(np.float32)
    return distances
