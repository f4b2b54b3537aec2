"""Labels in the formats of other tools: COCO, Pascal VOC, CVAT, and what labelformat opens.

labelformat stops at the first entry that it cannot use and has no way to go on, which is why the
common formats are read here. YOLO and Label Studio have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lightly_fs.annotations import polygons, rle
from lightly_fs.annotations.coco import read_coco
from lightly_fs.annotations.cvat import read_cvat
from lightly_fs.annotations.labels import NO_CLASSES, Labels
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject, Predictions
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.annotations.xml_labels import read_pascal_voc
from lightly_fs.errors import DatasourceError

if TYPE_CHECKING:
    from labelformat.model.image import Image
    from labelformat.model.instance_segmentation import InstanceSegmentationInput
    from labelformat.model.object_detection import ObjectDetectionInput

FORMATS: dict[str, Callable[..., Labels]] = {
    "coco": read_coco,
    "coco-keypoints": partial(read_coco, kind=TaskType.KEYPOINT_DETECTION),
    "coco-masks": partial(read_coco, kind=TaskType.INSTANCE_SEGMENTATION),
    "cvat": read_cvat,
    "cvat-masks": partial(read_cvat, masks=True),
    "pascal-voc": read_pascal_voc,
}
"""Who reads each: `(path, task=, below=)`."""


def import_coco(path: Path, filenames: Sequence[str], *, task: str, below: str = "") -> Predictions:
    """Read boxes, classes and scores of a COCO file (`images`, `annotations`, `categories`).

    Args:
        path: The file, on a local disk.
        filenames: N samples, the rows of the result.
        task: Name of the task.
        below: Folder of the samples that the file's names are relative to (`images/train2017`).

    Raises:
        DatasourceError: It cannot be read, or names none of the samples.
    """
    return read_labels("coco", path, task=task, below=below).of(filenames)


def import_coco_masks(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read the masks of a COCO file, polygons or run lengths; else as `import_coco`."""
    return read_labels("coco-masks", path, task=task, below=below).of(filenames)


def import_coco_keypoints(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read the keypoints of a COCO file, their third number as it is; else as `import_coco`."""
    return read_labels("coco-keypoints", path, task=task, below=below).of(filenames)


def import_pascal_voc(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read a folder of Pascal VOC files, one XML file per image; else as `import_coco`."""
    return read_labels("pascal-voc", path, task=task, below=below).of(filenames)


def import_cvat(path: Path, filenames: Sequence[str], *, task: str, below: str = "") -> Predictions:
    """Read the boxes of a `CVAT for images` XML file; else as `import_coco`."""
    return read_labels("cvat", path, task=task, below=below).of(filenames)


def import_cvat_masks(
    path: Path, filenames: Sequence[str], *, task: str, below: str = ""
) -> Predictions:
    """Read the masks and polygons of a `CVAT for images` XML file; else as `import_coco`."""
    return read_labels("cvat-masks", path, task=task, below=below).of(filenames)


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
    return FORMATS[kind](path, task=task, below=below)


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
        points = [[*chain.from_iterable(one)] for one in given.segmentation.polygons]
        counts = polygons.draw(points, image.height, image.width)
    box = rle.bounding_box(counts, image.width)
    return PredictedObject(place, LABEL_SCORE, box, mask=counts)


def _opened(path: Path, read: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `read` returns
    """Call labelformat, whose errors are those of whatever library met the fault."""
    try:
        return read()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        wrong = str(error).splitlines()[0] if str(error) else ""
        raise DatasourceError(
            f"{path} is not what its format asks for: {type(error).__name__}: {wrong}",
            hint="check the file, or write it again with the tool that made it",
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "labelformat":
            raise
        raise DatasourceError(f"{path} is not what its format asks for: {error}") from error
