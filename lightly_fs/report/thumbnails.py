"""The images of a report, read once each and kept small."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SIDE = 288
"""Longer side of a thumbnail in pixels: 4 cm in print at 180 dpi."""
_READERS = 8


def fetch(
    filenames: Sequence[str], image: Callable[[str, int], Pixels | None]
) -> dict[str, Pixels]:
    """Return the thumbnails that can be had, in the order given; several are read at once.

    They are read by name, so that the frames of a video are read in one pass.
    """
    if not filenames:
        return {}
    by_name = sorted(filenames)
    with ThreadPoolExecutor(min(_READERS, len(filenames)), "report-images") as readers:
        found = readers.map(lambda filename: image(filename, SIDE), by_name)
        pixels = dict(zip(by_name, found, strict=True))
    return {
        filename: np.ascontiguousarray(one)
        for filename in filenames
        if (one := pixels[filename]) is not None
    }


def encode(pixels: Pixels, form: str, side: int = SIDE) -> bytes:
    """Return the thumbnail as `JPEG`, `WEBP` or `PNG`, at most `side` pixels long."""
    picture = Image.fromarray(pixels)
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    options = {"quality": 80} if form != "PNG" else {}
    picture.save(buffer, form, **options)
    return buffer.getvalue()
