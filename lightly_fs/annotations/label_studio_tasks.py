"""A selection as tasks for Label Studio, with predictions to start from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from lightly_fs.annotations import brush
from lightly_fs.annotations.exported import (
    Export,
    ExportedImage,
    File,
    boxed,
    require_size,
    require_xml,
    shows,
    to_json,
)
from lightly_fs.annotations.objects import PredictedObject
from lightly_fs.annotations.tasks import MASKED, TaskSchema, TaskType

logger = logging.getLogger(__name__)


def label_studio(export: Export) -> Iterator[File]:
    """`label_studio_tasks.json`: tasks with the image's URL and predictions to start from.

    Predictions are classes, rectangles, or masks drawn with the brush.

    With predictions there is also `label_studio_config.xml`, a labelling configuration that fits.
    """
    tasks = []
    for number, image in enumerate(export.images):
        data = {"image": image.url or image.filename, "lightlyFileName": image.filename}
        task: dict[str, Any] = {"id": number, "data": data}
        if image.objects is not None and export.schema is not None:
            results = list(_results(image, export.schema))
            task["predictions"] = [{"model_version": export.schema.name, "result": results}]
        tasks.append(task)
    yield "label_studio_tasks.json", to_json(tasks)
    if export.schema is not None:
        yield "label_studio_config.xml", _configuration(export.schema)


def _results(image: ExportedImage, schema: TaskSchema) -> Iterator[dict[str, Any]]:
    names = schema.category_names
    if schema.task_type is TaskType.CLASSIFICATION:
        for number, one in enumerate(image.objects or ()):
            choices = {"choices": [names[one.category]]}
            yield _result(number, one) | {"type": "choices", "value": choices}
    elif schema.task_type in MASKED:
        for number, one in enumerate(image.objects or ()):
            if shows(image, one):
                yield _result(number, one) | _brush(one, image, names[one.category])
            elif not one.mask:
                logger.warning("an object of `%s` has no mask: left out", image.filename)
    else:
        for number, (one, box) in enumerate(boxed(image)):
            yield _result(number, one) | _rectangle(box, image, names[one.category])


def _result(number: int, one: PredictedObject) -> dict[str, Any]:
    result = {"id": f"object_{number}", "from_name": "label", "to_name": "image"}
    return result if math.isnan(one.score) else {**result, "score": one.score}


def _rectangle(box: Sequence[float], image: ExportedImage, name: str) -> dict[str, Any]:
    """Return a rectangle in percent of the image."""
    require_size(image)
    x, y, width, height = box
    value = {
        "x": 100 * x / image.width,
        "y": 100 * y / image.height,
        "width": 100 * width / image.width,
        "height": 100 * height / image.height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    return {"type": "rectanglelabels", **_size(image), "value": value}


def _brush(one: PredictedObject, image: ExportedImage, name: str) -> dict[str, Any]:
    mask = list(brush.encode(one.mask))
    value = {"format": "rle", "rle": mask, "brushlabels": [name]}
    return {"type": "brushlabels", **_size(image), "value": value}


def _size(image: ExportedImage) -> dict[str, int]:
    return {"original_width": image.width, "original_height": image.height, "image_rotation": 0}


def _configuration(schema: TaskSchema) -> bytes:
    classes = schema.task_type is TaskType.CLASSIFICATION
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image"})
    of_image = {"name": "label", "toName": "image"}
    if classes:
        labels = ElementTree.SubElement(view, "Choices", of_image | {"choice": "multiple"})
    else:
        tag = "BrushLabels" if schema.task_type in MASKED else "RectangleLabels"
        labels = ElementTree.SubElement(view, tag, of_image)
    for name in schema.category_names:
        require_xml(name, "category")
        ElementTree.SubElement(labels, "Choice" if classes else "Label", {"value": name})
    ElementTree.indent(view)
    text: str = ElementTree.tostring(view, "unicode")
    return f"{text}\n".encode()
