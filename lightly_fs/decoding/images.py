"""Bytes to pixels: one decode gives the model input, the properties and the hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.reader import Buffer
from lightly_fs.decoding.corrupt import CorruptImage
from lightly_fs.decoding.jpeg import SIGNATURE, decode_jpeg
from lightly_fs.decoding.pillow import decode_with_pillow
from lightly_fs.decoding.raster import Pixels, Raster, resized, with_long_side, with_short_side

__all__ = [
    "CorruptImage",
    "DecodeSettings",
    "DecodedImage",
    "decode_full",
    "decode_image",
    "thumbnail",
]

PROPERTY_SIDE = 224
"""Shorter side at which `scaled` properties are measured; smaller images are measured as they are.

Rank correlation of sharpness with its full-resolution definition on photographs: 0.78 at 128,
0.92 at 224, 0.94 at 256; 224 is what most models ask for, so that nothing more is decoded.
"""

MAX_PIXELS = 536_870_912


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What a run wants of every image.

    Attributes:
        size: Side S of the square model input, to which the whole image is squashed.
        properties: Where the properties are measured, if at all.
        max_pixels: Larger images are corrupt.
        threads: Decoding threads; below 1 means one per usable core.
        batch_size: Images per batch.
        copy_size: Side L of a second, larger copy of the whole image; 0: none.
    """

    size: int
    properties: PropertiesMode = PropertiesMode.SCALED
    max_pixels: int = MAX_PIXELS
    threads: int = -1
    batch_size: int = 64
    copy_size: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One image, decoded once.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        width: Of the whole image, after EXIF orientation.
        height: Of the whole image, after EXIF orientation.
        content_hash: SHA-256 of the bytes.
        pixel_hash: SHA-256 of `pixels`.
        properties: By the names of `lightly_fs.properties.PROPERTIES`; empty when they are off.
        copy: (L, L, 3) uint8 RGB, squashed like `pixels`; None when none was asked for.
    """

    pixels: Pixels
    width: int
    height: int
    content_hash: bytes
    pixel_hash: bytes
    properties: Mapping[str, float]
    copy: Pixels | None = None


def decode_image(data: Buffer, settings: DecodeSettings) -> DecodedImage | str:
    """Decode, squash and measure; a `str` is the reason why the bytes are corrupt.

    Raises:
        MemoryError: There is not enough memory for this image now.
    """
    data = bytes(data)
    # The same scale whatever is measured: properties must not change embeddings.
    side = max(settings.size, PROPERTY_SIDE)
    try:
        raster = _decode(data, side, settings.max_pixels)
        properties = _properties(data, raster, settings)
    except CorruptImage as corrupt:
        return corrupt.reason
    pixels = resized(raster.pixels, settings.size, settings.size)
    length = settings.copy_size
    return DecodedImage(
        pixels=pixels,
        width=raster.width,
        height=raster.height,
        content_hash=hashlib.sha256(data).digest(),
        pixel_hash=hashlib.sha256(pixels.data).digest(),
        properties=properties,
        copy=resized(raster.pixels, length, length) if length else None,
    )


def decode_full(data: Buffer, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode every pixel.

    Returns:
        (H, W, 3) uint8 RGB, oriented.

    Raises:
        CorruptImage: Not every pixel can be decoded.
    """
    return _decode(bytes(data), None, max_pixels).pixels


def thumbnail(data: Buffer, side: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode to at most `side` pixels on the longer side; the aspect ratio is kept.

    Returns:
        (h, w, 3) uint8 RGB, oriented; smaller images stay as they are.

    Raises:
        CorruptImage: Not every pixel can be decoded.
    """
    return with_long_side(_decode(bytes(data), side, max_pixels).pixels, side)


def _decode(data: bytes, min_side: int | None, max_pixels: int) -> Raster:
    if not data:
        raise CorruptImage("empty file")
    if data.startswith(SIGNATURE):
        return decode_jpeg(data, min_side, max_pixels)
    return decode_with_pillow(data, min_side, max_pixels)


def _properties(data: bytes, raster: Raster, settings: DecodeSettings) -> Mapping[str, float]:
    if settings.properties is PropertiesMode.OFF:
        return {}
    from lightly_fs.properties.measure import measure

    if settings.properties is PropertiesMode.SCALED:
        pixels = with_short_side(raster.pixels, PROPERTY_SIDE)
    elif raster.is_full:
        pixels = raster.pixels
    else:
        pixels = _decode(data, None, settings.max_pixels).pixels
    whole = {"width": raster.width, "height": raster.height, "sizeInBytes": len(data)}
    return {name: float(value) for name, value in {**whole, **measure(pixels)}.items()}
