"""Which images show a task's objects in a report, and the pictures: boxes drawn, crops cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations import rle
from lightly_fs.report.lettering import mono_font, mono_letters, shown
from lightly_fs.report.thumbnails import Pixels

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from lightly_fs.annotations.objects import Predictions

Box = tuple[float, float, float, float]

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")
"""Of Okabe and Ito 2008; the first class has the first one, the eighth again."""
LARGE = 1024
"""Longer side in pixels of the images that crops are cut from."""
MAX_BOXES = 40
_LOOKED_AT = 2_000
_PICTURE = 480


def box_of(predictions: Predictions, row: int, size: tuple[int, int]) -> Box | None:
    """Return x, y, width, height of an object: its box, or that of its mask or keypoints."""
    x, y, width, height = predictions.boxes[row].tolist()
    if math.isfinite(x + y + width + height):
        return x, y, width, height
    if len(mask := predictions.mask(row)):
        found = rle.bounding_box(mask, size[0]) if int(mask.sum()) == size[0] * size[1] else None
        return None if found is None else (*map(float, found),)  # type: ignore[return-value]
    points = predictions.keypoints_of(row)
    points = points[points[:, 2] > 0, :2]
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def choose_images(predictions: Predictions, selected: NDArray[np.int64], n: int) -> list[int]:
    """Return up to `n` selected images with objects that can be drawn, in the order of picks.

    Those that show a class which none before them does are preferred.
    """
    with_place = ~np.isnan(predictions.boxes[:, 0])
    with_place |= np.diff(predictions.mask_offsets) > 0
    with_place |= np.diff(predictions.keypoint_offsets) > 0
    drawable = np.zeros(len(predictions), np.bool_)
    drawable[predictions.samples[with_place]] = True
    rows = selected[drawable[selected]][:_LOOKED_AT].tolist()
    seen: set[int] = set()
    chosen: list[int] = []
    for row in rows:
        objects = predictions.of(row)
        classes = set(predictions.categories[objects.start : objects.stop].tolist())
        if not classes <= seen and len(chosen) < n:
            chosen.append(row)
            seen |= classes
    chosen += [row for row in rows if row not in set(chosen)][: n - len(chosen)]
    return sorted(chosen, key=rows.index)


def drawn_objects(
    predictions: Predictions, sample: int, size: tuple[int, int]
) -> list[tuple[int, Box]]:
    """Return the object rows of a sample that can be drawn, most confident first, and boxes."""
    rows = list(predictions.of(sample))
    # A confidence that is not given sorts as 0; the order of the file decides among equal ones.
    rows.sort(key=lambda row: -np.nan_to_num(predictions.scores[row]))
    found = ((row, box_of(predictions, row, size)) for row in rows[:MAX_BOXES])
    return [(row, box) for row, box in found if box is not None]


def draw_boxes(
    pixels: Pixels, predictions: Predictions, sample: int, size: tuple[int, int]
) -> Pixels:
    """Return the image with the boxes of its objects, each in the colour of its class.

    Args:
        pixels: (H, W, 3) the image, smaller than it is.
        predictions: Of the candidates.
        sample: Which of them it is.
        size: Width and height that the boxes are meant for.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    scale = _PICTURE / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
    pen = ImageDraw.Draw(picture)
    along, down = picture.width / max(size[0], 1), picture.height / max(size[1], 1)
    objects = drawn_objects(predictions, sample, size)
    corners = []
    for row, (x, y, width, height) in objects:
        left, top = _inside(x * along, picture.width), _inside(y * down, picture.height)
        right = max(left, _inside((x + width) * along, picture.width))
        bottom = max(top, _inside((y + height) * down, picture.height))
        pen.rectangle((left, top, right, bottom), outline=_colour(predictions, row), width=2)
        corners.append((left, top))
    _draw_labels(pen, predictions, [row for row, _ in objects], corners)
    return np.asarray(picture)


def _draw_labels(
    pen: ImageDraw, predictions: Predictions, rows: list[int], corners: list[tuple[float, float]]
) -> None:
    """Write class and confidence above the corners, most confident first, where there is room."""
    from PIL import ImageFont

    font = ImageFont.truetype(mono_font(), 12)
    taken: list[Box] = []
    for row, (left, top) in zip(rows, corners, strict=True):
        words = _label(predictions, row)
        width = pen.textlength(words, font) + 6
        above = top - 15 if top >= 15 else top + 1
        start = max(0.0, min(left, pen.im.size[0] - width))
        box = (start, above, start + width, above + 14)
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        pen.rectangle(box, fill=_colour(predictions, row))
        pen.text((start + 3, above), words, _ink(_colour(predictions, row)), font)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(predictions: Predictions, row: int) -> str:
    return COLOURS[int(predictions.categories[row]) % len(COLOURS)]


def _inside(value: float, side: int) -> float:
    return min(max(value, 0.0), side - 1.0)


def _label(predictions: Predictions, row: int) -> str:
    category = predictions.schema.categories[int(predictions.categories[row])]
    score = float(predictions.scores[row])
    name = shown(category.name, 20, mono_letters())
    return name if math.isnan(score) else f"{name} {score:.2f}"


def _ink(colour: str) -> str:
    """Return black or white, whichever is read better on the colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "#FFFFFF"


def cut(pixels: Pixels, box: Box, size: tuple[int, int]) -> Pixels:
    """Return the part of the image inside left, top, right, bottom, at least one pixel of it."""
    height, width = pixels.shape[:2]
    along, down = width / max(size[0], 1), height / max(size[1], 1)
    left = min(max(math.floor(box[0] * along), 0), width - 1)
    top = min(max(math.floor(box[1] * down), 0), height - 1)
    right = min(max(math.ceil(box[2] * along), left + 1), width)
    bottom = min(max(math.ceil(box[3] * down), top + 1), height)
    return np.ascontiguousarray(pixels[top:bottom, left:right])
