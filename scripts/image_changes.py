"""Changed copies of images, as near duplicates come about: cropped, mirrored, re-compressed, …"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from PIL import Image

from lightly_fs.decoding.raster import Pixels, resized

Change = Callable[[Pixels, np.random.Generator], Pixels]


def crop(pixels: Pixels, rng: np.random.Generator, *, least: float, most: float) -> Pixels:
    """A window of the image's own aspect ratio that keeps `least` to `most` of its area."""
    side = float(np.sqrt(rng.uniform(least, most)))
    height, width = pixels.shape[:2]
    rows, columns = max(1, round(height * side)), max(1, round(width * side))
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])


def flip(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 - nothing to draw
    return np.ascontiguousarray(pixels[:, ::-1])


def recompress(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """JPEG of quality 30 to 70 and back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(30, 71)))
    with Image.open(buffer) as image:
        return np.array(image.convert("RGB"))


def relight(pixels: Pixels, rng: np.random.Generator, *, most: float = 0.2) -> Pixels:
    """Brightness and contrast, each by up to 20 % up or down."""
    brightness, contrast = rng.uniform(1 - most, 1 + most, 2)
    mean = float(pixels.mean())
    changed = ((pixels.astype(np.float32) - mean) * contrast + mean) * brightness
    relit: Pixels = changed.round().clip(0, 255).astype(np.uint8)
    return relit


def halve(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 - nothing to draw
    """Half the width and height."""
    height, width = pixels.shape[:2]
    return resized(pixels, max(1, height // 2), max(1, width // 2))


CHANGES: dict[str, Change] = {
    "crop": partial(crop, least=0.8, most=0.95),
    "flip": flip,
    "jpeg": recompress,
    "light": relight,
    "half": halve,
}
"""What a near duplicate may be, by name."""

STRONG: Change = partial(crop, least=0.5, most=0.5)
"""Half of the image: still the same photograph, but no near duplicate."""


def changed(
    images: Sequence[Pixels], rows: Iterable[int], change: Change, seed: int = 0
) -> list[Pixels]:
    """Copies of `rows`; each depends on its image, its row and the seed alone."""
    return [change(images[row], np.random.default_rng([seed, row])) for row in rows]
