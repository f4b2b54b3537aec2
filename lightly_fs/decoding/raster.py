"""Decoded pixels: orient them, bring them to the size that is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """An image as decoded, maybe at a fraction of its size.

    Attributes:
        pixels: (h, w, 3) RGB, oriented.
        width: Of the whole image, oriented.
        height: Of the whole image, oriented.
    """

    pixels: Pixels
    width: int
    height: int

    @property
    def is_full(self) -> bool:
        return self.pixels.shape[:2] == (self.height, self.width)


_ORIENT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


def oriented(pixels: Pixels, orientation: int, width: int, height: int) -> Raster:
    """Turn pixels by their EXIF orientation (1 to 8; anything else is ignored).

    Args:
        pixels: (h, w, 3) as stored.
        orientation: Value of the EXIF tag.
        width: Of the whole image, as stored.
        height: Of the whole image, as stored.
    """
    if orientation in _ORIENT:
        pixels = np.ascontiguousarray(_ORIENT[orientation](pixels))
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return Raster(pixels, width, height)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize antialiased (bilinear) in integers; the aspect ratio is the caller's.

    Args:
        pixels: (h, w, 3).
        height: Rows of the result.
        width: Columns of the result.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    # The batch axis goes on first: only then do the strides say channels-last, on which resizing is
    # a third faster and its result needs no copy to become (height, width, 3) again.
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    small = interpolate(image, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())


def with_short_side(pixels: Pixels, side: int) -> Pixels:
    """Shrink so that the shorter side is `side`; smaller images stay as they are."""
    height, width = pixels.shape[:2]
    shrink = side / min(height, width)
    if shrink >= 1:
        return pixels
    return resized(pixels, max(side, round(height * shrink)), max(side, round(width * shrink)))


def with_long_side(pixels: Pixels, side: int) -> Pixels:
    """Shrink so that the longer side is `side`; smaller images stay as they are."""
    height, width = pixels.shape[:2]
    shrink = side / max(height, width)
    if shrink >= 1:
        return pixels
    return resized(pixels, max(1, round(height * shrink)), max(1, round(width * shrink)))
