"""`THRESHOLD`: keep only samples whose number satisfies a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.strategies import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HOLDS = {
    Operation.SMALLER: np.less,
    Operation.SMALLER_EQUAL: np.less_equal,
    Operation.BIGGER: np.greater,
    Operation.BIGGER_EQUAL: np.greater_equal,
}


def keeps(values: NDArray[np.float64], operation: Operation, threshold: float) -> NDArray[np.bool_]:
    """Return (N,) whether each value is kept."""
    kept: NDArray[np.bool_] = _HOLDS[operation](values, threshold)
    return kept
