"""What of a COCO file can be used: one bad annotation is left out and listed, the others stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.errors import DatasourceError

_MOST_PIXELS = 1 << 28
"""Of a mask: it is drawn, a byte for each, before it is stored as run lengths."""
_FARTHEST = 1e7
"""Pixels; beyond it a corner is a mistake, and Pillow overflows."""


def drop_invalid(content: dict[str, Any], path: str, *, masks: bool) -> list[InvalidFile]:
    """Take the annotations that cannot be used out of a COCO file's content.

    What labelformat asks for and is often missing is added: `iscrowd`, and for boxes, which do
    without, the size of an image.

    Args:
        content: With `images`, `annotations` and `categories`; is changed.
        path: Of the file, for messages.
        masks: Outlines are read, else boxes.

    Returns:
        Those left out, by their ids, with the reason.

    Raises:
        DatasourceError: Not a single annotation can be used.
        LookupError, TypeError, ValueError: A part of it is missing.
    """
    images = {image["id"]: image for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    if not masks:
        for image in content["images"]:
            image.setdefault("width", 0)
            image.setdefault("height", 0)
    kept, invalid = [], []
    for place, one in enumerate(content["annotations"]):
        wrong = _wrong(one, images, categories, masks=masks)
        if not wrong:
            one.setdefault("iscrowd", int(isinstance(one.get("segmentation"), dict)))
            kept.append(one)
            continue
        known = isinstance(one, dict) and "id" in one
        named = f"annotation {one['id']}" if known else f"$.annotations[{place}]"
        invalid.append(InvalidFile(f"{path}: {named}", wrong))
    if invalid and not kept:
        raise DatasourceError(
            f"not one annotation is valid, first {invalid[0].path}: {invalid[0].reason}",
            hint="check the file, or write it again with the tool that made it",
        )
    content["annotations"] = kept
    return invalid


def _wrong(one: Any, images: Mapping[Any, Any], categories: set[Any], *, masks: bool) -> str:  # noqa: ANN401
    if not isinstance(one, dict):
        return "no object"
    for key, among, name in (
        ("image_id", images, "images"),
        ("category_id", categories, "categories"),
    ):
        value = one.get(key)
        if isinstance(value, list | dict) or value not in among:
            return f"{key} {value!r:.50} is none of `{name}`"
    if masks:
        return _wrong_mask(one, images[one["image_id"]])
    box = _numbers(one.get("bbox"))
    if box is None or len(box) != 4 or box[2] < 0 or box[3] < 0:
        return f"bbox is {one.get('bbox')!r:.80}, not x, y, width, height in pixels"
    score = _numbers([one["score"]]) if "score" in one else [1.0]
    if score is None or not 0 <= score[0] <= 1:
        return f"score is {one['score']!r:.50}, not a number from 0 to 1"
    return ""


def _wrong_mask(one: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    height, width = int(image["height"]), int(image["width"])
    if height <= 0 or width <= 0 or height * width > _MOST_PIXELS:
        return f"a mask of {width} x {height} pixels; at most {_MOST_PIXELS:,} are drawn"
    given = one.get("segmentation")
    if isinstance(given, dict):
        return _wrong_counts(given, height, width)
    if one.get("iscrowd"):
        return "iscrowd is set, but segmentation has no run lengths"
    if not isinstance(given, list) or not given:
        return "segmentation has no polygon"
    for polygon in given:
        points = _numbers(polygon)
        if points is None or len(points) < 6 or len(points) % 2:
            return f"segmentation has {polygon!r:.80}, not x, y, x, y, … of three points or more"
    return ""


def _wrong_counts(given: Mapping[str, Any], height: int, width: int) -> str:
    counts = given.get("counts")
    if isinstance(counts, str):
        return "its run lengths are compressed; write them as numbers"
    if given.get("size") != [height, width]:
        return f"its run lengths are of size {given.get('size')!r:.50}, not [{height}, {width}]"
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        return "its run lengths are no whole numbers from 0"
    if sum(counts) != height * width:
        return f"its run lengths add up to {sum(counts)}, not {height * width}"
    return ""


def _numbers(values: object) -> Sequence[float] | None:
    """Return finite numbers within reach, or None."""
    if not isinstance(values, list):
        return None
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    usable = all(math.isfinite(number) and abs(number) <= _FARTHEST for number in numbers)
    return numbers if usable else None
