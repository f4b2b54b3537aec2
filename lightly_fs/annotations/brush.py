"""Brush masks of Label Studio: run lengths of RGBA bytes, packed bit by bit.

A header has the number of bytes (32 bits), the bits of a value (5) and four sizes of counts (4
each), the last two less one. Then each run has a bit (1: one value, 0: as many values as counted),
which of the sizes its count has (2 bits), the count less one, and its value or values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightly_fs.annotations import rle

_CHANNELS = 4
_SIZES = (3, 4, 8, 16)
_MOST_PIXELS = 1 << 26
"""Of a mask that is read: four bytes each are in memory at a time."""


def encode(counts: Sequence[int]) -> bytes:
    """Return the brush mask of run lengths, row by row; set pixels are white and opaque."""
    parts = [f"{_CHANNELS * sum(counts):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for place, count in enumerate(counts):
        value = "11111111" if place % 2 else "00000000"
        left = _CHANNELS * count
        while left:
            run = min(left, 1 << _SIZES[-1])
            which = next(n for n, size in enumerate(_SIZES) if run <= 1 << size)
            parts.append(f"1{which:02b}{run - 1:0{_SIZES[which]}b}{value}")
            left -= run
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def decode(data: bytes, height: int, width: int) -> list[int]:
    """Return the run lengths, row by row, of the pixels that are not transparent.

    Raises:
        ValueError: It is no brush mask, or not one of this size.
    """
    if not 0 < height * width <= _MOST_PIXELS:
        raise ValueError(f"a mask of {width} x {height} pixels, at most {_MOST_PIXELS:,} are read")
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    if len(bits) < 53 or int(bits[32:37], 2) != 7:
        raise ValueError("no header of values of 8 bits")
    total = int(bits[:32], 2)
    if total != _CHANNELS * height * width:
        raise ValueError(f"{total / _CHANNELS:g} pixels, not {height * width}")
    sizes = [int(bits[place : place + 4], 2) + 1 for place in range(37, 53, 4)]
    values = bytearray()
    place = 53
    while len(values) < total:
        if place + 3 > len(bits):
            raise ValueError(f"it ends after {len(values)} of {total} bytes")
        size = sizes[int(bits[place + 1 : place + 3], 2)]
        count = int(bits[place + 3 : place + 3 + size] or "0", 2) + 1
        n = 1 if bits[place] == "1" else count
        place += 3 + size
        if place + 8 * n > len(bits):
            raise ValueError(f"it ends after {len(values)} of {total} bytes")
        read = int(bits[place : place + 8 * n], 2).to_bytes(n, "big")
        values += read * (count if n == 1 else 1)
        place += 8 * n
    if len(values) > total:
        raise ValueError(f"{len(values)} bytes instead of {total}")
    alpha = np.frombuffer(values, np.uint8)[_CHANNELS - 1 :: _CHANNELS]
    counts: list[int] = rle.encode(alpha > 0).tolist()
    return counts
