"""Masks that leave in other formats, and come back as they were."""

import json
import logging
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightly_fs.annotations import brush, export, rle
from lightly_fs.annotations.importing import import_coco_masks
from lightly_fs.annotations.label_studio import import_label_studio
from lightly_fs.annotations.objects import PredictedObject, PredictionsBuilder
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import ConfigError

from .folder import LightlyFolder

CATEGORIES = (Category(3, "car"), Category(17, "traffic light"))
NAMES = ["b.jpg", "sub/a.jpg", "none.jpg"]
SIZES = np.array([[8, 6], [5, 4], [3, 3]])
MASKED = [TaskType.INSTANCE_SEGMENTATION, TaskType.SEMANTIC_SEGMENTATION]

masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.booleans(), fill=st.booleans())
)


@given(masks)
def test_run_lengths_survive_columns_compression_and_the_brush(mask):
    height, width = mask.shape
    counts = rle.encode(mask)

    columns = rle.transposed(counts, height, width)

    assert np.array_equal(rle.decode(columns, width, height), mask.T)
    assert rle.decompress(rle.compress(columns)) == columns.tolist()
    assert brush.decode(brush.encode(counts.tolist()), height, width) == counts.tolist()


def test_compression_as_pycocotools_writes_it():
    mask = np.zeros((30, 45), np.bool_)
    mask[3:20, 4:9], mask[10:29, 30:44] = True, True

    assert rle.compress(rle.transposed(rle.encode(mask), 30, 45)) == COMPRESSED


COMPRESSED = "k3a0=0000000mc02Q\\O0000000000000000000000000d0"


def test_a_brush_mask_as_label_studio_packs_it():
    """Of a mask of 2 x 1 pixels, the second set: 4 zeros and 4 times 255, a byte for a channel."""
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    packed = int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")

    assert brush.encode([1, 1]) == packed
    # Values one by one, of which only the last, opaque one counts, as a brush of a colour has them.
    colours = bits[:53] + "0" + "00" + "111" + "".join(f"{n:08b}" for n in (9, 9, 9, 0, 1, 2, 3, 4))
    data = int(colours + "0" * (-len(colours) % 8), 2).to_bytes(-(-len(colours) // 8), "big")
    assert brush.decode(data, 1, 2) == [1, 1]


@given(st.binary(max_size=60), st.integers(0, 9), st.integers(0, 9))
def test_any_bytes_are_a_brush_mask_or_refused(data, height, width):
    start = brush.encode([height * width])[:7]
    for given_ in (data, start + data):
        try:
            counts = brush.decode(given_, height, width)
        except ValueError:
            continue
        assert sum(counts) == height * width


@pytest.fixture(params=MASKED)
def segments(request):
    """Two images with masks, one of which has a box and one all of it set; one without any."""
    schema = TaskSchema("seg", request.param, CATEGORIES)
    builder = PredictionsBuilder(schema, NAMES)
    mask = np.zeros((6, 8), np.bool_)
    mask[1:5, 2:4], mask[2, 6] = True, True
    whole = None if request.param is TaskType.SEMANTIC_SEGMENTATION else (1.5, 1.0, 6.0, 4.25)
    counts = rle.encode(mask).tolist()
    builder.add(
        [PredictedObject(1, 0.5, whole, mask=counts), PredictedObject(0, 1.0, mask=[0, 48])]
    )
    builder.add([PredictedObject(1, 0.25, mask=[19, 1])])
    return builder.build()


def test_lightly_to_coco_and_back(segments, tmp_path):
    ((name, content),) = export.coco(export.selected(segments, range(3), SIZES))
    (tmp_path / name).write_bytes(content)
    back = import_coco_masks(tmp_path / name, NAMES, task="seg")
    folder = LightlyFolder(tmp_path)
    for path, data in export.lightly(export.selected(back, range(3), SIZES)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    again = read_predictions(folder.files, "seg", NAMES)

    assert not again.invalid
    assert again.schema.categories == segments.schema.categories
    for column in ("offsets", "categories", "scores", "mask_offsets", "mask_counts"):
        assert np.array_equal(getattr(again, column), getattr(segments, column)), column
    given_ = ~np.isnan(segments.boxes[:, 0])
    assert np.array_equal(again.boxes[given_], segments.boxes[given_])


def test_coco_has_areas_and_boxes_of_masks(segments):
    ((_, content),) = export.coco(export.selected(segments, range(3), SIZES))

    first, whole, dot = json.loads(content)["annotations"]

    assert (first["area"], whole["area"], dot["area"]) == (9, 48, 1)
    assert (whole["bbox"], dot["bbox"]) == ([0, 0, 8, 6], [4, 3, 1, 1])
    assert dot["segmentation"]["size"] == [4, 5]
    assert {first["iscrowd"], whole["iscrowd"], dot["iscrowd"]} == {0}


def test_lightly_to_label_studio_and_back(segments, folder):
    (_, content), (_, configuration) = export.label_studio(
        export.selected(segments, range(3), SIZES)
    )
    folder.write("tasks.json", content)

    back = import_label_studio(folder.files, ".lightly/tasks.json", NAMES, task="seg")

    view = ElementTree.fromstring(configuration)
    assert [one.get("value") for one in view.find("BrushLabels")] == ["car", "traffic light"]
    assert back.schema.task_type == TaskType.INSTANCE_SEGMENTATION
    for column in ("offsets", "categories", "scores", "mask_offsets", "mask_counts"):
        assert np.array_equal(getattr(back, column), getattr(segments, column)), column


@pytest.mark.parametrize("name", ["pretagging", "huggingface"])
def test_formats_of_boxes_have_the_box_around_a_mask(segments, name):
    chosen = export.selected(segments, [1], SIZES)
    boxed = PredictedObject(1, 0.25, (4, 3, 1, 1))
    image = export.ExportedImage("sub/a.jpg", 5, 4, None, [boxed])

    assert dict(export.EXPORTERS[name](chosen)) == dict(
        export.EXPORTERS[name](export.Export([image], segments.schema))
    )


@pytest.mark.parametrize(
    ("mask", "said"), [([20], "is empty: the object is left out"), ([2, 1], "has 3 pixels")]
)
def test_masks_that_show_nothing_are_left_out_with_a_warning(mask, said, caplog):
    caplog.set_level(logging.WARNING)
    good = PredictedObject(0, 1.0, mask=[5, 15])
    image = export.ExportedImage("a.jpg", 5, 4, None, [PredictedObject(0, 1.0, mask=mask), good])
    schema = TaskSchema("t", TaskType.INSTANCE_SEGMENTATION, CATEGORIES)

    chosen = export.Export([image], schema)

    ((_, content),) = export.coco(chosen)
    assert len(json.loads(content)["annotations"]) == 1
    assert f"a mask of `a.jpg` {said}" in caplog.text
    for exporter, find in (
        (export.cvat, lambda files: files["annotations.xml"].count(b"<mask")),
        (export.yolo, lambda files: files["labels/a.txt"].count(b"\n")),
    ):
        caplog.clear()
        assert find(dict(exporter(chosen))) == 1
        assert f"a mask of `a.jpg` {said}" in caplog.text


@pytest.mark.parametrize("mask", [[20], [2, 1]])
def test_masks_that_show_nothing_are_left_out_with_their_box(mask, caplog, folder):
    box = (1.0, 1.0, 2.0, 2.0)
    some = [PredictedObject(0, 1.0, box, mask=one) for one in (mask, [5, 15])]
    image = export.ExportedImage("a.jpg", 5, 4, None, some)
    chosen = export.Export([image], TaskSchema("t", TaskType.INSTANCE_SEGMENTATION, CATEGORIES))

    ((name, content),) = export.coco(chosen)
    (_, tasks), _ = export.label_studio(chosen)

    (folder.root / name).write_bytes(content)
    back = import_coco_masks(folder.root / name, ["a.jpg"], task="t")
    assert back.mask(0).tolist() == [5, 15]
    assert not back.invalid
    assert len(back.categories) == 1
    assert len(json.loads(tasks)[0]["predictions"][0]["result"]) == 1
    assert caplog.text.count("the object is left out") == 2


def test_an_object_without_a_mask_is_not_left_out_silently(caplog):
    one = PredictedObject(0, 1.0, (1, 1, 2, 2))
    image = export.ExportedImage("a.jpg", 5, 4, None, [one])
    schema = TaskSchema("t", TaskType.INSTANCE_SEGMENTATION, CATEGORIES)

    (_, content), _ = export.label_studio(export.Export([image], schema))

    assert json.loads(content)[0]["predictions"][0]["result"] == []
    assert "an object of `a.jpg` has no mask: left out" in caplog.text
    caplog.clear()
    assert dict(export.yolo(export.Export([image], schema)))["labels/a.txt"] == b""
    assert "an object of `a.jpg` has no mask: left out" in caplog.text


def test_sama_tasks():
    images = [export.ExportedImage("sub/a.jpg", 0, 0, "https://host/sub/a.jpg?x=1")]

    ((name, content),) = export.sama(export.Export(images))

    assert name == "sama_tasks.json"
    url = "https://host/sub/a.jpg?x=1"
    data = {"id": 0, "url": url, "image": url, "lightlyFileName": "sub/a.jpg"}
    assert json.loads(content) == [{"data": data}]
    with pytest.raises(ConfigError, match=r"Sama needs a URL to read `b\.jpg` from"):
        list(export.sama(export.Export([export.ExportedImage("b.jpg", 0, 0)])))
