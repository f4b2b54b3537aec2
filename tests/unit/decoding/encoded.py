"""Encode test images in every format, and compare pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from lightly_fs.config.run import PropertiesMode
from lightly_fs.decoding.images import DecodedImage, DecodeSettings, decode_image

SIZE = 64
SETTINGS = DecodeSettings(size=SIZE, properties=PropertiesMode.OFF, threads=2, batch_size=4)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes, settings: DecodeSettings = SETTINGS) -> DecodedImage:
    image = decode_image(data, settings)
    assert not isinstance(image, str), image
    return image


def reason(data: bytes, settings: DecodeSettings = SETTINGS) -> str:
    image = decode_image(data, settings)
    assert isinstance(image, str), "decoded as if nothing was wrong"
    return image


def squashed(image: Image.Image) -> np.ndarray:
    """What a slow and careful program would hand to the model."""
    return np.array(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in grey levels."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes) -> bytes:
    """Write a PNG by hand: bit depths that Pillow does not write, sizes that are not true.

    Args:
        colour: 0 grey, 2 RGB.
        rows: Each with its filter byte in front.
    """
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data
