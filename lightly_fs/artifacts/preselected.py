"""Samples that a datapool has selected, as a run's tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Preselected:
    """Samples that earlier runs selected, and how samples of a run lie to them.

    Attributes:
        filenames: P names, in the order in which they came to the datapool.
        vectors: (P, D) float32.
        properties: Values by property name, each (P,); NaN where one was not measured.
        nearest: (N,) int64 of each sample of the run the nearest of these, the first of equally
            near ones; -1 where there are none.
        distances: (N,) float32 L2 distance to that; inf where there are none.
    """

    filenames: Sequence[str]
    vectors: NDArray[np.float32]
    properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    nearest: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    distances: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.filenames)

    def of(self, rows: NDArray[np.int64]) -> Preselected:
        """Return the same beside some (M,) of the run's samples."""
        return replace(self, nearest=self.nearest[rows], distances=self.distances[rows])

    def only_nearest(self) -> Preselected:
        """Return only those that are the nearest to a sample of the run.

        As far as these samples are concerned the others might as well not be there: each of them
        is as far from the result as from the whole.
        """
        used, nearest = np.unique(self.nearest, return_inverse=True)
        return Preselected(
            [self.filenames[place] for place in used.tolist()],
            self.vectors[used],
            {name: values[used] for name, values in self.properties.items()},
            nearest.astype(np.int64),
            self.distances,
        )


@dataclass(frozen=True, eq=False)
class NearPreselected:
    """Candidates that were left out because the datapool has selected what is almost the same.

    Attributes:
        removed: (R,) int64 positions in the candidates, ascending.
        nearest: (R,) int64 positions in the preselected samples.
        distance: (R,) float32 L2 distance between the two.
    """

    removed: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distance: NDArray[np.float32]
