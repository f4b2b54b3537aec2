"""Compiled inner loops of the image properties. Importing this module imports numba.

Without fastmath and without threads: results are exact or rounded in a fixed order, and many
threads may each run one.
"""

# mypy: disable-error-code="assignment,arg-type"
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightly_fs.compiled import compiled

UNIFORM_RESPONSE = 5
UNIFORM_PIXELS = 0.97


@compiled()
def one_pass(
    pixels: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return what one reading of the pixels gives.

    Returns:
        grey: (H, W) ITU-R 601-2 luma, rounded as Pillow does.
        channels: (2, 3) int64 sums and sums of squares.
        histogram: (256,) int64 of `grey`.
    """
    height, width, _ = pixels.shape
    grey = np.empty((height, width), np.uint8)
    channels = np.zeros((2, 3), np.int64)
    histogram = np.zeros(256, np.int64)
    planes = np.empty((3, width), np.uint8)  # loops over single planes are compiled to SIMD
    for y in range(height):
        row = pixels[y].reshape(-1)
        for x in range(width):
            planes[0, x], planes[1, x], planes[2, x] = row[3 * x], row[3 * x + 1], row[3 * x + 2]
        for channel in range(3):
            total = squares = np.int64(0)
            for x in range(width):
                value = np.int64(planes[channel, x])
                total += value
                squares += value * value
            channels[0, channel] += total
            channels[1, channel] += squares
        for x in range(width):
            luma = planes[0, x] * 19595 + planes[1, x] * 38470 + planes[2, x] * 7471
            grey[y, x] = np.uint8((luma + 0x8000) >> 16)
        for x in range(width):
            histogram[grey[y, x]] += 1
    return grey, channels, histogram


@compiled()
def edges(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Return sum and sum of squares of the filtered image; Pillow leaves the border unfiltered."""
    height, width = grey.shape
    total = 0
    squares = 0
    for y in range(height):
        border = y in (0, height - 1)
        for x in range(width):
            if border or x in (0, width - 1):
                value = np.int64(grey[y, x])
                total += value
                squares += value * value
        if border:
            continue
        for x in range(1, width - 1):
            around = np.int32(0)
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    around += np.int32(grey[y + dy, x + dx])
            value = min(max(np.int32(9) * np.int32(grey[y, x]) - around, 0), 255)
            total += value
            squares += value * value
    return total, squares


@compiled()
def uniform_rows(grey: NDArray[np.float32]) -> int:
    height, width = grey.shape
    rows = 0
    for y in range(1, height - 1):
        uniform = 0
        for x in range(1, width - 1):
            around = np.float32(0)
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    around += grey[y + dy, x + dx]
            response = np.float32(9) * grey[y, x] - around
            uniform += abs(response) < UNIFORM_RESPONSE
        rows += uniform > UNIFORM_PIXELS * (width - 2)
    return rows


@compiled()
def bilinear(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Sample bilinearly at pixel centres (PyTorch's `align_corners=False`)."""
    small = np.empty((height, width), np.float32)
    left = np.empty(width, np.int64)
    right = np.empty(width, np.int64)
    across = np.empty(width, np.float32)
    for x in range(width):
        at = max((x + 0.5) * grey.shape[1] / width - 0.5, 0.0)
        left[x] = int(at)
        right[x] = min(left[x] + 1, grey.shape[1] - 1)
        across[x] = at - left[x]
    for y in range(height):
        at = max((y + 0.5) * grey.shape[0] / height - 0.5, 0.0)
        top = grey[int(at)]
        bottom = grey[min(int(at) + 1, grey.shape[0] - 1)]
        down = np.float32(at - int(at))
        for x in range(width):
            upper = top[left[x]] + across[x] * (np.float32(top[right[x]]) - top[left[x]])
            lower = bottom[left[x]] + across[x] * (np.float32(bottom[right[x]]) - bottom[left[x]])
            small[y, x] = upper + down * (lower - upper)
    return small
