"""A selection in the formats of labelling tools and training code: names and bytes of files.

Nothing is written here: every exporter yields files, which the run's output writes and verifies.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from lightly_fs.annotations.objects import PredictedObject, Predictions
from lightly_fs.annotations.tasks import PREDICTIONS, TASKS, Category, TaskSchema, TaskType
from lightly_fs.errors import ConfigError

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
    found = []
    for row in predictions.of(sample):
        place = int(np.searchsorted(predictions.probability_rows, row))
        given = place < len(predictions.probability_rows) and (
            predictions.probability_rows[place] == row
        )
        box = predictions.boxes[row].tolist()
        one = PredictedObject(
            category=int(predictions.categories[row]),
            score=float(predictions.scores[row]),
            box=None if math.isnan(box[0]) else box,
            probabilities=predictions.probabilities[place].tolist() if given else None,
            mask=predictions.mask(row).tolist(),
            keypoints=predictions.keypoints_of(row).ravel().tolist(),
        )
        found.append(one)
    return found


def lightly(export: Export) -> Iterator[File]:
    """`.lightly/predictions/<task>/`: the schema, one file per image, and tasks.json."""
    schema = _schema(export)
    categories: list[dict[str, Any]] = [{"id": c.id, "name": c.name} for c in schema.categories]
    for given, written in zip(schema.categories, categories, strict=True):
        if given.keypoint_names:
            written["keypoint_names"] = list(given.keypoint_names)
    yield TASKS, to_json([schema.name])
    folder = f"{PREDICTIONS}{schema.name}/"
    yield folder + "schema.json", to_json({"task_type": schema.task_type, "categories": categories})
    for image, path in _with_paths(export.images, folder, ".json"):
        if image.objects is not None:
            content = {
                "file_name": image.filename,
                "predictions": [_singleton(one, schema) for one in image.objects],
            }
            yield path, to_json(content)


def _singleton(one: PredictedObject, schema: TaskSchema) -> dict[str, Any]:
    written: dict[str, Any] = {"category_id": schema.categories[one.category].id}
    if one.box is not None:
        written["bbox"] = list(one.box)
    if one.mask or schema.task_type is TaskType.SEMANTIC_SEGMENTATION:
        written["segmentation"] = list(one.mask)
    if one.keypoints:
        written["keypoints"] = list(one.keypoints)
    if not math.isnan(one.score):
        written["score"] = one.score
    if one.probabilities is not None:
        written["probabilities"] = list(one.probabilities)
    return written


def coco(export: Export) -> Iterator[File]:
    """`coco.json`: images, categories with their own ids, and boxes with `score`."""
    schema = _schema(export)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(export.images, 1):
        for one, (x, y, width, height) in _boxed(image):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": schema.categories[one.category].id,
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
            if not math.isnan(one.score):
                annotation["score"] = one.score
            annotations.append(annotation)
    images = []
    for number, image in enumerate(export.images, 1):
        entry = {"id": number, "file_name": image.filename}
        images.append(entry | {"width": image.width, "height": image.height} | _url(image))
    categories = [{"id": one.id, "name": one.name} for one in schema.categories]
    content = {"images": images, "annotations": annotations, "categories": categories}
    yield "coco.json", to_json(content)


def _url(image: ExportedImage) -> dict[str, str]:
    return {"coco_url": image.url} if image.url else {}


def yolo(export: Export) -> Iterator[File]:
    """`data.yaml` and `labels/…txt`; classes are numbered from 0 in the order of their ids."""
    names = {number: one.name for number, one in enumerate(_schema(export).categories)}
    content = {"path": ".", "train": "images", "nc": len(names), "names": names}
    yield "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
    for image, path in _with_paths(export.images, "labels/", ".txt"):
        _require_size(image)
        lines = []
        for one, (x, y, width, height) in _boxed(image):
            values = (
                (x + width / 2) / image.width,
                (y + height / 2) / image.height,
                width / image.width,
                height / image.height,
            )
            lines.append(" ".join([str(one.category), *(f"{value:.8g}" for value in values)]))
        yield path, "".join(line + "\n" for line in lines).encode()


def cvat(export: Export) -> Iterator[File]:
    """`annotations.xml` in the format `CVAT for images 1.1`."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    labels = ElementTree.SubElement(task, "labels")
    categories = _schema(export).categories
    for category in categories:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = category.name
        ElementTree.SubElement(label, "attributes")
    for number, image in enumerate(export.images):
        _require_size(image)
        size = {"width": str(image.width), "height": str(image.height)}
        element = ElementTree.SubElement(
            root, "image", {"id": str(number), "name": image.filename, **size}
        )
        for one, (x, y, width, height) in _boxed(image):
            corners = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + width, y + height), strict=True)
            ElementTree.SubElement(
                element,
                "box",
                {
                    "label": categories[one.category].name,
                    "source": "auto",
                    "occluded": "0",
                    **{name: repr(float(value)) for name, value in corners},
                    "z_order": "0",
                },
            )
    yield "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True)


def label_studio(export: Export) -> Iterator[File]:
    """`label_studio_tasks.json`: tasks with the image's URL and predictions to start from."""
    tasks = []
    for number, image in enumerate(export.images):
        data = {"image": image.url or image.filename, "lightlyFileName": image.filename}
        task: dict[str, Any] = {"id": number, "data": data}
        if image.objects is not None and export.schema is not None:
            results = list(_results(image, export.schema))
            task["predictions"] = [{"model_version": export.schema.name, "result": results}]
        tasks.append(task)
    yield "label_studio_tasks.json", to_json(tasks)


def _results(image: ExportedImage, schema: TaskSchema) -> Iterator[dict[str, Any]]:
    names = schema.category_names
    if schema.task_type is TaskType.CLASSIFICATION:
        for one in image.objects or ():
            yield _result(one) | {"type": "choices", "value": {"choices": [names[one.category]]}}
    else:
        for one, box in _boxed(image):
            yield _result(one) | _rectangle(box, image, names[one.category])


def _result(one: PredictedObject) -> dict[str, Any]:
    names = {"from_name": "label", "to_name": "image"}
    return names if math.isnan(one.score) else {**names, "score": one.score}


def _rectangle(box: Sequence[float], image: ExportedImage, name: str) -> dict[str, Any]:
    """Return a rectangle in percent of the image."""
    _require_size(image)
    x, y, width, height = box
    value = {
        "x": 100 * x / image.width,
        "y": 100 * y / image.height,
        "width": 100 * width / image.width,
        "height": 100 * height / image.height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
    return {"type": "rectanglelabels", **size, "value": value}


def labelbox(export: Export) -> Iterator[File]:
    """`labelbox_data_rows.json`: data rows (version 4) to import; they need read URLs."""
    rows = []
    for image in export.images:
        if image.url is None:
            raise ConfigError(
                f"Labelbox needs a URL to read `{image.filename}` from, and there is none",
                hint="Use an input in a bucket (s3://…), whose objects have read URLs.",
            )
        rows.append({"row_data": image.url, "global_key": image.filename, "media_type": "IMAGE"})
    yield "labelbox_data_rows.json", to_json(rows)


def hugging_face(export: Export) -> Iterator[File]:
    """`metadata.jsonl` of a Hugging Face `imagefolder`: to be put beside the images."""
    names = [one.name for one in export.categories]
    lines = []
    for image in export.images:
        line: dict[str, Any] = {"file_name": image.filename}
        if image.objects is not None and export.schema is not None:
            if export.schema.task_type is TaskType.CLASSIFICATION:
                line["labels"] = [names[one.category] for one in image.objects]
            else:
                boxed = list(_boxed(image))
                line["objects"] = {
                    "bbox": [list(box) for _, box in boxed],
                    "category": [names[one.category] for one, _ in boxed],
                    "score": [None if math.isnan(one.score) else one.score for one, _ in boxed],
                }
        lines.append(msgspec.json.encode(line))
    yield "metadata.jsonl", b"".join(line + b"\n" for line in lines)


def pretagging(export: Export) -> Iterator[File]:
    """`bounding_boxes.json`: corners as shares of the image, names and scores."""
    names = [one.name for one in _schema(export).categories]
    content = []
    for image in export.images:
        _require_size(image)
        boxed, size = list(_boxed(image)), np.array([image.width, image.height] * 2)
        boxes = np.array([box for _, box in boxed], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        content.append(
            {
                "filename": image.filename,
                "boxes": np.clip(boxes / size, 0, 1).tolist(),
                "labels": [names[one.category] for one, _ in boxed],
                "scores": [one.score for one, _ in boxed],
            }
        )
    yield "data/bounding_boxes.json", to_json(content)


EXPORTERS: dict[str, Callable[[Export], Iterator[File]]] = {
    "coco": coco,
    "cvat": cvat,
    "huggingface": hugging_face,
    "label_studio": label_studio,
    "labelbox": labelbox,
    "lightly": lightly,
    "pretagging": pretagging,
    "yolo": yolo,
}


def _boxed(image: ExportedImage) -> Iterator[tuple[PredictedObject, Sequence[float]]]:
    """Yield the objects with x, y, width, height; one without a box is not left out silently."""
    for one in image.objects or ():
        if one.box is None:
            raise ConfigError(
                f"`{image.filename}` has an object without a box, and this format holds boxes",
                hint="Export it as `lightly`, which holds everything.",
            )
        yield one, one.box


def _schema(export: Export) -> TaskSchema:
    if export.schema is None:
        raise ConfigError("this format holds predictions, and the selection has none")
    return export.schema


def _require_size(image: ExportedImage) -> None:
    if image.width <= 0 or image.height <= 0:
        raise ConfigError(f"this format needs the size of `{image.filename}`, which is not known")


def _with_paths(
    images: Iterable[ExportedImage], folder: str, extension: str
) -> Iterator[tuple[ExportedImage, str]]:
    """Yield the images, each with a file of its own that is named after it."""
    owners: dict[str, str] = {}
    for image in images:
        path = folder + posixpath.splitext(image.filename)[0] + extension
        if (other := owners.setdefault(path, image.filename)) != image.filename:
            raise ConfigError(
                f"`{other}` and `{image.filename}` would both be described by `{path}`",
                hint="Rename one of them, or export to a format with one file, like coco.",
            )
        yield image, path


def to_json(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
