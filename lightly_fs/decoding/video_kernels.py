"""Compiled inner loops of shrinking video frames. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.compiled import compiled


@compiled()
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


@compiled()
def interleave(
    red: NDArray[np.uint8], green: NDArray[np.uint8], blue: NDArray[np.uint8], pixels: NDArray[Any]
) -> None:
    """Write three planes, whose rows may be longer, as pixels.

    Args:
        red: (h, w or more).
        green: Likewise.
        blue: Likewise.
        pixels: (h, w, 3) uint8.
    """
    height, width, _ = pixels.shape
    for y in range(height):
        r, g, b, row = red[y], green[y], blue[y], pixels[y]
        for x in range(width):
            row[x, 0], row[x, 1], row[x, 2] = r[x], g[x], b[x]
