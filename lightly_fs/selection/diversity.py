"""`DIVERSITY` and `coreset`: prefer the sample farthest from all that are selected.

Greedy k-center (Gonzalez 1985), as core-set selection in Sener & Savarese (2018). Use it to cover
everything that the dataset shows with as few samples as possible; it picks rare samples early.

The objective is the distance to the nearest selected sample over the largest that there can be.
Of a sample with objects it is the largest of theirs, which only shrinks too (see `blocks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.kcenter import farthest_first
from lightly_fs.selection.objective import rounded
from lightly_fs.types import Progress, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


def select(candidates: Candidates, *, seed: int, progress: Progress) -> Selection:  # noqa: ARG001
    """Select by farthest-first traversal; the seed decides nothing."""
    return candidates.selection(*farthest_first(candidates, progress))


def objectives(squared: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Return distance over largest distance (2 for unit vectors), from squared distances."""
    return rounded(np.sqrt(squared) / largest)
