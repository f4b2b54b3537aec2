"""`CVAT for images`: one XML file with the boxes, polygons and masks of all images."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from lightly_fs.annotations import polygons, rle
from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.labels import Labels, NothingValidError
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category
from lightly_fs.annotations.xml_labels import (
    FARTHEST,
    NO_XML,
    NamedObject,
    box_of,
    labels_of,
    text_of,
)
from lightly_fs.errors import DatasourceError

_MOST_PIXELS = 1 << 28
"""Of a mask: it is unpacked, a byte for each, before it is stored as run lengths."""

_PASSED_OVER = frozenset({"tag"})
"""They are about an image and not about a place in it."""


def read_cvat(path: Path, *, task: str, below: str = "", masks: bool = False) -> Labels:
    """Read the boxes of a file, or its masks; a shape that is broken is left out and listed.

    Boxes are also those around polygons and masks. Masks are also what polygons cover; boxes are
    then left out. So are other shapes in any case, and an image whose shapes are all left out has
    no labels.

    Args:
        path: The file, on a local disk.
        task: Name of the task.
        below: Folder of the samples that the names in the file are relative to.
        masks: Read masks, else boxes.

    Raises:
        NothingValidError: There are images or shapes, but not one can be used.
        DatasourceError: It cannot be read, is no XML, or names no labels.
    """
    reading = _Reading(path, below, _MASKS if masks else _BOXES)
    try:
        for element in _children(path):
            if element.tag == "meta":
                reading.names = _names(element)
            elif element.tag == "image":
                reading.image(element)
    except OSError as error:
        raise DatasourceError(
            f"{path} cannot be read: {error.strerror}", hint="give the file annotations.xml"
        ) from error
    except NO_XML as error:
        raise DatasourceError(f"{path} is no XML: {error}", hint="export it again") from error
    if not reading.names:
        raise DatasourceError(
            f"{path} is no `CVAT for images` file: `meta` names no labels",
            hint="export the task as `CVAT for images 1.1`",
        )
    labels, invalid = reading.labels, reading.invalid
    if invalid and not any(labels.values()) and (reading.n_shapes or not labels):
        raise NothingValidError(invalid)
    categories = [Category(number, name) for name, number in reading.names.items()]
    return labels_of(labels, categories, task, (str(path), invalid))


def _children(path: Path) -> Iterator[Element]:
    """Yield the elements below the root; each is gone when the next one comes."""
    depth = 0
    root: Element | None = None
    # expat expands no external entities
    for event, element in ElementTree.iterparse(path, ("start", "end")):  # noqa: S314
        depth += 1 if event == "start" else -1
        root = element if root is None else root
        if event == "end" and depth == 1:
            yield element
            root.clear()


def _names(meta: Element) -> dict[str, int]:
    """Return the labels' numbers by their names; CVAT counts from 1."""
    for owner in ("task", "job", "project"):
        found = [one.findtext("name") or "" for one in meta.findall(f"{owner}/labels/label")]
        if any(found):
            return {name: n for n, name in enumerate(dict.fromkeys(filter(None, found)), 1)}
    return {}


_Shape = Callable[[Element, Element, str], NamedObject]
"""Makes an object of a shape, its image, and where the shape is; its class is set later."""


@dataclass
class _Reading:
    """What of a file can be used, and what was left out."""

    path: Path
    below: str
    shapes: dict[str, _Shape]
    names: dict[str, int] = field(default_factory=dict)
    labels: dict[str, list[NamedObject]] = field(default_factory=dict)
    invalid: list[InvalidFile] = field(default_factory=list)
    n_images: int = 0
    n_shapes: int = 0

    def image(self, image: Element) -> None:
        self.n_images += 1
        at = f"image[{self.n_images}]"
        if not image.get("name"):
            self._leave_out(f"{at}/@name: missing; write the image's path")
            return
        before = len(self.invalid)
        found = [*self._objects(image, at)]
        if found or len(self.invalid) == before:
            name = str(PurePosixPath(self.below, image.get("name", "")))
            self.labels.setdefault(name, []).extend(found)

    def _objects(self, image: Element, at: str) -> Iterator[NamedObject]:
        numbers: dict[str, int] = {}
        for shape in image:
            if shape.tag in _PASSED_OVER:
                continue
            self.n_shapes += 1
            numbers[shape.tag] = numbers.get(shape.tag, 0) + 1
            place = f"{at}/{shape.tag}[{numbers[shape.tag]}]"
            try:
                label = _known(shape.get("label"), self.names, f"{place}/@label")
                read = self.shapes.get(shape.tag, _unread)
                yield read(shape, image, place)._replace(name=label)
            except InvalidContentError as error:
                self._leave_out(str(error))

    def _leave_out(self, reason: str) -> None:
        self.invalid.append(InvalidFile(str(self.path), reason))


def _known(given: str | None, names: Collection[str], place: str) -> str:
    label = text_of(given, place)
    if label not in names:
        raise InvalidContentError(place, f"{label!r:.80} is none of `meta`", "add it there")
    return label


def _box(shape: Element, _image: Element, place: str) -> NamedObject:
    corners = {f"@{name}": shape.get(name) for name in ("xtl", "ytl", "xbr", "ybr")}
    return NamedObject("", box_of(corners, place))


def _box_around_polygon(shape: Element, _image: Element, place: str) -> NamedObject:
    points = _points(shape, place)
    xs, ys = points[::2], points[1::2]
    return NamedObject("", (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)))


def _box_of_mask(shape: Element, _image: Element, place: str) -> NamedObject:
    x, y, width, height = (_whole(shape, name, place) for name in _PLACE)
    return NamedObject("", (x, y, width, height))


def _polygon(shape: Element, image: Element, place: str) -> NamedObject:
    width, height = _size(image, place)
    points = _points(shape, place)
    try:
        counts = polygons.draw([points], height, width)
    except ValueError as error:
        raise InvalidContentError(f"{place}/@points", str(error), _POINTS) from error
    return NamedObject("", rle.bounding_box(counts, width), counts)


def _mask(shape: Element, image: Element, place: str) -> NamedObject:
    """Return a mask, whose run lengths are those of its box, row by row."""
    width, height = _size(image, place)
    left, top, across, down = (_whole(shape, name, place) for name in _PLACE)
    if left + across > width or top + down > height:
        wrong = f"{across} x {down} pixels at {left}, {top} in an image of {width} x {height}"
        raise InvalidContentError(place, wrong, "write a box inside of the image")
    words = (shape.get("rle") or "").replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
        raise InvalidContentError(f"{place}/@rle", "not only whole numbers", _RUNS)
    runs = [int(word) for word in words]
    if sum(runs) != across * down:
        wrong = f"{sum(runs)} pixels, but its box has {across * down}"
        raise InvalidContentError(f"{place}/@rle", wrong, _RUNS)
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + down, left : left + across] = rle.decode(runs, down, across)
    counts = rle.encode(mask).tolist()
    box = rle.bounding_box(counts, width)
    if box is None:
        raise InvalidContentError(f"{place}/@rle", "no pixel is set", _RUNS)
    return NamedObject("", box, counts)


def _unread(shape: Element, _image: Element, place: str) -> NamedObject:
    if shape.tag == "box":
        raise InvalidContentError(place, "a box has no mask", "import the boxes as `cvat`")
    raise InvalidContentError(place, "no such shape is read", "draw boxes, polygons or masks")


_BOXES: dict[str, _Shape] = {
    "box": _box,
    "polygon": _box_around_polygon,
    "mask": _box_of_mask,
}
_MASKS: dict[str, _Shape] = {"polygon": _polygon, "mask": _mask}
_PLACE = ("left", "top", "width", "height")
_POINTS = "write `x,y;x,y;…` in pixels, at least 3 points"
_RUNS = "write run lengths of the box, row by row, starting with the zeros"


def _points(shape: Element, place: str) -> list[float]:
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    try:
        numbers = [float(number) for pair in pairs for number in pair]
    except ValueError:
        numbers = [math.nan]
    paired = all(len(pair) == 2 for pair in pairs)
    if not paired or not all(abs(number) <= FARTHEST for number in numbers):
        raise InvalidContentError(f"{place}/@points", "not only pairs of numbers", _POINTS)
    if len(pairs) < 3:
        raise InvalidContentError(f"{place}/@points", f"{len(pairs)} points", _POINTS)
    return numbers


def _size(image: Element, place: str) -> tuple[int, int]:
    """Return width and height of an image that a mask can be as large as."""
    at = place.rpartition("/")[0]
    width, height = (_whole(image, name, at) for name in ("width", "height"))
    if not 0 < width * height <= _MOST_PIXELS:
        wrong = f"{width} x {height} pixels, at least 1 and at most {_MOST_PIXELS:,} are read"
        raise InvalidContentError(at, wrong, "write the image's width and height")
    return width, height


def _whole(owner: Element, name: str, place: str) -> int:
    given = owner.get(name)
    try:
        number = float(given or "nothing")
    except ValueError:
        number = math.nan
    if not 0 <= number <= FARTHEST or number != int(number):
        wrong = "missing" if given is None else f"{given!r:.80} is no whole number of pixels"
        raise InvalidContentError(f"{place}/@{name}", wrong, "write it in pixels")
    return int(number)
