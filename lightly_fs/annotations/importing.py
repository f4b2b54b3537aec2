"""Labels in the formats that labelformat reads: COCO, Pascal VOC, CVAT, KITTI, Labelbox.

It is an extra (`lightly-fs[labels]`). YOLO and Label Studio have modules of their own: labelformat
drops the confidences of YOLO, opens every image for it, and does not know Label Studio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from lightly_fs.annotations import rle
from lightly_fs.annotations.coco import drop_invalid
from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.labels import NO_CLASSES, Labels
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject, Predictions
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import DatasourceError, MissingExtraError

if TYPE_CHECKING:
    from labelformat.model.image import Image
    from labelformat.model.instance_segmentation import InstanceSegmentationInput
    from labelformat.model.object_detection import ObjectDetectionInput


def import_coco(path: Path, filenames: Sequence[str], *, task: str, below: str = "") -> Predictions:
    """Read boxes, classes and scores of a COCO file (`images`, `annotations`, `categories`).

    Args:
        path: The file, on a local disk.
        filenames: N samples, the rows of the result.
        task: Name of the task.
        below: Folder of the samples that the file's names are relative to (`images/train2017`).

    Raises:
        DatasourceError: It cannot be read, or names none of the samples.
        MissingExtraError: labelformat is not installed.
    """
    return read_labels("coco", path, task=task, below=below).of(filenames)


def import_coco_masks(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read the masks of a COCO file, polygons or run lengths; else as `import_coco`."""
    return read_labels("coco-masks", path, task=task, below=below).of(filenames)


def import_pascal_voc(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read a folder of Pascal VOC files, one XML file per image; else as `import_coco`."""
    return read_labels("pascal-voc", path, task=task, below=below).of(filenames)


def import_cvat(path: Path, filenames: Sequence[str], *, task: str, below: str = "") -> Predictions:
    """Read the boxes of a `CVAT for images` XML file; else as `import_coco`."""
    return read_labels("cvat", path, task=task, below=below).of(filenames)


def import_labelformat(
    source: ObjectDetectionInput | InstanceSegmentationInput,
    filenames: Sequence[str],
    *,
    task: str,
    below: str = "",
    path: Path,
) -> Predictions:
    """Read whatever labelformat has opened, KITTI or Labelbox too; see `import_coco`.

    Args:
        source: An input of labelformat.
        filenames: N samples, the rows of the result.
        task: Name of the task.
        below: Folder of the samples that the labels' names are relative to.
        path: What it was opened from, for messages.
    """
    return _labels(source, task, below, path).of(filenames)


def read_labels(kind: str, path: Path, *, task: str, below: str = "") -> Labels:
    """Read a file or folder by the name of its format, one of `FORMATS`; else as `import_coco`."""
    formats = _labelformat()
    source = _opened(path, lambda: FORMATS[kind](formats, path))
    # labelformat stops at the first annotation that it cannot use, and has no way to go on.
    content = getattr(source, "_data", None) if kind.startswith("coco") else None
    invalid: Sequence[InvalidFile] = ()
    if isinstance(content, dict):
        masks = kind == "coco-masks"
        invalid = _opened(path, lambda: drop_invalid(content, str(path), masks=masks))
    return replace(_labels(source, task, below, path), invalid=invalid)


def _pascal_voc(formats: Any, path: Path) -> Any:  # noqa: ANN401 - labelformat's own
    names = sorted(_voc_names(path))
    return formats.PascalVOCObjectDetectionInput(path, category_names=",".join(names))


FORMATS: dict[str, Callable[[Any, Path], Any]] = {
    "coco": lambda formats, path: formats.COCOObjectDetectionInput(input_file=path),
    "coco-masks": lambda formats, path: formats.COCOInstanceSegmentationInput(input_file=path),
    "cvat": lambda formats, path: formats.CVATObjectDetectionInput(input_file=path),
    "pascal-voc": _pascal_voc,
}
"""How labelformat opens each."""


def _labels(
    source: ObjectDetectionInput | InstanceSegmentationInput, task: str, below: str, path: Path
) -> Labels:
    objects, categories = _opened(path, lambda: _by_filename(source, below))
    masks = any(one.mask for image in objects.values() for one in image)
    kind = TaskType.INSTANCE_SEGMENTATION if masks else TaskType.OBJECT_DETECTION
    return Labels(TaskSchema(task, kind, categories or NO_CLASSES), objects, str(path))


def _by_filename(
    source: ObjectDetectionInput | InstanceSegmentationInput, below: str
) -> tuple[dict[str, list[PredictedObject]], tuple[Category, ...]]:
    ordered = sorted(source.get_categories(), key=lambda one: one.id)
    places = {one.id: place for place, one in enumerate(ordered)}
    labels: dict[str, list[PredictedObject]] = {}
    for label in source.get_labels():
        name = str(PurePosixPath(below, label.image.filename))
        labels.setdefault(name, []).extend(  # a file may list an image twice
            _from_labelformat(one, places[one.category.id], label.image) for one in label.objects
        )
    return labels, tuple(Category(one.id, one.name) for one in ordered)


def _from_labelformat(given: Any, place: int, image: Image) -> PredictedObject:  # noqa: ANN401
    if hasattr(given, "box"):
        score = LABEL_SCORE if given.confidence is None else given.confidence
        left, top, right, bottom = given.box.xmin, given.box.ymin, given.box.xmax, given.box.ymax
        return PredictedObject(place, score, (left, top, right - left, bottom - top))
    if hasattr(given.segmentation, "get_rle"):
        counts = given.segmentation.get_rle()
    else:
        counts = _polygons_as_mask(given.segmentation.polygons, image.height, image.width)
    box = rle.bounding_box(counts, image.width)
    return PredictedObject(place, LABEL_SCORE, box, mask=counts)


def _polygons_as_mask(
    polygons: Iterable[Sequence[tuple[float, float]]], height: int, width: int
) -> list[int]:
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon], fill=1)
    counts: list[int] = rle.encode(np.asarray(canvas)).tolist()
    return counts


def _voc_names(folder: Path) -> set[str]:
    """Return the classes that occur: labelformat has to be told them beforehand."""
    names: set[str] = set()
    for file in sorted(folder.glob("*.xml")):
        root = ElementTree.parse(file)  # noqa: S314 - expat expands no external entities
        names.update(name.text or "" for name in root.findall("object/name"))
    return names


def _labelformat() -> Any:  # noqa: ANN401 - a module
    try:
        from labelformat import formats
    except ImportError as error:
        raise MissingExtraError(
            "labelformat is not installed, which reads this format",
            hint="pip install 'lightly-fs[labels]'",
        ) from error
    return formats


def _opened(path: Path, read: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `read` returns
    """Call labelformat, whose errors are those of whatever library met the fault."""
    try:
        return read()
    except RecursionError as error:
        raise DatasourceError(
            f"{path} is not what its format asks for: it is nested too deeply",
            hint="Check the file, or write it again with the tool that made it.",
        ) from error
    except (OSError, ValueError, LookupError, TypeError, ElementTree.ParseError) as error:
        wrong = str(error).splitlines()[0] if str(error) else ""
        raise DatasourceError(
            f"{path} is not what its format asks for: {type(error).__name__}: {wrong}",
            hint="Check the file, or write it again with the tool that made it.",
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "labelformat":
            raise
        raise DatasourceError(f"{path} is not what its format asks for: {error}") from error
