"""Labels in XML: Pascal VOC, a file for each image; and what CVAT has in common with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.labels import NO_CLASSES, Labels, NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import DatasourceError

FARTHEST = 1e7
"""Pixels; beyond it a corner is a mistake."""
# Of a file that is no XML, or in an encoding that expat does not have.
NO_XML = (ElementTree.ParseError, ValueError, LookupError, RecursionError)

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""


class NamedObject(NamedTuple):
    """An object with its class by name.

    Attributes:
        box: None when its mask is empty.
        mask: Run lengths; empty for none.
    """

    name: str
    box: Box | None
    mask: Sequence[int] = ()


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
    labels: dict[str, list[NamedObject]] = {}
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
    names = sorted({one.name for objects in labels.values() for one in objects})
    categories = [Category(place, name) for place, name in enumerate(names)]
    return labels_of(labels, categories, task, (str(folder), invalid))


def _pascal_voc(file: Path) -> tuple[str, list[NamedObject]]:
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - expat expands no external entities
    except OSError as error:
        raise InvalidContentError("file", f"cannot be read, {error.strerror}") from error
    except NO_XML as error:
        raise InvalidContentError("file", f"no XML, {error}", "write it again") from error
    objects = []
    for number, one in enumerate(root.findall("object"), 1):
        place = f"object[{number}]"
        tags = ("xmin", "ymin", "xmax", "ymax")
        corners = {f"bndbox/{tag}": one.findtext(f"bndbox/{tag}") for tag in tags}
        name = text_of(one.findtext("name"), f"{place}/name")
        objects.append(NamedObject(name, box_of(corners, place)))
    return text_of(root.findtext("filename"), "filename"), objects


def text_of(given: str | None, place: str) -> str:
    text = (given or "").strip()
    if not text:
        raise InvalidContentError(place, "missing" if given is None else "empty", "write the name")
    return text


def box_of(corners: Mapping[str, str | None], place: str) -> Box:
    """Return x, y, width, height of left, top, right and bottom."""
    numbers = []
    for name, given in corners.items():
        try:
            number = float(given or "nothing")
        except ValueError:
            number = math.nan
        if not abs(number) <= FARTHEST:
            wrong = "missing" if given is None else f"{given!r:.80} is no number of pixels"
            raise InvalidContentError(f"{place}/{name}", wrong, "write the box in pixels")
        numbers.append(number)
    left, top, right, bottom = numbers
    if right < left or bottom < top:
        wrong = f"it ends before it starts: {left:g}, {top:g}, {right:g}, {bottom:g}"
        raise InvalidContentError(place, wrong, "write the smaller corner first")
    return left, top, right - left, bottom - top


def labels_of(
    labels: Mapping[str, Sequence[NamedObject]],
    categories: Sequence[Category],
    task: str,
    found: tuple[str, Sequence[InvalidFile]],
) -> Labels:
    path, invalid = found
    places = {one.name: place for place, one in enumerate(categories)}
    objects = {
        name: [
            PredictedObject(places[one.name], LABEL_SCORE, one.box, mask=one.mask) for one in its
        ]
        for name, its in labels.items()
    }
    masks = any(one.mask for its in labels.values() for one in its)
    kind = TaskType.INSTANCE_SEGMENTATION if masks else TaskType.OBJECT_DETECTION
    schema = TaskSchema(task, kind, tuple(categories) or NO_CLASSES)
    return Labels(schema, objects, path, invalid)
