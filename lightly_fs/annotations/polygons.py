"""Polygons to masks and back: a pixel is inside when its centre is, by the even-odd rule.

A region is the places in the image, row by row, where inside and outside take turns: its run
lengths are the differences. No picture is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations import rle

_AT_ONCE = 1 << 20
"""Crossings of edges with rows that are in memory at a time."""

_Region = NDArray[np.int64]


def draw(polygons: Sequence[Sequence[float]], height: int, width: int) -> list[int]:
    """Return the run lengths of all that the polygons cover.

    What crosses itself is inside where a ray to it crosses the outline an odd number of times; what
    sticks out of the image is cut off. A polygon too thin to hold the centre of a pixel is the
    pixels of its corners.

    Args:
        polygons: Each x, y, x, y, … in pixels.
        height: Of the mask.
        width: Of the mask.

    Raises:
        ValueError: There is none, one has not three points, or all lie outside of the image.
    """
    for points in polygons:
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"a polygon of {len(points)} numbers, not two for each of 3 points")
    if not polygons:
        raise ValueError("no polygon")
    regions = [_region(np.reshape(points, (-1, 2)), height, width) for points in polygons]
    region = _union(regions) if len(regions) > 1 else regions[0]
    if not len(region):
        raise ValueError(f"outside of the image of {width} x {height} pixels")
    counts: list[int] = np.diff(region, prepend=0).tolist()
    left = height * width - int(region[-1])
    return [*counts, left] if left else counts


def _region(corners: NDArray[np.float64], height: int, width: int) -> _Region:
    region = np.zeros(0, np.int64)
    for places in _crossings(corners, height, width):
        region = _odd(np.concatenate((region, places)))
    if len(region):
        return region
    x, y = np.floor(corners).T
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixels = np.unique(y[within].astype(np.int64) * width + x[within].astype(np.int64))
    return _odd(np.concatenate((pixels, pixels + 1)))


def _crossings(corners: NDArray[np.float64], height: int, width: int) -> Iterator[_Region]:
    """Yield the first pixels right of where edges cross the middle of a row, some at a time."""
    first, last = corners, np.roll(corners, -1, axis=0)
    # From top to bottom, so that an edge that is gone there and back cancels to the bit.
    down = (first[:, 1] < last[:, 1])[:, None]
    top, bottom = np.where(down, first, last), np.where(down, last, first)
    start = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64)
    some = stop > start
    top, bottom, start, stop = top[some], bottom[some], start[some], stop[some]
    slope = (bottom[:, 0] - top[:, 0]) / (bottom[:, 1] - top[:, 1])
    group = np.cumsum(stop - start) // _AT_ONCE
    for part in np.split(np.arange(len(start)), np.flatnonzero(np.diff(group)) + 1):
        n = (stop - start)[part]
        edge = np.repeat(part, n)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(n) - n, n) + start[edge]
        x = top[edge, 0] + (row + 0.5 - top[edge, 1]) * slope[edge]
        yield row * width + np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)


def _odd(places: _Region) -> _Region:
    """Return the places that are there an odd number of times, ascending."""
    found, times = np.unique(places, return_counts=True)
    odd: _Region = found[times % 2 == 1]
    return odd


def _union(regions: Sequence[_Region]) -> _Region:
    places = np.concatenate(regions)
    steps = np.concatenate([1 - 2 * (np.arange(len(one)) % 2) for one in regions])
    found, which = np.unique(places, return_inverse=True)
    inside = np.cumsum(np.bincount(which, steps, minlength=len(found))) > 0
    return found[np.diff(inside, prepend=False)]


def outline(counts: Sequence[int], height: int, width: int) -> NDArray[np.int64]:
    """Return a mask as one polygon along the edges of its pixels; `draw` gives the mask back.

    Parts and holes are rings of their own, each joined to the next by a line that is gone there and
    back, so that it has no width.

    Args:
        counts: Run lengths of the mask.
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.

    Returns:
        (K, 2) x, y of the corners; none for an empty mask.

    Raises:
        ValueError: The counts do not add up to the number of pixels.
    """
    mask = rle.decode(counts, height, width)
    box = rle.bounding_box(counts, width)
    if box is None:
        return np.zeros((0, 2), np.int64)
    left, top, across, down = box
    rings = _rings(mask[top : top + down, left : left + across])
    if len(rings) > 1:
        there = [np.concatenate((ring, ring[:1])) for ring in rings]
        rings = [*there, *(ring[:1] for ring in rings[-2::-1])]
    joined: NDArray[np.int64] = np.concatenate(rings) + np.array((left, top))
    return joined


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the corners of each outline of a mask that has one.

    Corners that share a row are the ends of horizontal edges, two by two, and those that share a
    column of vertical ones: a ring takes turns. Where two pixels touch at a corner alone, it is
    there twice.
    """
    padded = np.pad(mask, 1)
    above, below = padded[:-1], padded[1:]
    left, right = above[:, :-1] ^ below[:, :-1], above[:, 1:] ^ below[:, 1:]
    touching = left & right & (above[:, :-1] ^ above[:, 1:])
    y, x = np.nonzero((left ^ right) | touching)
    twice = 1 + touching[y, x]
    y, x = np.repeat(y, twice), np.repeat(x, twice)
    n = len(y)
    by_column = np.argsort(x, kind="stable")
    across = [*range(n)]
    across[::2], across[1::2] = across[1::2], across[::2]
    partner = np.empty(n, np.int64)
    partner[by_column] = by_column[across]
    down = partner.tolist()
    corners = np.stack((x, y), axis=1)
    rings: list[NDArray[np.int64]] = []
    seen = bytearray(n)
    for start in range(n):
        ring: list[int] = []
        place = start
        while not seen[place]:
            other = place ^ 1
            seen[place] = seen[other] = True
            ring += (place, other)
            place = down[other]
        if ring:
            rings.append(corners[ring])
    return rings
