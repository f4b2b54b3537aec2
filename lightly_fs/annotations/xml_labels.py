"""Labels in XML: Pascal VOC, a file for each image, and CVAT, one for all of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.labels import NO_CLASSES, Labels, NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import DatasourceError

_Named = tuple[str, tuple[float, float, float, float]]
"""The class of an object, and its box: x, y, width, height in pixels."""

_FARTHEST = 1e7
"""Pixels; beyond it a corner is a mistake."""
# Of a file that is no XML, or in an encoding that expat does not have.
_NO_XML = (ElementTree.ParseError, ValueError, LookupError, RecursionError)


def read_pascal_voc(folder: Path, *, task: str, below: str = "") -> Labels:
    """Read the XML files of a folder; one that is broken is left out and listed.

    Args:
        folder: On a local disk.
        task: Name of the task.
        below: Folder of the samples that the names in the files are relative to.

    Raises:
        NothingValidError: There are files, but not one can be used.
        DatasourceError: There is no such folder.
    """
    if not folder.is_dir():
        raise DatasourceError(
            f"{folder} is no folder", hint="give the folder of the XML files (`Annotations`)"
        )
    labels: dict[str, list[_Named]] = {}
    invalid: list[InvalidFile] = []
    for file in sorted(folder.glob("*.xml")):
        try:
            name, objects = _pascal_voc(file)
        except InvalidContentError as error:
            invalid.append(InvalidFile(str(file), str(error)))
        else:
            labels.setdefault(str(PurePosixPath(below, name)), []).extend(objects)
    if invalid and not labels:
        raise NothingValidError(invalid)
    names = sorted({name for objects in labels.values() for name, _ in objects})
    categories = [Category(place, name) for place, name in enumerate(names)]
    return _labels(labels, categories, task, (str(folder), invalid))


def _pascal_voc(file: Path) -> tuple[str, list[_Named]]:
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - expat expands no external entities
    except OSError as error:
        raise InvalidContentError("file", f"cannot be read, {error.strerror}") from error
    except _NO_XML as error:
        raise InvalidContentError("file", f"no XML, {error}", "write it again") from error
    objects = []
    for number, one in enumerate(root.findall("object"), 1):
        place = f"object[{number}]"
        tags = ("xmin", "ymin", "xmax", "ymax")
        corners = {f"bndbox/{tag}": one.findtext(f"bndbox/{tag}") for tag in tags}
        objects.append((_text(one.findtext("name"), f"{place}/name"), _box(corners, place)))
    return _text(root.findtext("filename"), "filename"), objects


def read_cvat(path: Path, *, task: str, below: str = "") -> Labels:
    """Read the boxes of a `CVAT for images` file; one that is broken is left out and listed.

    An image whose boxes are all broken has no labels.

    Args:
        path: The file, on a local disk.
        task: Name of the task.
        below: Folder of the samples that the names in the file are relative to.

    Raises:
        NothingValidError: There are images or boxes, but not one can be used.
        DatasourceError: It cannot be read, is no XML, or names no labels.
    """
    labels: dict[str, list[_Named]] = {}
    names: dict[str, int] = {}
    invalid: list[InvalidFile] = []
    number, n_boxes = 0, 0
    try:
        for element in _children(path):
            if element.tag == "meta":
                names = _cvat_names(element)
            elif element.tag == "image":
                number += 1
                before = len(invalid)
                found = [*_cvat_boxes(element, names, (path, f"image[{number}]"), invalid)]
                n_boxes += len(element.findall("box"))
                if found or len(invalid) == before:
                    name = str(PurePosixPath(below, element.get("name", "")))
                    labels.setdefault(name, []).extend(found)
    except OSError as error:
        raise DatasourceError(
            f"{path} cannot be read: {error.strerror}", hint="give the file annotations.xml"
        ) from error
    except _NO_XML as error:
        raise DatasourceError(f"{path} is no XML: {error}", hint="export it again") from error
    if not names:
        raise DatasourceError(
            f"{path} is no `CVAT for images` file: `meta` names no labels",
            hint="export the task as `CVAT for images 1.1`",
        )
    if invalid and not any(labels.values()) and (n_boxes or not labels):
        raise NothingValidError(invalid)
    categories = [Category(number, name) for name, number in names.items()]
    return _labels(labels, categories, task, (str(path), invalid))


def _children(path: Path) -> Iterator[Element]:
    """Yield the elements below the root; each is gone when the next one comes."""
    depth = 0
    root: Element | None = None
    for event, element in ElementTree.iterparse(path, ("start", "end")):  # noqa: S314 - as above
        depth += 1 if event == "start" else -1
        root = element if root is None else root
        if event == "end" and depth == 1:
            yield element
            root.clear()


def _cvat_names(meta: Element) -> dict[str, int]:
    """Return the labels' numbers by their names; CVAT counts from 1."""
    for owner in ("task", "job", "project"):
        found = [one.findtext("name") or "" for one in meta.findall(f"{owner}/labels/label")]
        if any(found):
            return {name: n for n, name in enumerate(dict.fromkeys(filter(None, found)), 1)}
    return {}


def _cvat_boxes(
    image: Element, names: Collection[str], place: tuple[Path, str], invalid: list[InvalidFile]
) -> Iterator[_Named]:
    path, at = place
    if not image.get("name"):
        invalid.append(InvalidFile(str(path), f"{at}/@name: missing; write the image's path"))
        return
    for number, box in enumerate(image.findall("box"), 1):
        try:
            corners = {f"@{name}": box.get(name) for name in ("xtl", "ytl", "xbr", "ybr")}
            label = _known(box.get("label"), names, f"{at}/box[{number}]/@label")
            yield label, _box(corners, f"{at}/box[{number}]")
        except InvalidContentError as error:
            invalid.append(InvalidFile(str(path), str(error)))


def _known(given: str | None, names: Collection[str], place: str) -> str:
    label = _text(given, place)
    if label not in names:
        raise InvalidContentError(place, f"{label!r:.80} is none of `meta`", "add it there")
    return label


def _text(given: str | None, place: str) -> str:
    text = (given or "").strip()
    if not text:
        raise InvalidContentError(place, "missing" if given is None else "empty", "write the name")
    return text


def _box(corners: Mapping[str, str | None], place: str) -> tuple[float, float, float, float]:
    """Return x, y, width, height of left, top, right and bottom."""
    numbers = []
    for name, given in corners.items():
        try:
            number = float(given or "nothing")
        except ValueError:
            number = math.nan
        if not abs(number) <= _FARTHEST:
            wrong = "missing" if given is None else f"{given!r:.80} is no number of pixels"
            raise InvalidContentError(f"{place}/{name}", wrong, "write the box in pixels")
        numbers.append(number)
    left, top, right, bottom = numbers
    if right < left or bottom < top:
        wrong = f"it ends before it starts: {left:g}, {top:g}, {right:g}, {bottom:g}"
        raise InvalidContentError(place, wrong, "write the smaller corner first")
    return left, top, right - left, bottom - top


def _labels(
    labels: Mapping[str, Sequence[_Named]],
    categories: Sequence[Category],
    task: str,
    found: tuple[str, Sequence[InvalidFile]],
) -> Labels:
    path, invalid = found
    places = {one.name: place for place, one in enumerate(categories)}
    objects = {
        image: [PredictedObject(places[name], LABEL_SCORE, box) for name, box in boxes]
        for image, boxes in labels.items()
    }
    schema = TaskSchema(task, TaskType.OBJECT_DETECTION, tuple(categories) or NO_CLASSES)
    return Labels(schema, objects, path, invalid)
