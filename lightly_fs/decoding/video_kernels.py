"""Compiled inner loop of shrinking video frames. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiled(function: Kernel) -> Kernel:
    """Compile, and keep the result on disk where there is a place for it."""
    try:
        return cast("Kernel", numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither the package's directory nor the home can be written
        return cast("Kernel", numba.njit(nogil=True)(function))


@_compiled
def halve(plane: NDArray[Any], small: NDArray[Any]) -> None:
    """Write the rounded averages of all squares of 2x2 samples.

    Args:
        plane: (2h, 2w) uint8 or uint16.
        small: (h, w) of the same type.
    """
    height, width = small.shape
    for y in range(height):
        above, below, row = plane[2 * y], plane[2 * y + 1], small[y]
        for x in range(width):
            left = np.uint32(above[2 * x]) + np.uint32(below[2 * x])
            right = np.uint32(above[2 * x + 1]) + np.uint32(below[2 * x + 1])
            row[x] = (left + right + np.uint32(2)) >> np.uint32(2)
