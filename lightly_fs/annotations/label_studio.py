"""Label Studio: the tasks that it exports as JSON, with boxes, brush masks or choices."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from lightly_fs.annotations import brush, rle
from lightly_fs.annotations.files import AnnotationFiles, InvalidFile
from lightly_fs.annotations.labels import NO_CLASSES, Labels, NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject, Predictions
from lightly_fs.annotations.reading import InvalidContentError, decode, read_one
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import DatasourceError

_Share = Annotated[float, Meta(ge=0, le=1)]


class _Value(Struct):
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0.0
    rectanglelabels: list[str] | None = None
    brushlabels: list[str] | None = None
    rle: list[Annotated[int, Meta(ge=0, le=255)]] | None = None
    choices: list[str] | None = None


class _Region(Struct):
    type: str
    value: _Value = msgspec.field(default_factory=_Value)
    original_width: Annotated[int, Meta(gt=0)] | None = None
    original_height: Annotated[int, Meta(gt=0)] | None = None
    score: _Share | None = None


class _Result(Struct):
    result: list[_Region]
    score: float | None = None
    was_cancelled: bool = False


class _Data(Struct):
    image: str


class _Task(Struct):
    data: _Data
    predictions: list[_Result | int] = []
    annotations: list[_Result | int] = []


_TASKS = msgspec.json.Decoder(list[msgspec.Raw])
_TASK = msgspec.json.Decoder(_Task)
_FIXES = {
    "$": "export the project as JSON (not JSON-MIN)",
    "data": "the labelling configuration names the image's field; call it `image`",
    "image": "the labelling configuration names the image's field; call it `image`",
    "result": "export the project as JSON (not JSON-MIN)",
}


def import_label_studio(
    files: AnnotationFiles,
    path: str,
    filenames: Sequence[str],
    *,
    task: str,
    what: Literal["predictions", "annotations"] = "predictions",
) -> Predictions:
    """Read the boxes (`rectanglelabels`), masks (`brushlabels`) or classes (`choices`) of tasks.

    Of several results for an image the first that was not skipped counts. A task belongs to the
    sample that its URL ends with: `s3://bucket/in/a/b.jpg` to `a/b.jpg`, the longest such name.
    Where some task has boxes, these are read, else masks, else classes. Regions of other kinds, or
    without a label, are left out. A broken task is left out and listed.

    Args:
        files: Where the export is.
        path: The file.
        filenames: N samples, the rows of the result.
        task: Name of the task.
        what: What models predicted, or what people drew.

    Raises:
        DatasourceError: It is not there, not one task is valid, or it is about none of the samples.
    """
    known = frozenset(filenames)
    return read_label_studio(files, path, known, task=task, what=what).of(filenames)


def read_label_studio(
    files: AnnotationFiles,
    path: str,
    filenames: Container[str],
    *,
    task: str,
    what: Literal["predictions", "annotations"] = "predictions",
) -> Labels:
    """Read the same, but also what labels none of the samples; see `import_label_studio`.

    Of the samples only whether they have a name is asked: `SampleNames` answers for frames too.
    """
    tasks = read_one(files, path, _TASKS, _FIXES)
    if tasks is None:
        raise DatasourceError(f"{path} is not there", hint="Give the export of a project as JSON.")
    found: dict[str, list[_NamedObject]] = {}
    invalid: list[InvalidFile] = []
    for index, raw in enumerate(tasks):
        try:
            found |= _of_task(raw, f"$[{index}]", filenames, what)
        except InvalidContentError as error:
            invalid.append(InvalidFile(path, str(error)))
    if invalid and not found:
        raise NothingValidError(invalid)
    kinds = {kind for objects in found.values() for kind, _, _ in objects}
    kind = next((one for one in _KINDS if one in kinds), _KINDS[0])
    names = sorted({name for objects in found.values() for _, name, _ in objects})
    places = {name: place for place, name in enumerate(names)}
    labels = {
        filename: [replace(one, category=places[name]) for its, name, one in objects if its == kind]
        for filename, objects in found.items()
    }
    categories = tuple(Category(place, name) for place, name in enumerate(names))
    return Labels(TaskSchema(task, kind, categories or NO_CLASSES), labels, path, invalid)


_NamedObject = tuple[TaskType, str, PredictedObject]
"""What kind of task it is an object of, its class, and the object, whose category does not count"""
_KINDS = (TaskType.OBJECT_DETECTION, TaskType.INSTANCE_SEGMENTATION, TaskType.CLASSIFICATION)


def _of_task(
    raw: msgspec.Raw, place: str, filenames: Container[str], what: str
) -> dict[str, list[_NamedObject]]:
    """Return the objects of a task by its sample; nothing without a result."""
    task = decode(_TASK, raw, _FIXES, at=place)
    for number, result in enumerate(getattr(task, what)):
        if isinstance(result, _Result) and not result.was_cancelled:
            try:
                name = sample_of(task.data.image, filenames)
            except ValueError as error:
                wrong = f"{task.data.image!r:.200} is no URL: {error}"
                raise InvalidContentError(f"{place}.data.image", wrong) from error
            return {name: list(_regions(result, f"{place}.{what}[{number}].result"))}
    return {}


def _regions(result: _Result, place: str) -> Iterator[_NamedObject]:
    for index, region in enumerate(result.result):
        score = LABEL_SCORE if region.score is None else region.score
        for name in filter(None, region.value.choices or ()):
            yield TaskType.CLASSIFICATION, name, PredictedObject(0, score)
        for name in filter(None, region.value.rectanglelabels or ()):
            one = PredictedObject(0, score, _box(region, f"{place}[{index}]"))
            yield TaskType.OBJECT_DETECTION, name, one
        for name in filter(None, region.value.brushlabels or ()):
            mask, box = _mask(region, f"{place}[{index}]")
            one = PredictedObject(0, score, box, mask=mask)
            yield TaskType.INSTANCE_SEGMENTATION, name, one


def _mask(region: _Region, place: str) -> tuple[list[int], tuple[int, int, int, int] | None]:
    """Return the run lengths of a brush mask and the box around it."""
    size = (region.original_height, region.original_width)
    if size[0] is None or size[1] is None or region.value.rle is None:
        raise InvalidContentError(
            place, "a brush mask without its `rle` or the image's size", _FIXES["result"]
        )
    try:
        counts = brush.decode(bytes(region.value.rle), size[0], size[1])
    except ValueError as error:
        raise InvalidContentError(f"{place}.value.rle", str(error), _FIXES["result"]) from error
    return counts, rle.bounding_box(counts, size[1])


def _box(region: _Region, place: str) -> Sequence[float]:
    """Return pixels, around a rotated rectangle; Label Studio has percent of the image."""
    value = (region.value.x, region.value.y, region.value.width, region.value.height)
    if region.original_width is None or region.original_height is None or None in value:
        raise InvalidContentError(
            place, "a rectangle without its place or the image's size", _FIXES["result"]
        )
    x, y, width, height = (number or 0.0 for number in value)
    across, down = region.original_width / 100, region.original_height / 100
    x, y, width, height = x * across, y * down, width * across, height * down
    if not (angle := math.radians(region.value.rotation)):
        return x, y, width, height
    # It turns clockwise around its top left corner.
    sides = ((0, 0), (width, 0), (0, height), (width, height))
    xs = [x + right * math.cos(angle) - low * math.sin(angle) for right, low in sides]
    ys = [y + right * math.sin(angle) + low * math.cos(angle) for right, low in sides]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def sample_of(url: str, filenames: Container[str]) -> str:
    """Return the sample that a URL or path ends with, or the whole path when there is none."""
    parts = urlsplit(url)
    # Local storage of Label Studio: /data/local-files/?d=folder/image.jpg
    local = parse_qs(parts.query).get("d")
    path = local[0] if local else unquote(parts.path)
    names = path.strip("/").split("/")
    for start in range(len(names)):
        if (name := "/".join(names[start:])) in filenames:
            return name
    return path
