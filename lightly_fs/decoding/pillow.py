"""Everything that is no plain JPEG, by Pillow: recognised by content, never by name."""

from __future__ import annotations

import importlib
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.Image import DecompressionBombError

from lightly_fs.decoding.budget import PIXELS
from lightly_fs.decoding.corrupt import CorruptImage, check_size
from lightly_fs.decoding.raster import Pixels, Raster, oriented

_ORIENTATION = 0x0112


def decode_with_pillow(data: bytes, min_side: int | None, max_pixels: int) -> Raster:
    """Decode the first frame or page, down to `min_side` by whole factors.

    Raises:
        CorruptImage: Not every pixel can be decoded.
        MemoryError: Not enough memory.
    """
    plugin = _plugin_for(data)
    try:
        with warnings_ignored():
            image = plugin(io.BytesIO(data))
            width, height = image.size
            check_size(width, height, max_pixels)
            with PIXELS.hold(width * height):
                image.load()
                orientation = image.getexif().get(_ORIENTATION, 1)
                width, height = image.size  # a TIFF is turned while it is loaded
                pixels = np.array(_rgb(image, min_side))
    except (CorruptImage, MemoryError):
        raise
    except Exception as error:  # plugins raise anything from KeyError to struct.error on bad bytes
        raise CorruptImage(_reason(error)) from error
    return oriented(pixels, orientation, width, height)


def _plugin_for(data: bytes) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """Choose by the first bytes. `Image.open` would ask every plugin, and check a global limit."""
    for signature, at, module, plugin in _FORMATS:
        if data.startswith(signature, at):
            check = _WHOLE.get(module)
            if check is not None:
                check(data)
            found = getattr(importlib.import_module(f"PIL.{module}"), plugin)
            return cast("Callable[[io.BytesIO], ImageFile.ImageFile]", found)
    for signature, at, name in _OTHERS:
        if data.startswith(signature, at):
            raise CorruptImage(f"unsupported ({name})")
    raise CorruptImage(f"not an image (begins with {data[:12]!r})")


_FORMATS = (
    (b"\xff\xd8\xff", 0, "JpegImagePlugin", "JpegImageFile"),
    (b"\x89PNG\r\n\x1a\n", 0, "PngImagePlugin", "PngImageFile"),
    (b"GIF87a", 0, "GifImagePlugin", "GifImageFile"),
    (b"GIF89a", 0, "GifImagePlugin", "GifImageFile"),
    (b"BM", 0, "BmpImagePlugin", "BmpImageFile"),
    (b"II*\0", 0, "TiffImagePlugin", "TiffImageFile"),
    (b"MM\0*", 0, "TiffImagePlugin", "TiffImageFile"),
    (b"II+\0", 0, "TiffImagePlugin", "TiffImageFile"),
    (b"MM\0+", 0, "TiffImagePlugin", "TiffImageFile"),
    (b"WEBP", 8, "WebPImagePlugin", "WebPImageFile"),
    (b"ftypavif", 4, "AvifImagePlugin", "AvifImageFile"),
    (b"ftypavis", 4, "AvifImagePlugin", "AvifImageFile"),
)
_OTHERS = (
    (b"ftyphei", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIF"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG 2000"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"8BPS", 0, "Photoshop"),
    (b"%PDF", 0, "PDF"),
    (b"<svg", 0, "SVG"),
)


def _check_png(data: bytes) -> None:
    """Walk the chunks to IEND: Pillow needs neither the end nor the checksums of the pixels."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            break
        critical = not kind[0] & 32
        if critical and zlib.crc32(memoryview(data)[at + 4 : end]) != _uint32(data, end):
            raise CorruptImage(f"broken data (wrong checksum of PNG chunk {kind!r})")
        if kind == b"IEND":
            return
        at = end + 4
    raise CorruptImage("truncated (the PNG has no end)")


def _uint32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _check_webp(data: bytes) -> None:
    promised = int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"RIFF") and len(data) < promised:
        raise CorruptImage(f"truncated ({len(data):,} of {promised:,} bytes of WebP)")


_WHOLE = {"PngImagePlugin": _check_png, "WebPImagePlugin": _check_webp}


def _rgb(image: Image.Image, min_side: int | None) -> Image.Image:
    """Bring any mode to 8-bit RGB, at most as large as needed for `min_side`.

    Transparent pixels are seen before white. Box averaging by a whole factor leaves twice the
    needed size, so that the antialiased resize that follows decides the result.
    """
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):  # neither can be averaged
        image = image.convert("L" if image.mode == "1" else "RGB")
    factor = min(image.size) // (2 * min_side) if min_side else 1
    if factor > 1:
        image = image.reduce(factor)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> Pixels:
    """Bring 16 bits to 8 by their full range; 32 bits and floats by their own range."""
    if values.dtype.itemsize == 2:
        return cast("Pixels", ((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0, 0)
    spread = float(high) - float(low)
    if spread == 0:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.where(finite, values, low).astype(np.float64) - low) * (255 / spread)
    return cast("Pixels", np.rint(scaled).astype(np.uint8))


def _reason(error: Exception) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:120]  # the same every time
    text = text or type(error).__name__
    if isinstance(error, DecompressionBombError):
        return f"too large: {text}"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated ({text})"
    if "not supported" in text or "nsupported" in text or "unknown" in text.lower():
        return f"unsupported ({text})"
    if isinstance(error, UnidentifiedImageError | SyntaxError):
        return f"broken data (header: {text})"
    return f"broken data ({text})"


_lock = threading.Lock()
_inside = 0
_ours: object = None


@contextmanager
def warnings_ignored() -> Iterator[None]:
    """Ignore what Pillow warns of while any thread is inside; all other filters stay.

    `warnings.catch_warnings` swaps the filters of the whole process and is not safe with threads.
    """
    global _inside, _ours  # noqa: PLW0603 - the filters are the process's, so is their count
    with _lock:
        _inside += 1
        if _inside == 1 or _ours not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _ours = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _ours in warnings.filters:
                cast("list[object]", warnings.filters).remove(_ours)
