"""Pieces of images as boxes of whole pixels: predicted objects with padding, and tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations import rle
from lightly_fs.annotations.objects import Predictions
from lightly_fs.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Crops:
    """K pieces of N images, in the order of the images.

    Attributes:
        samples: (K,) int64 image of each crop.
        parts: (K,) int64 object row of the predictions, or the tile's number within its image.
        boxes: (K, 4) int64 left, top, right, bottom in pixels, right and bottom excluded; inside
            the image, and never empty.
        left_out: (L,) int64 object rows that have no box, or none inside the image.
    """

    samples: NDArray[np.int64]
    parts: NDArray[np.int64]
    boxes: NDArray[np.int64]
    left_out: NDArray[np.int64]


def object_crops(
    predictions: Predictions, sizes: NDArray[np.int64], *, padding: float = 0.0
) -> Crops:
    """Return the boxes of all objects, extended and clipped to the image.

    An object without a box has that of its mask, or of the keypoints that were found.

    Args:
        predictions: Of N samples.
        sizes: (N, 2) width and height of the images in pixels; 0 where there is no image.
        padding: A box of w x h becomes (1 + padding) w x (1 + padding) h around the same centre.

    Raises:
        ConfigError: `padding` is negative or not finite.
    """
    if not 0 <= padding < np.inf:
        raise ConfigError(f"padding={padding} must be 0 or more", hint="0.1 adds a tenth in all")
    corners = _boxes(predictions, sizes)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite boxes are left out below
        margin = corners[:, 2:] * (padding / 2)
        corners[:, 2:] += corners[:, :2] + margin
        corners[:, :2] -= margin
    limits = np.tile(sizes[predictions.samples].astype(np.float64), 2)
    known = np.asarray(np.isfinite(corners).all(axis=1))
    corners = np.clip(corners, -1e12, 1e12)
    # Whole pixels around it; a box that ends at a pixel's edge ends with that pixel.
    corners[:, :2] = np.floor(np.round(corners[:, :2], 6))
    corners[:, 2:] = np.ceil(np.round(corners[:, 2:], 6))
    boxes = np.clip(np.where(known[:, None], corners, 0), 0, limits).astype(np.int64)
    some = known & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Crops(
        samples=predictions.samples[some],
        parts=np.flatnonzero(some),
        boxes=boxes[some],
        left_out=np.flatnonzero(~some),
    )


def _boxes(predictions: Predictions, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (M, 4) x, y, width, height, those of masks and keypoints filled in."""
    boxes = predictions.boxes.copy()
    for row in np.flatnonzero(np.isnan(boxes[:, 0])).tolist():
        if len(mask := predictions.mask(row)):
            width, height = sizes[predictions.samples[row]]
            if int(mask.sum()) == width * height and (box := rle.bounding_box(mask, int(width))):
                boxes[row] = box
            continue
        points = predictions.keypoints_of(row)
        found = points[points[:, 2] > 0, :2]
        if len(found):
            boxes[row] = (*found.min(axis=0), *(found.max(axis=0) - found.min(axis=0)))
    return boxes


def tile_crops(
    sizes: NDArray[np.int64], *, num_rows: int, num_cols: int, overlap: float = 0.0
) -> Crops:
    """Return the tiles of a `TILING` task: all of one size, together they cover the image.

    Args:
        sizes: (N, 2) width and height of the images in pixels; 0 where there is no image.
        num_rows: Tiles from top to bottom, at least 1.
        num_cols: Tiles from left to right, at least 1.
        overlap: Share of a tile that the next one shows too, 0 up to 1.

    Returns:
        Row by row, the tile in row r and column c is part r x num_cols + c. An image with fewer
        pixels than tiles shows some of them twice.

    Raises:
        ConfigError: A number is out of range.
    """
    if num_rows < 1 or num_cols < 1:
        raise ConfigError(f"num_rows={num_rows} and num_cols={num_cols} must be at least 1")
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap={overlap} must be at least 0 and less than 1")
    images = np.flatnonzero((sizes > 0).all(axis=1))
    left, right = _spans(sizes[images, 0], num_cols, overlap)
    top, bottom = _spans(sizes[images, 1], num_rows, overlap)
    shape = (len(images), num_rows, num_cols)
    boxes = np.empty((*shape, 4), np.int64)
    boxes[..., 0], boxes[..., 2] = left[:, None, :], right[:, None, :]
    boxes[..., 1], boxes[..., 3] = top[:, :, None], bottom[:, :, None]
    n_tiles = num_rows * num_cols
    return Crops(
        samples=np.repeat(images, n_tiles),
        parts=np.tile(np.arange(n_tiles), len(images)),
        boxes=boxes.reshape(-1, 4),
        left_out=np.zeros(0, np.int64),
    )


def _spans(
    lengths: NDArray[np.int64], count: int, overlap: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (N, count) starts and ends that cover 0 … length; without overlap they touch."""
    tile = lengths[:, None] / (count - (count - 1) * overlap)
    starts = np.arange(count) * (1 - overlap) * tile
    # Rounded alike, the end of one tile and the start of the next are the same pixel.
    first = np.floor(np.round(starts, 6) + 0.5).astype(np.int64)
    last = np.floor(np.round(starts + tile, 6) + 0.5).astype(np.int64)
    first = np.minimum(first, lengths[:, None] - 1)
    last = np.clip(last, first + 1, lengths[:, None])
    return first, last
