"""The predictions of a task: one JSON file per image or frame, and what selection makes of them."""

from __future__ import annotations

import difflib
import posixpath
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from lightly_fs.annotations.files import AnnotationFiles, InvalidFile
from lightly_fs.annotations.objects import PredictedObject, Predictions, PredictionsBuilder
from lightly_fs.annotations.reading import InvalidContentError, decode
from lightly_fs.annotations.tasks import MASKED, PREDICTIONS, TaskSchema, TaskType, read_schema
from lightly_fs.datasource.reader import Buffer
from lightly_fs.errors import ConfigError, DatasourceError
from lightly_fs.types import Failure

_SUM_TOLERANCE = 0.02
"""Probabilities are written with few digits: three, rounded to two, are off by 0.015."""

_Id = Annotated[int, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Length = Annotated[float, Meta(ge=0)]
_Count = Annotated[int, Meta(ge=0, lt=2**40)]
_Box = tuple[float, float, _Length, _Length]
_Probabilities = list[_Share] | None


class _Classification(Struct, gc=False):
    category_id: _Id
    score: _Share | None = None
    probabilities: _Probabilities = None


class _Detection(Struct, gc=False):
    category_id: _Id
    bbox: _Box
    score: _Share
    probabilities: _Probabilities = None


class _SemanticSegment(Struct, gc=False):
    category_id: _Id
    segmentation: list[_Count]
    score: _Share
    probabilities: _Probabilities = None


class _Instance(Struct, gc=False):
    category_id: _Id
    segmentation: list[_Count]
    score: _Share
    bbox: _Box | None = None
    probabilities: _Probabilities = None


class _Keypoints(Struct, gc=False):
    category_id: _Id
    keypoints: Annotated[list[float], Meta(min_length=3)]
    score: _Share
    bbox: _Box | None = None
    probabilities: _Probabilities = None


_S = TypeVar("_S", bound=Struct)


class _File(Struct, Generic[_S]):
    predictions: list[_S]
    file_name: str | None = None


_FIXES = {
    "$": "write an object with `file_name` and `predictions`",
    "predictions": "write a list of objects, [] when nothing was found",
    "file_name": "write the sample's path below the input, or leave it out",
    "category_id": "write the whole number that schema.json gives the category",
    "bbox": "write [x, y, width, height] in pixels",
    "score": "write the confidence, 0 to 1 (1 for a label)",
    "probabilities": "write one number from 0 to 1 per category, or leave it out",
    "segmentation": "write run lengths, row by row, starting with the zeros",
    "keypoints": "write [x, y, confidence] of every keypoint, one after the other",
}


_DECODERS: dict[TaskType, msgspec.json.Decoder[Any]] = {
    TaskType.CLASSIFICATION: msgspec.json.Decoder(_File[_Classification]),
    TaskType.OBJECT_DETECTION: msgspec.json.Decoder(_File[_Detection]),
    TaskType.SEMANTIC_SEGMENTATION: msgspec.json.Decoder(_File[_SemanticSegment]),
    TaskType.INSTANCE_SEGMENTATION: msgspec.json.Decoder(_File[_Instance]),
    TaskType.KEYPOINT_DETECTION: msgspec.json.Decoder(_File[_Keypoints]),
}


_WITH_BOXES = frozenset(
    {TaskType.OBJECT_DETECTION, TaskType.INSTANCE_SEGMENTATION, TaskType.KEYPOINT_DETECTION}
)


def read_predictions(files: AnnotationFiles, task: str, filenames: Sequence[str]) -> Predictions:
    """Read the predictions of a task that `tasks.json` lists.

    The file of `a/b.jpg` is `.lightly/predictions/<task>/a/b.json`, that of a frame
    `a/v-007-mp4.png` is `…/a/v-007-mp4.json`. A file that is invalid is listed with its reason in
    `Predictions.invalid`, and its sample has no prediction; so has a sample without a file.

    Args:
        files: Where to read.
        task: Its name, the folder's name.
        filenames: N samples, the rows of the result.

    Raises:
        DatasourceError: `tasks.json` or `schema.json` is missing or invalid, or not one sample
            has a valid prediction.
    """
    schema = read_schema(files, task)
    folder = f"{PREDICTIONS}{task}/"
    listed = set(files.list(folder)) - {folder + "schema.json"}
    paths = [prediction_path(task, name) for name in filenames]
    rows = [row for row, path in enumerate(paths) if path in listed]
    claims = Counter(paths[row] for row in rows)
    reader = PredictionReader(schema)
    builder = PredictionsBuilder(schema, filenames)
    for row, data in zip(rows, files.read([paths[row] for row in rows]), strict=True):
        builder.skip(row)
        try:
            objects = reader.read(data, filenames[row], shared=claims[paths[row]] > 1)
        except InvalidContentError as error:
            builder.invalid.append(InvalidFile(paths[row], str(error)))
        else:
            if objects is not None:
                builder.add(objects)
    predictions = builder.build(unmatched=len(listed - claims.keys()))
    _require_some(predictions, folder, listed)
    return predictions


def prediction_path(task: str, filename: str) -> str:
    """Return where the prediction of an image or frame lies: same path, extension `.json`."""
    return f"{PREDICTIONS}{task}/{posixpath.splitext(filename)[0]}.json"


class PredictionReader:
    """Turns the files of one task into objects, checked against its schema."""

    def __init__(self, schema: TaskSchema) -> None:
        self._schema = schema
        self._decoder = _DECODERS[schema.task_type]
        self._masked = schema.task_type in MASKED
        self._keypoints = schema.task_type is TaskType.KEYPOINT_DETECTION
        self._boxed = schema.task_type in _WITH_BOXES
        self._places = {one.id: place for place, one in enumerate(schema.categories)}

    def read(
        self, data: Buffer | Failure, filename: str, *, shared: bool = False
    ) -> list[PredictedObject] | None:
        """Return the objects of one file, or None when it is about another sample.

        Args:
            data: The file, or why there is none.
            filename: The sample it belongs to by its name.
            shared: Other samples have this file too (`a.jpg` and `a.png`).

        Raises:
            InvalidContentError: It cannot be used.
        """
        if isinstance(data, Failure):
            raise InvalidContentError("$", f"cannot be read, {data.reason}")
        content = decode(self._decoder, data, _FIXES)
        if not is_about(content.file_name, filename, shared=shared):
            return None
        objects = [self._object(one, index) for index, one in enumerate(content.predictions)]
        if self._masked:
            _check_sizes(objects)
        return objects

    def _object(self, given: Any, index: int) -> PredictedObject:  # noqa: ANN401 - any of the five
        place = self._places.get(given.category_id)
        if place is None:
            ids = ", ".join(str(one.id) for one in self._schema.categories[:20])
            more = ", …" if len(self._schema.categories) > 20 else ""
            raise InvalidContentError(
                f"$.predictions[{index}].category_id",
                f"{given.category_id} is no category of schema.json ({ids}{more})",
                "use one of these, or add it there",
            )
        if given.probabilities is not None:
            self._check_probabilities(given.probabilities, index)
        keypoints = given.keypoints if self._keypoints else ()
        if keypoints:
            self._check_keypoints(keypoints, place, index)
        return PredictedObject(
            place,
            float("nan") if given.score is None else given.score,
            given.bbox if self._boxed else None,
            given.probabilities,
            given.segmentation if self._masked else (),
            keypoints,
        )

    def _check_probabilities(self, values: Sequence[float], index: int) -> None:
        place, expected = f"$.predictions[{index}].probabilities", len(self._schema.categories)
        if len(values) != expected:
            raise InvalidContentError(
                place,
                f"{len(values)} numbers for the {expected} categories of schema.json",
                "write one per category, in the order of the ids",
            )
        if abs((total := sum(values)) - 1) > _SUM_TOLERANCE:
            raise InvalidContentError(
                place, f"they add up to {total:.4g}", "write probabilities that add up to 1"
            )

    def _check_keypoints(self, values: Sequence[float], category: int, index: int) -> None:
        place = f"$.predictions[{index}].keypoints"
        expected = len(self._schema.categories[category].keypoint_names)
        if len(values) % 3:
            raise InvalidContentError(
                place, f"{len(values)} numbers, not three per keypoint", _FIXES["keypoints"]
            )
        if expected and len(values) != 3 * expected:
            raise InvalidContentError(
                place,
                f"{len(values) // 3} keypoints, but schema.json names {expected}",
                "write all of them, with confidence 0 where one was not found",
            )
        for number, confidence in enumerate(values[2::3]):
            if confidence < 0:
                raise InvalidContentError(
                    f"{place}[{3 * number + 2}]", f"a confidence of {confidence:g}", "write 0 to 1"
                )


def is_about(file_name: str | None, filename: str, *, shared: bool) -> bool:
    """Tell whether a file that a sample has by its name is about that sample.

    Raises:
        InvalidContentError: Its `file_name` says something else, or nothing where it has to.
    """
    if file_name == filename or (file_name is None and not shared):
        return True
    if file_name is None:
        raise InvalidContentError(
            "$.file_name",
            f"missing, but `{filename}` is not the only sample with this file",
            "write the sample's path below the input, and rename the others",
        )
    if shared and posixpath.splitext(file_name)[0] == posixpath.splitext(filename)[0]:
        return False
    raise InvalidContentError(
        "$.file_name", f"`{file_name}`, but the file is that of `{filename}`", _FIXES["file_name"]
    )


def _check_sizes(objects: Sequence[PredictedObject]) -> None:
    """All masks of a file are of one image, so their run lengths have one sum."""
    sums = [(index, sum(one.mask)) for index, one in enumerate(objects) if one.mask]
    for index, total in sums:
        if total != sums[0][1]:
            raise InvalidContentError(
                f"$.predictions[{index}].segmentation",
                f"{total} pixels, but $.predictions[{sums[0][0]}].segmentation has {sums[0][1]}",
                "count every pixel of the image, also those behind the last 1",
            )


def _require_some(predictions: Predictions, folder: str, listed: set[str]) -> None:
    """Without a single valid prediction, every selection would be on nothing, silently."""
    if predictions.predicted.any() or not len(predictions):
        return
    n_samples, n_invalid = len(predictions), len(predictions.invalid)
    message = f"not one of the {n_samples} samples has a valid prediction of `{folder}`"
    hint = f"The file of `{predictions.filenames[0]}` is `" + (
        prediction_path(predictions.schema.name, predictions.filenames[0]) + "`."
    )
    if n_invalid:
        first = predictions.invalid[0]
        message += f" ({n_invalid} invalid), first {first.path}: {first.reason}"
    elif listed:
        message += f": {len(listed)} named after none of them, like {min(listed)}"
    else:
        message += ": there is no file"
    raise DatasourceError(message, hint=hint)


def class_distribution(predictions: Predictions) -> NDArray[np.float32]:
    """Return what `CLASS_DISTRIBUTION` is: the class vectors of a sample's objects, summed.

    The class vector of an object is its `probabilities`. Without them it is 1 at its category and
    0 elsewhere, whatever its score: a count of what was found, which is what labels are.

    Returns:
        (N, C) float32, columns in the order of `schema.categories`; zeros without an object.
    """
    n, n_categories = len(predictions), len(predictions.schema.categories)
    counted = np.ones(len(predictions.categories), np.bool_)
    counted[predictions.probability_rows] = False
    cells = predictions.samples[counted] * n_categories + predictions.categories[counted]
    sums = np.bincount(cells, minlength=n * n_categories).astype(np.float32)
    table = sums.reshape(n, n_categories)
    owners = predictions.samples[predictions.probability_rows]
    if len(owners):
        for place in range(n_categories):
            weights = predictions.probabilities[:, place]
            table[:, place] += np.bincount(owners, weights, minlength=n)
    return table


def category_count(predictions: Predictions, categories: Sequence[str]) -> NDArray[np.float64]:
    """Return what `CATEGORY_COUNT` is: how many of a sample's objects are of these categories.

    Returns:
        (N,) float64.

    Raises:
        ConfigError: The task has no category of such a name.
    """
    names = predictions.schema.category_names
    for name in categories:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1, cutoff=0.65)
            raise ConfigError(
                f"the task `{predictions.schema.name}` has no category `{name}`"
                + (f", but `{close[0]}`" if close else ""),
                hint="Its categories: " + ", ".join(names),
            )
    wanted = np.array([name in categories for name in names], np.bool_)
    owners = predictions.samples[wanted[predictions.categories]]
    return np.bincount(owners, minlength=len(predictions)).astype(np.float64)
