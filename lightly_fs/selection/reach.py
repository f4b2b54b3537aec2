"""How far every candidate is from what is selected, kept up to date pick by pick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import diversity
from lightly_fs.selection.distances import from_mean
from lightly_fs.selection.nearest import ToNearest
from lightly_fs.selection.objects import largest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.score import Spread


class Reach:
    """What a `Spread` looks at: of each candidate the distance to what is selected.

    Of candidates with objects it is the largest of theirs, 0 without any.

    Attributes:
        best: (N,) float64 squared distances, inf before anything is selected.
        started: Whether anything (with an object) is selected.
    """

    def __init__(self, spread: Spread, *, compiled: bool) -> None:
        self.spread = spread
        self.members = ToNearest(spread.vectors, compiled=compiled)
        self.started = len(spread.preselected) > 0
        if self.started:
            self.members.show_all(spread.preselected)
        self.best = self._of_candidates(self.members.best).copy()

    def show(self, row: int) -> NDArray[np.int64]:
        """Count a pick; return the rows whose distance has changed."""
        for member in self.spread.members(row):
            self.members.show(member)
            self.started = True
        now = self._of_candidates(self.members.best)
        changed = np.flatnonzero(now < self.best)
        self.best[changed] = now[changed]
        return changed

    def from_mean(self) -> NDArray[np.float64]:
        """Return (N,) squared distances to the mean, each times the squared number of vectors."""
        return self._of_candidates(from_mean(self.spread.vectors))

    def objectives(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the diversities of the rows."""
        if self.started:
            return diversity.objectives(self.best[rows], self.spread.largest)
        scale = self.spread.largest * max(len(self.spread.vectors), 1)
        return diversity.objectives(self.from_mean()[rows], scale)

    def _of_candidates(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        offsets = self.spread.offsets
        return squared if offsets is None else largest_of(squared, offsets)
