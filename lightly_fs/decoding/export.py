"""Copies of images in the size and format that a run's `output_image_*` keys ask for."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

from PIL import Image

from lightly_fs.config.run import ImageSize, RunConfig
from lightly_fs.decoding.budget import PIXELS
from lightly_fs.decoding.images import decode_full

Buffer = bytes | memoryview
_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_QUALITY = 95
_LONGEST = {"PNG": 65_535, "JPEG": 65_500, "WEBP": 16_383}
"""Pixels of a side that a format (or its library) can hold; a longer copy is scaled down."""


def suffix_of(config: RunConfig) -> str:
    """Return the copies' extension; "" when the originals are copied."""
    return "" if config.output_image_format == "original" else f".{config.output_image_format}"


def exporter(config: RunConfig) -> Callable[[Buffer], bytes]:
    """Return what makes a copy's bytes of an image's bytes.

    `original` gives the same bytes, whatever `output_image_size` says. Other formats give 8-bit
    RGB, upright, as the model and the report saw it.
    """
    if config.output_image_format == "original":
        return bytes
    name = _FORMATS[config.output_image_format]

    def export(data: Buffer) -> bytes:
        image = Image.fromarray(decode_full(data, config.max_image_pixels))
        size = target_size(image.width, image.height, config.output_image_size)
        size = _within(size, _LONGEST[name], config.max_image_pixels)
        buffer = io.BytesIO()
        options = {} if name == "PNG" else {"quality": _QUALITY}
        with PIXELS.hold(size[0] * size[1]):
            if size != image.size:
                image = image.resize(size, Image.Resampling.LANCZOS)
            image.save(buffer, name, **options)
        return buffer.getvalue()

    return export


def target_size(width: int, height: int, wanted: ImageSize) -> tuple[int, int]:
    """Return width and height of a copy.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        wanted: Pixels of the shortest edge, or (height, width); -1 keeps the size.
    """
    if not isinstance(wanted, int):
        return wanted[1], wanted[0]
    if wanted < 0:
        return width, height
    scale = wanted / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _within(size: tuple[int, int], longest: int, pixels: int) -> tuple[int, int]:
    width, height = size
    scale = min(longest / max(size), math.sqrt(pixels / (width * height)))
    return size if scale >= 1 else (max(1, int(width * scale)), max(1, int(height * scale)))
