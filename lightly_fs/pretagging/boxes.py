"""`bounding_boxes.json`: what was found, for programs; and pictures with boxes, for people."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lightly_fs.annotations.tasks import TaskSchema
from lightly_fs.pretagging.detections import Detections

Pixels = NDArray[np.uint8]

_QUALITY = 90
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000")


class BoxesFile:
    """Writes a list of `{"filename", "boxes", "labels", "scores"}`, one image after the other.

    Boxes are [x1, y1, x2, y2] as shares of the image, 0 to 1.
    """

    def __init__(self, path: Path, schema: TaskSchema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._names = schema.category_names
        self._separator = b"[\n"

    def __enter__(self) -> BoxesFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")

    def add(self, filename: str, found: Detections) -> None:
        """Write the next image; one without objects has empty lists."""
        entry = {
            "filename": filename,
            "boxes": found.relative_corners().tolist(),
            "labels": [self._names[place] for place in found.categories],
            "scores": found.scores.tolist(),
        }
        self._file.write(self._separator + msgspec.json.encode(entry))
        self._separator = b",\n"


def spread(rows: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of `rows`, evenly over all of them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]


def drawn(
    pixels: Pixels, boxes: NDArray[np.float64], labels: Sequence[str], places: Sequence[int]
) -> bytes:
    """Return a JPEG of an image with its boxes.

    Args:
        pixels: (h, w, 3) RGB.
        boxes: (K, 4) x1, y1, x2, y2 as shares of the image.
        labels: K texts.
        places: K categories, which decide the colours.
    """
    image = Image.fromarray(pixels)
    height, width = pixels.shape[:2]
    canvas, line = ImageDraw.Draw(image), max(2, max(width, height) // 250)
    font = ImageFont.load_default(max(11, max(width, height) // 50))
    # The most confident ones come first, and are drawn last: on top.
    for box, label, place in reversed(list(zip(boxes, labels, places, strict=True))):
        colour = _COLOURS[place % len(_COLOURS)]
        x1, y1, x2, y2 = box * [width - 1, height - 1, width - 1, height - 1]
        canvas.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        left, top, right, bottom = canvas.textbbox((x1, y1), label, font=font)
        up = y1 - min(y1, bottom - y1)  # above the box where there is room
        canvas.rectangle((left, up, right + 4, up + bottom - y1), fill=colour)
        canvas.text((x1 + 2, up - (top - y1) / 2), label, fill="white", font=font)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
