"""Samples that a datapool has selected, as a run's tables show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Preselected:
    """Samples that earlier runs selected.

    Attributes:
        filenames: P names, in the order in which they came to the datapool.
        vectors: (P, D) float32.
    """

    filenames: Sequence[str]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.filenames)


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
