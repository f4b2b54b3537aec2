"""Measure an image's pixels in one pass. Importing this module imports numba.

All sums are sums of integers, so a value depends on the pixels alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightly_fs.properties.kernels import bilinear, edges, one_pass, uniform_rows

UNIFORM_MAX_HEIGHT = 400


def measure(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Return every property of `lightly_fs.properties` that pixels alone decide.

    Args:
        pixels: (H, W, 3) RGB, oriented.
    """
    grey, channels, histogram = one_pass(np.ascontiguousarray(pixels))
    sums, squares = channels.tolist()
    mean, std = _mean_std(sum(sums), sum(squares), 3 * grey.size)
    luminance, contrast = _lightness(histogram)
    values = {
        "sharpness": _mean_std(*edges(grey), grey.size)[1],
        "snr": mean / std if std > 0 else 0.0,
        "luminance": luminance,
        "contrast": contrast,
    }
    for colour, total, square in zip(("Red", "Green", "Blue"), sums, squares, strict=True):
        channel = _mean_std(total, square, grey.size)
        values[f"mean{colour}"], values[f"std{colour}"] = channel[0] / 255, channel[1] / 255
    values["uniformRowRatio"] = uniform_row_ratio(grey)
    return values


def uniform_row_ratio(grey: NDArray[np.uint8]) -> float:
    """Return the share of rows of which more than 97 % of the pixels show no structure.

    After the published port of LightlyOne's `row_uniformity`: shrink to 400 rows (bilinear, not
    antialiased), 3x3 Laplacian without border, a response below 5 of 255 is no structure.

    Args:
        grey: (H, W).
    """
    height, width = grey.shape
    if height < 3 or width < 3:
        return 0.0
    if height <= UNIFORM_MAX_HEIGHT:
        return float(uniform_rows(grey.astype(np.float32)) / (height - 2))
    shrink = UNIFORM_MAX_HEIGHT / height
    small = bilinear(grey, int(height * shrink), max(3, int(width * shrink)))
    return float(uniform_rows(small) / (small.shape[0] - 2))


def _lightness(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean and standard deviation of L* (CIE 1976) over the grey values.

    The standard deviation of lightness is the RMS contrast of Peli, Contrast in complex images
    (JOSA A 7(10), 1990), on the perceptual scale.
    """
    weights = histogram / histogram.sum()
    mean = float(weights @ _LIGHTNESS)
    return mean, math.sqrt(float(weights @ (_LIGHTNESS - mean) ** 2))


def _lightness_of_grey() -> NDArray[np.float64]:
    """Return L* of the sRGB greys 0..255 (IEC 61966-2-1, then CIE 15)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    root = np.where(linear > (6 / 29) ** 3, np.cbrt(linear), linear / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.asarray(116 * root - 16, dtype=np.float64)


_LIGHTNESS = _lightness_of_grey()


def _mean_std(total: int, squares: int, count: int) -> tuple[float, float]:
    """Return mean and population standard deviation from exact sums of integers.

    count² var = count Σx² - (Σx)² is computed in Python's integers: nothing cancels or overflows.
    """
    total, squares = int(total), int(squares)
    return total / count, math.sqrt(count * squares - total * total) / count
