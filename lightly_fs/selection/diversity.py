"""`coreset`: the next sample is always the one farthest from all that are selected.

Greedy k-center (Gonzalez 1985), as core-set selection in Sener & Savarese (2018). Use it to cover
everything that the dataset shows with as few samples as possible; it picks rare samples early.
"""

from __future__ import annotations

from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.kcenter import farthest_first
from lightly_fs.types import Progress, Selection


def select(candidates: Candidates, *, seed: int, progress: Progress) -> Selection:  # noqa: ARG001
    """Select by farthest-first traversal; the seed decides nothing."""
    return candidates.selection(*farthest_first(candidates, progress))
