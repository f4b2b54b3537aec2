"""A selection in the formats of labelling tools and training code: names and bytes of files.

Nothing is written here: every exporter yields files, which the run's output writes and verifies.
"""

from __future__ import annotations

import logging
import math
import posixpath
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import yaml

from lightly_fs.annotations import polygons, rle
from lightly_fs.annotations.exported import (
    Export,
    ExportedImage,
    File,
    boxed,
    masked,
    require_schema,
    require_size,
    require_xml,
    selected,
    shows,
    to_json,
    with_paths,
)
from lightly_fs.annotations.label_studio_tasks import label_studio
from lightly_fs.annotations.objects import PredictedObject
from lightly_fs.annotations.predictions import prediction_path
from lightly_fs.annotations.tasks import MASKED, PREDICTIONS, TASKS, TaskSchema, TaskType
from lightly_fs.annotations.yolo import EXPORTED_IMAGES, exported_label_path, yolo_label_path
from lightly_fs.errors import ConfigError

__all__ = [
    "EXPORTERS",
    "Export",
    "ExportedImage",
    "File",
    "coco",
    "cvat",
    "hugging_face",
    "image_paths",
    "label_studio",
    "labelbox",
    "lightly",
    "pretagging",
    "sama",
    "selected",
    "to_json",
    "yolo",
]

logger = logging.getLogger(__name__)

_TRAIN = "train.txt"


def lightly(export: Export) -> Iterator[File]:
    """`.lightly/predictions/<task>/`: the schema, one file per image, and tasks.json."""
    schema = require_schema(export)
    categories: list[dict[str, Any]] = [{"id": c.id, "name": c.name} for c in schema.categories]
    for given, written in zip(schema.categories, categories, strict=True):
        if given.keypoint_names:
            written["keypoint_names"] = list(given.keypoint_names)
        if given.skeleton:
            written["skeleton"] = given.skeleton
    folder = f"{PREDICTIONS}{schema.name}/"
    yield folder + "schema.json", to_json({"task_type": schema.task_type, "categories": categories})
    path_of = partial(prediction_path, schema.name)
    for image, path in with_paths(export.images, path_of):
        if image.objects is not None:
            content = {
                "file_name": image.filename,
                "predictions": [_singleton(one, schema) for one in image.objects],
            }
            yield path, to_json(content)
    # Last, because a task that is listed is read.
    yield TASKS, to_json([schema.name])


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
    """`coco.json`: images, categories with their own ids, boxes, masks and keypoints with `score`.

    Masks are compressed run lengths, as pycocotools writes them. Keypoints have visibilities: 0
    without a confidence, else 2; where some value is above 1, they are visibilities already.
    """
    schema = require_schema(export)
    pointed = schema.task_type is TaskType.KEYPOINT_DETECTION
    visibilities = pointed and _has_visibilities(export)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(export.images, 1):
        for one, (x, y, width, height) in boxed(image):
            # Read back, a box alone would be no object of a task of masks.
            if one.mask and not shows(image, one):
                continue
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": schema.categories[one.category].id,
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": 0,  # evaluations would pass over a crowd
            }
            if one.mask:
                annotation |= _segmentation(image, one)
            if pointed:
                annotation |= _keypoints(one, visibilities=visibilities)
            if not math.isnan(one.score):
                annotation["score"] = one.score
            annotations.append(annotation)
    images = []
    for number, image in enumerate(export.images, 1):
        entry = {"id": number, "file_name": image.filename}
        images.append(entry | {"width": image.width, "height": image.height} | _url(image))
    categories: list[dict[str, Any]] = [{"id": c.id, "name": c.name} for c in schema.categories]
    if pointed:  # pycocotools asks for both
        for given, written in zip(schema.categories, categories, strict=True):
            written |= {"keypoints": given.keypoint_names, "skeleton": given.skeleton}
    content = {"images": images, "annotations": annotations, "categories": categories}
    # pycocotools asks for `info` when it loads results.
    yield "coco.json", to_json({"info": {}, **content})


def _segmentation(image: ExportedImage, one: PredictedObject) -> dict[str, Any]:
    columns = rle.transposed(one.mask, image.height, image.width)
    size = [image.height, image.width]
    counts = rle.compress(columns)
    return {"segmentation": {"size": size, "counts": counts}, "area": rle.area(one.mask)}


def _has_visibilities(export: Export) -> bool:
    objects = (one for image in export.images for one in image.objects or ())
    return any(value > 1 for one in objects for value in one.keypoints[2::3])


def _keypoints(one: PredictedObject, *, visibilities: bool) -> dict[str, Any]:
    values: list[float] = []
    for x, y, found in zip(*(one.keypoints[part::3] for part in range(3)), strict=True):
        # Hidden is what a person said of a keypoint; a detector has no word for it.
        seen = 1 if visibilities and found == 1 else 2
        values += (x, y, seen) if found > 0 else (0, 0, 0)
    return {"keypoints": values, "num_keypoints": sum(seen > 0 for seen in values[2::3])}


def _url(image: ExportedImage) -> dict[str, str]:
    return {"coco_url": image.url} if image.url else {}


def yolo(export: Export) -> Iterator[File]:
    """`data.yaml`, `train.txt` and the labels; classes are numbered from 0 in the order of ids.

    `train.txt` names the images with a prediction, where they are to be: in the input when that is
    linked as `images/`, or, when all images are in folders of that name, in those, each linked at
    its place (`images/`, `train/images/`). Boxes end
    at the image's border, because trainers refuse an image with one that sticks out; one that lies
    outside altogether is left out, with a warning. A mask is one polygon, see `polygons.outline`.
    """
    schema = require_schema(export)
    shapes = _outlines if schema.task_type in MASKED else _clipped
    names = {number: one.name for number, one in enumerate(schema.categories)}
    # Without `path`, paths start from the folder of the file itself.
    content = {"train": _TRAIN, "val": _TRAIN, "nc": len(names), "names": names}
    yield "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
    labelled = [image for image in export.images if image.objects is not None]
    own = all(_has_own_folder(image.filename) for image in export.images)
    _check_yolo_names(labelled, own=own)
    folder = "" if own else EXPORTED_IMAGES
    yield _TRAIN, "".join(f"./{folder}{image.filename}\n" for image in labelled).encode()
    path_of = yolo_label_path if own else exported_label_path
    for image, path in with_paths(labelled, path_of):
        require_size(image)
        lines = [
            " ".join([str(one.category), *(f"{value:.8g}" for value in values)]) + "\n"
            for one, values in shapes(image)
        ]
        yield path, "".join(lines).encode()


def _has_own_folder(filename: str) -> bool:
    return f"/{EXPORTED_IMAGES}" in f"/{filename}"


def _check_yolo_names(images: Sequence[ExportedImage], *, own: bool) -> None:
    """Refuse names that do not fit on a line of `train.txt`, or whose labels lie in the input."""
    for image in images:
        if image.filename.splitlines() != [image.filename]:
            raise ConfigError(
                f"{image.filename!r} has a line break, and {_TRAIN} has a line per image",
                hint="rename it, or export to a JSON format, like coco",
            )
        if not own and _has_own_folder(image.filename):
            raise ConfigError(
                f"trainers look for the labels of `{image.filename}` in the input itself, beside "
                f"its folder `{EXPORTED_IMAGES}`, because other images are in no such folder",
                hint="select from images/ alone (input_dir), or export to coco",
            )


_Shapes = Iterator[tuple[PredictedObject, Sequence[float]]]
"""Objects with the numbers that YOLO has of them."""


def _clipped(image: ExportedImage) -> _Shapes:
    for one, box in boxed(image):
        if (values := _shares(box, image)) is not None:
            yield one, values
        else:
            logger.warning("a box of `%s` lies outside of the image: left out", image.filename)


def _outlines(image: ExportedImage) -> _Shapes:
    for one in masked(image):
        corners = polygons.outline(one.mask, image.height, image.width)
        yield one, (corners / (image.width, image.height)).ravel().tolist()


def _shares(box: Sequence[float], image: ExportedImage) -> tuple[float, ...] | None:
    """Return centre and size of a box as shares of the image, clipped to it; None for nothing."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(image.width, box[0] + box[2]), min(image.height, box[1] + box[3])
    if right <= left or bottom <= top:
        return None
    width, height = image.width, image.height
    centre = (left + right) / 2 / width, (top + bottom) / 2 / height
    return (*centre, (right - left) / width, (bottom - top) / height)


def cvat(export: Export) -> Iterator[File]:
    """`annotations.xml` in the format `CVAT for images 1.1`: boxes, or masks of a task of masks.

    Without predictions there are none.
    """
    shapes = _masks if export.schema and export.schema.task_type in MASKED else _corners
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    labels = ElementTree.SubElement(task, "labels")
    for category in export.categories:
        require_xml(category.name, "category")
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = category.name
        ElementTree.SubElement(label, "attributes")
    for number, image in enumerate(export.images):
        require_size(image)
        require_xml(image.filename, "image")
        size = {"width": str(image.width), "height": str(image.height)}
        element = ElementTree.SubElement(
            root, "image", {"id": str(number), "name": image.filename, **size}
        )
        for one, kind, place in shapes(image):
            name = {"label": export.categories[one.category].name}
            more = {"source": "auto", "occluded": "0", **place, "z_order": "0"}
            ElementTree.SubElement(element, kind, name | more)
    yield "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True)


_Elements = Iterator[tuple[PredictedObject, str, dict[str, str]]]
"""Objects with the kind and the place of their elements in CVAT's XML."""


def _corners(image: ExportedImage) -> _Elements:
    for one, (x, y, width, height) in boxed(image):
        corners = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + width, y + height), strict=True)
        yield one, "box", {name: repr(float(value)) for name, value in corners}


def _masks(image: ExportedImage) -> _Elements:
    """Masks are run lengths, row by row, of the box around them."""
    for one in masked(image):
        left, top, width, height = rle.bounding_box(one.mask, image.width) or (0, 0, 0, 0)
        mask = rle.decode(one.mask, image.height, image.width)
        runs = rle.encode(mask[top : top + height, left : left + width]).tolist()
        box = {"left": left, "top": top, "width": width, "height": height}
        written = {"rle": ", ".join(map(str, runs)), **{key: str(box[key]) for key in box}}
        yield one, "mask", written


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


def sama(export: Export) -> Iterator[File]:
    """`sama_tasks.json`: tasks to upload or to create by the API; they need read URLs."""
    tasks = []
    for number, image in enumerate(export.images):
        if image.url is None:
            raise ConfigError(
                f"Sama needs a URL to read `{image.filename}` from, and there is none",
                hint="Use an input in a bucket (s3://…), whose objects have read URLs.",
            )
        data = {"id": number, "url": image.url, "image": image.url}
        tasks.append({"data": data | {"lightlyFileName": image.filename}})
    yield "sama_tasks.json", to_json(tasks)


def hugging_face(export: Export) -> Iterator[File]:
    """`metadata.jsonl` of a Hugging Face `imagefolder`; the images are to lie at `image_paths`."""
    names = [one.name for one in export.categories]
    lines = []
    for image, path in zip(export.images, image_paths(export), strict=True):
        line: dict[str, Any] = {"file_name": path, "filename": image.filename}
        if image.objects is not None and export.schema is not None:
            if export.schema.task_type is TaskType.CLASSIFICATION:
                line["labels"] = [names[one.category] for one in image.objects]
            else:
                boxes = list(boxed(image))
                line["objects"] = {
                    "bbox": [list(box) for _, box in boxes],
                    "category": [names[one.category] for one, _ in boxes],
                    "score": [None if math.isnan(one.score) else one.score for one, _ in boxes],
                }
        lines.append(msgspec.json.encode(line))
    yield "metadata.jsonl", b"".join(line + b"\n" for line in lines)


def image_paths(export: Export) -> list[str]:
    """Return where a Hugging Face `imagefolder` has each image: under a number.

    Under its own name it might not be found: folders called `train2017` or `val` become splits that
    the metadata does not belong to, those that start with a dot are not looked at.
    """
    extensions = (posixpath.splitext(image.filename)[1].lower() for image in export.images)
    return [f"images/{number:06d}{extension}" for number, extension in enumerate(extensions)]


def pretagging(export: Export) -> Iterator[File]:
    """`bounding_boxes.json`: corners as shares of the image, names and scores."""
    names = [one.name for one in require_schema(export).categories]
    content = []
    for image in export.images:
        require_size(image)
        found, size = list(boxed(image)), np.array([image.width, image.height] * 2)
        boxes = np.array([box for _, box in found], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        content.append(
            {
                "filename": image.filename,
                "boxes": np.clip(boxes / size, 0, 1).tolist(),
                "labels": [names[one.category] for one, _ in found],
                "scores": [one.score for one, _ in found],
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
    "sama": sama,
    "yolo": yolo,
}
