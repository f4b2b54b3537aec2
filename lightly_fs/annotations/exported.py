"""What is exported: a selection as values, and what the writers of formats share."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations import rle
from lightly_fs.annotations.objects import PredictedObject, Predictions
from lightly_fs.annotations.tasks import Category, TaskSchema
from lightly_fs.errors import ConfigError

logger = logging.getLogger(__name__)

File = tuple[str, bytes]
"""A path below the output, and what to write there."""


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """One image of a selection.

    Attributes:
        width: Pixels; 0 when not known.
        height: Pixels; 0 when not known.
        url: Where a labelling tool can read it; None when not known.
        objects: What is predicted on it; None without a prediction.
    """

    filename: str
    width: int
    height: int
    url: str | None = None
    objects: Sequence[PredictedObject] | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A selection, as exporters take it; `schema` is None when there are no predictions."""

    images: Sequence[ExportedImage]
    schema: TaskSchema | None = None

    @property
    def categories(self) -> Sequence[Category]:
        return self.schema.categories if self.schema else ()


def selected(
    predictions: Predictions,
    rows: Iterable[int],
    sizes: NDArray[np.int64],
    *,
    url_of: Callable[[str], str | None] = lambda _: None,
) -> Export:
    """Return samples with their predictions, ready to be exported.

    Args:
        predictions: Of N samples.
        rows: Which of them, in the order of the selection.
        sizes: (N, 2) width and height of the images in pixels.
        url_of: The read URL of a filename, where the bucket is known.
    """
    images = []
    for row in rows:
        name = predictions.filenames[row]
        width, height = sizes[row].tolist()
        objects = _objects(predictions, row) if predictions.predicted[row] else None
        images.append(ExportedImage(name, width, height, url_of(name), objects))
    return Export(images, predictions.schema)


def _objects(predictions: Predictions, sample: int) -> list[PredictedObject]:
    rows = predictions.of(sample)
    part = slice(rows.start, rows.stop)
    first, last = np.searchsorted(predictions.probability_rows, (rows.start, rows.stop)).tolist()
    given = predictions.probability_rows[first:last].tolist()
    probabilities = dict(zip(given, predictions.probabilities[first:last].tolist(), strict=True))
    ends = slice(rows.start, rows.stop + 1)
    masks = predictions.mask_counts[slice(*predictions.mask_offsets[ends][[0, -1]])].tolist()
    mask_ends = (predictions.mask_offsets[ends] - predictions.mask_offsets[rows.start]).tolist()
    columns = zip(
        rows,
        predictions.categories[part].tolist(),
        predictions.scores[part].tolist(),
        predictions.boxes[part].tolist(),
        pairwise(mask_ends),
        strict=True,
    )
    with_keypoints = len(predictions.keypoints) > 0
    return [
        PredictedObject(
            category=category,
            score=score,
            box=None if math.isnan(box[0]) else box,
            probabilities=probabilities.get(row),
            mask=masks[start:stop],
            keypoints=predictions.keypoints_of(row).ravel().tolist() if with_keypoints else (),
        )
        for row, category, score, box, (start, stop) in columns
    ]


def boxed(image: ExportedImage) -> Iterator[tuple[PredictedObject, Sequence[float]]]:
    """Yield the objects with x, y, width, height: their own, or of the box around what they have.

    That is their mask, or the keypoints that were found. An object whose mask is empty, or of
    another size than the image, or of which no keypoint was found, is left out with a warning; one
    that has none of these is an error.
    """
    for one in image.objects or ():
        if one.box is not None:
            yield one, one.box
        elif one.mask:
            if (box := _mask_box(image, one)) is not None:
                yield one, box
        elif one.keypoints:
            if (around := _keypoints_box(one)) is not None:
                yield one, around
            else:
                logger.warning("an object of `%s` has no keypoint: left out", image.filename)
        else:
            raise ConfigError(
                f"`{image.filename}` has an object without a box, and this format holds boxes",
                hint="Export it as `lightly`, which holds everything.",
            )


def _keypoints_box(one: PredictedObject) -> Sequence[float] | None:
    points = np.reshape(one.keypoints, (-1, 3))
    found = points[points[:, 2] > 0, :2]
    if not len(found):
        return None
    box: list[float] = [*found.min(axis=0).tolist(), *np.ptp(found, axis=0).tolist()]
    return box


def masked(image: ExportedImage) -> Iterator[PredictedObject]:
    """Yield the objects with masks of the image's size that show something.

    All others are left out with a warning.
    """
    for one in image.objects or ():
        if not one.mask:
            logger.warning("an object of `%s` has no mask: left out", image.filename)
        elif shows(image, one):
            yield one


def shows(image: ExportedImage, one: PredictedObject) -> bool:
    """Tell whether an object has a mask of the image's size that shows something.

    Why a mask does not is said in a warning.
    """
    if not one.mask:
        return False
    require_size(image)
    if (total := sum(one.mask)) != image.width * image.height:
        logger.warning(
            "a mask of `%s` has %d pixels, the image %d: the object is left out",
            *(image.filename, total, image.width * image.height),
        )
    elif rle.area(one.mask):
        return True
    else:
        logger.warning("a mask of `%s` is empty: the object is left out", image.filename)
    return False


def _mask_box(image: ExportedImage, one: PredictedObject) -> Sequence[float] | None:
    return rle.bounding_box(one.mask, image.width) if shows(image, one) else None


def require_schema(export: Export) -> TaskSchema:
    if export.schema is None:
        raise ConfigError("this format holds predictions, and the selection has none")
    return export.schema


def require_size(image: ExportedImage) -> None:
    if image.width <= 0 or image.height <= 0:
        raise ConfigError(f"this format needs the size of `{image.filename}`, which is not known")


def require_xml(text: str, owner: str) -> None:
    """Refuse text that XML cannot hold, not even escaped.

    Args:
        text: A name.
        owner: What has it, for the message: `image`, `category`.
    """
    if _NOT_XML.search(text):
        raise ConfigError(
            f"the {owner} {text!r} has characters that XML cannot hold",
            hint="rename it, or export to a JSON format, like coco",
        )


_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def with_paths(
    images: Iterable[ExportedImage], path_of: Callable[[str], str]
) -> Iterator[tuple[ExportedImage, str]]:
    """Yield the images, each with a file of its own that is named after it."""
    owners: dict[str, str] = {}
    for image in images:
        path = path_of(image.filename)
        if (other := owners.setdefault(path, image.filename)) != image.filename:
            raise ConfigError(
                f"`{other}` and `{image.filename}` would both be described by `{path}`",
                hint="Rename one of them, or export to a format with one file, like coco.",
            )
        yield image, path


def to_json(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
