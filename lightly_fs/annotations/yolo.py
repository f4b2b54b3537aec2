"""YOLO labels and predictions: a text file per image, a line per object.

A line is `class cx cy w h [confidence]`, or `class x y x y x y … [confidence]` with the corners of
a polygon, in shares of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations import polygons, rle
from lightly_fs.annotations.files import AnnotationFiles, InvalidFile
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject, Predictions, align
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.annotations.xml_labels import FARTHEST
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
    masks: bool = False,
) -> Predictions:
    """Read YOLO labels or predictions: boxes, also those around polygons; or masks, of polygons.

    A polygon may go to its parts and holes, and back, on one line: `polygons.draw` tells them. A
    line that is broken is left out and listed. A sample without a file, or whose lines are all
    broken, has no prediction; one with an empty file has no object.

    Args:
        files: Where the text files are.
        filenames: N samples, the rows of the result.
        sizes: (N, 2) width and height of the images in pixels.
        task: Name of the task.
        categories: Names in the order of the class numbers.
        path_of: Where a sample's labels are.
        masks: Read masks; a box then is a fault.

    Raises:
        NothingValidError: Samples have files, but not one has a valid line, or is empty.
    """
    paths = [path_of(name) for name in filenames]
    listed = {path for folder in _folders(paths) for path in files.list(folder)}
    rows = [row for row, path in enumerate(paths) if path in listed]
    labels: dict[str, Sequence[PredictedObject]] = {}
    invalid: list[InvalidFile] = []
    for row, data in zip(rows, files.read([paths[row] for row in rows]), strict=True):
        width, height = sizes[row].tolist()
        objects, reasons = _Lines((width, height), len(categories), masks).read(data)
        if objects or not reasons:
            labels[filenames[row]] = objects
        invalid += [InvalidFile(paths[row], reason) for reason in reasons]
    if invalid and not labels:
        raise NothingValidError(invalid)
    named = tuple(Category(number, name) for number, name in enumerate(categories))
    some = masks and any(labels.values())
    kind = TaskType.INSTANCE_SEGMENTATION if some else TaskType.OBJECT_DETECTION
    schema = TaskSchema(task, kind, named)
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


@dataclass(frozen=True)
class _Lines:
    """Reads the lines of an image.

    Attributes:
        size: Width and height of the image in pixels.
    """

    size: tuple[int, int]
    n_categories: int
    masks: bool

    def read(self, data: Buffer | Failure) -> tuple[list[PredictedObject], list[str]]:
        """Return the objects of a file, and what is wrong with the lines that are left out."""
        if isinstance(data, Failure):
            return [], [f"file: cannot be read, {data.reason}"]
        try:
            lines = bytes(data).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            return [], ["file: no UTF-8 text; save the file as UTF-8"]
        objects: list[PredictedObject] = []
        invalid: list[str] = []
        for number, line in enumerate(lines, 1):
            if words := line.split():
                try:
                    objects.append(self._object(words, f"line {number}"))
                except InvalidContentError as error:
                    invalid.append(str(error))
        return objects, invalid

    def _object(self, words: Sequence[str], place: str) -> PredictedObject:
        if len(words) < 5:
            raise InvalidContentError(place, f"{len(words)} numbers", _FIX)
        try:
            number, *values = map(float, words)
        except ValueError as error:
            raise InvalidContentError(place, "not only numbers", _FIX) from error
        if number not in range(self.n_categories):
            wrong = f"class {words[0]} of {self.n_categories}"
            raise InvalidContentError(place, wrong, "name every class in `categories`")
        score = values.pop() if len(values) % 2 else LABEL_SCORE
        is_box = len(values) == 4
        # What touches the border comes out a little larger than the image when it is rounded. The
        # corners of a polygon may be anywhere: what sticks out is cut off.
        if not all(-0.01 <= value <= 1.01 for value in (score, *(values if is_box else ()))):
            raise InvalidContentError(place, "values outside of 0 to 1", _FIX)
        score = min(max(score, 0.0), 1.0)
        if not is_box:
            return self._polygon(int(number), score, values, place)
        if self.masks:
            raise InvalidContentError(place, "a box has no mask", "import the boxes as `yolo`")
        centre_x, centre_y, width, height = values
        across, down = self.size
        left, top = (centre_x - width / 2) * across, (centre_y - height / 2) * down
        return PredictedObject(int(number), score, (left, top, width * across, height * down))

    def _polygon(
        self, category: int, score: float, values: Sequence[float], place: str
    ) -> PredictedObject:
        width, height = self.size
        points = np.reshape(values, (-1, 2)) * self.size
        if not (np.abs(points) <= FARTHEST).all():
            raise InvalidContentError(place, "corners that are no place", _FIX)
        if not self.masks:
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            if right < 0 or bottom < 0 or left > width or top > height:
                wrong = f"outside of the image of {width} x {height} pixels"
                raise InvalidContentError(place, wrong, _FIX)
            box = (float(left), float(top), float(right - left), float(bottom - top))
            return PredictedObject(category, score, box)
        try:
            counts = polygons.draw([points.ravel().tolist()], height, width)
        except ValueError as error:
            raise InvalidContentError(place, str(error), _FIX) from error
        return PredictedObject(category, score, rle.bounding_box(counts, width), mask=counts)


_FIX = (
    "write `class cx cy w h`, or `class` and x, y of at least 3 corners, all as shares of the "
    "image, and maybe a confidence"
)
