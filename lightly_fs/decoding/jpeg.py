"""JPEG by libjpeg-turbo: decoded at the smallest scale that suffices, and strictly.

libjpeg fills in what a broken file lacks and calls that a warning; here a warning is an error.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from lightly_fs.decoding.budget import PIXELS
from lightly_fs.decoding.corrupt import CorruptImage, check_size
from lightly_fs.decoding.pillow import decode_with_pillow, warnings_ignored
from lightly_fs.decoding.raster import Pixels, Raster, oriented

SIGNATURE = b"\xff\xd8"

_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})

# Warnings after which every pixel is still there, so Pillow's word counts as well.
_HARMLESS = (
    "extraneous bytes before marker",
    "unknown JFIF revision number",
    "Unknown Adobe color transform",
    "Invalid SOS parameters",
)


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    progressive: bool
    orientation: int


def decode_jpeg(data: bytes, min_side: int | None, max_pixels: int) -> Raster:
    """Decode so that both sides have at least `min_side` pixels where the image has them.

    Raises:
        CorruptImage: Not every pixel can be decoded.
        MemoryError: Not enough memory.
    """
    header = _read_header(data)
    check_size(header.width, header.height, max_pixels)
    least = _scaled(header, min_side)
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, *least)
    except ValueError:  # rare kinds that TurboJPEG cannot name: odd subsampling, 12 bits, lossless
        return decode_with_pillow(data, min_side, max_pixels)
    # A progressive image is held whole, as coefficients, whatever the scale.
    with PIXELS.hold(header.width * header.height if header.progressive else width * height):
        try:
            pixels = _strictly(data, space, *least)
        except ValueError as error:
            if any(warning in str(error) for warning in _HARMLESS):
                return decode_with_pillow(data, min_side, max_pixels)
            raise _explained(str(error)) from error
    if header.progressive and not _all_scans(data):
        raise CorruptImage("truncated (scans of the progressive image are missing)")
    return oriented(pixels, header.orientation, header.width, header.height)


def _scaled(header: _Header, min_side: int | None) -> tuple[int, int]:
    """Return height and width at the smallest power of two that leaves `min_side`.

    libjpeg could scale by any eighth; only for powers of two is its inverse DCT vectorised.
    """
    shortest = min(header.height, header.width)
    by = next((by for by in (8, 4, 2) if min_side and shortest // by >= min_side), 1)
    return -(-header.height // by), -(-header.width // by)


def _strictly(data: bytes, space: str, height: int, width: int) -> Pixels:
    if space not in ("CMYK", "YCCK"):
        rgb = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
        return np.asarray(rgb)
    inks = simplejpeg.decode_jpeg(data, "CMYK", min_height=height, min_width=width)
    # Adobe stores inks inverted, and so does everybody since.
    return np.array(Image.fromarray(255 - inks, "CMYK").convert("RGB"))


def _explained(warning: str) -> Exception:
    if "nsufficient memory" in warning:
        return MemoryError(warning)
    if "remature end" in warning:
        return CorruptImage(f"truncated ({warning})")
    return CorruptImage(f"broken data ({warning})")


def _read_header(data: bytes) -> _Header:
    """Read size, kind and orientation from the segments before the pixels."""
    orientation = 1
    for marker, start, end in _segments(data):
        if marker == _APP1 and data[start : start + 6] == b"Exif\0\0":
            orientation = _orientation(data[start:end])
        elif marker in _SIZES and start + 5 <= len(data):
            height, width = struct.unpack_from(">HH", data, start + 1)
            if height == 0:
                raise CorruptImage("unsupported (a JPEG that does not say its height)")
            return _Header(width, height, marker in _PROGRESSIVE, orientation)
    raise CorruptImage("truncated (the JPEG ends before its size)")


def _segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment; steps over coded pixels and junk."""
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker == _EOI:
            return
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at + 4, end
            at = end


def _orientation(exif: bytes) -> int:
    with warnings_ignored():
        tags = Image.Exif()
        try:
            tags.load(exif)
            value = tags.get(0x0112, 1)
        except Exception:  # noqa: BLE001 - no pixel depends on the metadata, whatever is wrong
            return 1
    return value if isinstance(value, int) else 1


def _all_scans(data: bytes) -> bool:
    """Tell whether a progressive image sends every coefficient to its last bit.

    A file that was cut between two scans and closed again is a valid stream of less detail: no
    decoder warns. Scans refine spectral bands of components bit by bit (ITU-T T.81, G.1.1).
    """
    low_bit: dict[int, list[int]] = defaultdict(lambda: [255] * 64)
    for marker, start, end in _segments(data):
        if marker == _SOS and end <= len(data):
            first, last, precision = data[end - 3 : end]
            for component in data[start + 1 : end - 3 : 2]:
                low_bit[component][first : last + 1] = [precision & 15] * (last + 1 - first)
    return bool(low_bit) and not any(any(bits) for bits in low_bit.values())
