"""YOLO labels and predictions: a text file per image, `class cx cy w h [confidence]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations.files import AnnotationFiles, InvalidFile
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject, Predictions, align
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.datasource.reader import Buffer
from lightly_fs.types import Failure

EXPORTED_IMAGES = "images/"
"""Where an export expects the images."""


def yolo_label_path(filename: str) -> str:
    """Return where YOLO keeps an image's labels: the last folder `images` is `labels`, `.txt`."""
    parts = list(PurePosixPath(filename).with_suffix(".txt").parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return str(PurePosixPath(*parts))


def exported_label_path(filename: str) -> str:
    """Return where the labels of an exported image are: as if the input lay at `images/`."""
    return yolo_label_path(EXPORTED_IMAGES + filename)


def import_yolo(
    files: AnnotationFiles,
    filenames: Sequence[str],
    sizes: NDArray[np.int64],
    *,
    task: str,
    categories: Sequence[str],
    path_of: Callable[[str], str] = yolo_label_path,
) -> Predictions:
    """Read YOLO labels or predictions, lines of `class cx cy w h [confidence]`.

    A sample without a file has no prediction; one with an empty file has no object.

    Args:
        files: Where the text files are.
        filenames: N samples, the rows of the result.
        sizes: (N, 2) width and height of the images in pixels.
        task: Name of the task.
        categories: Names in the order of the class numbers.
        path_of: Where a sample's labels are.

    Raises:
        NothingValidError: Samples have files, but not one is valid.
    """
    paths = [path_of(name) for name in filenames]
    listed = {path for folder in _folders(paths) for path in files.list(folder)}
    rows = [row for row, path in enumerate(paths) if path in listed]
    labels: dict[str, Sequence[PredictedObject]] = {}
    invalid: list[InvalidFile] = []
    for row, data in zip(rows, files.read([paths[row] for row in rows]), strict=True):
        try:
            width, height = sizes[row].tolist()
            labels[filenames[row]] = _yolo_objects(data, (width, height), len(categories))
        except InvalidContentError as error:
            invalid.append(InvalidFile(paths[row], str(error)))
    if invalid and not labels:
        raise NothingValidError(invalid)
    named = tuple(Category(number, name) for number, name in enumerate(categories))
    schema = TaskSchema(task, TaskType.OBJECT_DETECTION, named)
    found = align(labels, filenames, schema, _shown_folder(paths), invalid)
    others = {path for path in listed if path.endswith(".txt")} - set(paths)
    return replace(found, unmatched=len(others))


def _folders(paths: Iterable[str]) -> list[str]:
    """Return the folders that hold the paths, those below another one left out."""
    found: list[str] = []
    for folder in sorted({path[: path.rfind("/") + 1] for path in paths}):
        if not found or not folder.startswith(found[-1]):
            found.append(folder)
    return found


def _shown_folder(paths: Sequence[str]) -> str:
    return f"`{paths[0]}` and the like" if paths else "nothing"


def _yolo_objects(
    data: Buffer | Failure, size: tuple[int, int], n_categories: int
) -> list[PredictedObject]:
    if isinstance(data, Failure):
        raise InvalidContentError("file", f"cannot be read, {data.reason}")
    try:
        lines = bytes(data).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidContentError("file", "no UTF-8 text", "save the file as UTF-8") from error
    return [
        _yolo_object(line.split(), f"line {number}", size, n_categories)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _yolo_object(
    words: Sequence[str], place: str, size: tuple[int, int], n_categories: int
) -> PredictedObject:
    fix = "write `class cx cy w h`, the last four as shares of the image, and maybe a confidence"
    if len(words) not in (5, 6):
        raise InvalidContentError(place, f"{len(words)} numbers", fix)
    try:
        number, *values = map(float, words)
    except ValueError as error:
        raise InvalidContentError(place, "not only numbers", fix) from error
    if number not in range(n_categories):
        raise InvalidContentError(
            place, f"class {words[0]} of {n_categories}", "name every class in `categories`"
        )
    # Boxes that touch the border come out a little larger than the image when they are rounded.
    if not all(-0.01 <= value <= 1.01 for value in values):
        raise InvalidContentError(place, "values outside of 0 to 1", fix)
    centre_x, centre_y, width, height = values[:4]
    box = (
        (centre_x - width / 2) * size[0],
        (centre_y - height / 2) * size[1],
        width * size[0],
        height * size[1],
    )
    score = min(max(values[4], 0.0), 1.0) if len(values) == 5 else LABEL_SCORE
    return PredictedObject(int(number), score, box)
