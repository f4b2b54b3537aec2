"""Run-length encoded masks: row-major counts of 0s and 1s in turn, starting with the 0s.

COCO counts column by column, and may write the counts as a text: 5 bits a letter, the lowest first,
and from the fourth count on the difference to the one before last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the run lengths of a mask.

    Args:
        mask: (H, W) or any shape, taken row by row.

    Returns:
        (K,) counts; the first is that of leading 0s and may be 0, no other one is.
    """
    flat = np.asarray(mask, np.bool_).ravel()
    if not flat.size:
        return np.zeros(0, np.int64)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(changes, prepend=0, append=flat.size)
    return np.concatenate(([0], counts)) if flat[0] else counts


def decode(counts: Sequence[int] | NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask of run lengths as (height, width) bool.

    Raises:
        ValueError: The counts do not add up to the number of pixels.
    """
    runs = np.asarray(counts, np.int64)
    total = int(runs.sum())
    if total != height * width or (runs < 0).any():
        raise ValueError(
            f"the counts add up to {total} pixels, but the mask has {height} x {width}; "
            "count every pixel row by row, starting with the zeros"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width)


def area(counts: Sequence[int] | NDArray[np.int64]) -> int:
    """Return how many pixels of a mask are set."""
    return int(np.asarray(counts, np.int64)[1::2].sum())


def bounding_box(
    counts: Sequence[int] | NDArray[np.int64], width: int
) -> tuple[int, int, int, int] | None:
    """Return the pixels x, y, w, h around the set pixels of a mask, or None when none is set.

    Args:
        counts: Its run lengths.
        width: Of the mask, in pixels.
    """
    ends = np.cumsum(np.asarray(counts, np.int64))
    starts, stops = ends[:-1][::2], ends[1:][::2]
    some = stops > starts
    starts, last = starts[some], stops[some] - 1
    if not len(starts):
        return None
    top, bottom = int(starts[0] // width), int(last[-1] // width)
    # A run that goes on in the next row touches both sides.
    if (starts // width != last // width).any():
        left, right = 0, width - 1
    else:
        left, right = int((starts % width).min()), int((last % width).max())
    return left, top, right - left + 1, bottom - top + 1


def transposed(
    counts: Sequence[int] | NDArray[np.int64], height: int, width: int
) -> NDArray[np.int64]:
    """Return the run lengths of the transposed mask: those column by column, as COCO has them.

    Args:
        counts: Run lengths of a mask, row by row.
        height: Of that mask, in pixels.
        width: Of that mask, in pixels.

    Raises:
        ValueError: The counts do not add up to the number of pixels.
    """
    return encode(decode(counts, height, width).T)


def compress(counts: Sequence[int] | NDArray[np.int64]) -> str:
    """Return run lengths as the text that COCO's `counts` may be."""
    values = np.array(counts, np.int64)
    values[3:] -= np.asarray(counts, np.int64)[1:-2]
    letters: list[int] = []
    for value in values.tolist():
        left = value
        while not -16 <= left < 16:
            letters.append(48 + (left & 31 | 32))
            left >>= 5
        letters.append(48 + (left & 31))
    return bytes(letters).decode("ascii")


def decompress(text: str) -> list[int]:
    """Return the run lengths of such a text.

    Raises:
        ValueError: It is not such a text.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{letter!r} after {len(counts)} run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("it ends within a run length")
    return counts
