"""Polygons of YOLO, masks of CVAT and keypoints of COCO: out, in, and read by others."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from labelformat.formats import YOLOv8InstanceSegmentationInput
from PIL import Image

from lightly_fs.annotations import export, polygons, rle
from lightly_fs.annotations.importing import (
    import_coco,
    import_coco_keypoints,
    import_cvat,
    import_cvat_masks,
)
from lightly_fs.annotations.objects import PredictedObject, PredictionsBuilder
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType, read_schema
from lightly_fs.annotations.yolo import exported_label_path, import_yolo
from lightly_fs.errors import DatasourceError

from .folder import LightlyFolder

CATEGORIES = (Category(3, "car"), Category(17, "traffic light"))
NAMES = ["b.jpg", "sub/a.jpg", "none.jpg"]
SIZES = np.array([[40, 30], [5, 4], [3, 3]])
COLUMNS = ("offsets", "categories", "mask_offsets", "mask_counts")


def write(files, root):
    for name, content in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def segmented(*masks):
    """Return predictions of the first image with these masks, and of the second with one."""
    schema = TaskSchema("seg", TaskType.INSTANCE_SEGMENTATION, CATEGORIES)
    builder = PredictionsBuilder(schema, NAMES)
    builder.add(
        [
            PredictedObject(n % 2, 1.0, mask=rle.encode(mask).tolist())
            for n, mask in enumerate(masks)
        ]
    )
    builder.add([PredictedObject(1, 1.0, mask=[7, 2, 11])])
    return builder.build()


def ring_and_parts():
    """A mask with a hole, an island in the hole, a part elsewhere, and one that touches it."""
    mask = np.zeros((30, 40), np.bool_)
    mask[2:14, 2:20] = True
    mask[5:11, 5:15] = False
    mask[7:9, 8:10] = True
    mask[20:25, 30:] = True
    mask[25:, 20:30] = True
    return mask


some_masks = st.lists(
    arrays(np.bool_, (30, 40), elements=st.booleans(), fill=st.booleans()).filter(np.any),
    min_size=1,
    max_size=3,
)


def yolo_again(folder, predictions, *, masks=True):
    """Export, and read what was written."""
    write(export.yolo(export.selected(predictions, range(3), SIZES)), folder.root)
    return import_yolo(
        folder.files,
        NAMES,
        SIZES,
        task="seg",
        categories=[one.name for one in CATEGORIES],
        path_of=exported_label_path,
        masks=masks,
    )


@given(some_masks)
def test_masks_come_back_from_yolo(tmp_path_factory, masks):
    there = segmented(*masks)
    back = yolo_again(LightlyFolder(tmp_path_factory.mktemp("yolo")), there)

    for column in COLUMNS:
        assert np.array_equal(getattr(back, column), getattr(there, column)), column
    assert back.schema.task_type == "instance-segmentation"


@given(some_masks)
def test_masks_come_back_from_cvat(tmp_path_factory, masks):
    there = segmented(*masks)
    root = tmp_path_factory.mktemp("cvat")
    write(export.cvat(export.selected(there, range(3), SIZES)), root)
    back = import_cvat_masks(root / "annotations.xml", NAMES, task="seg")

    for column in COLUMNS:
        assert np.array_equal(getattr(back, column), getattr(there, column)), column


def test_another_reader_of_yolo_sees_one_polygon_for_each_object(tmp_path):
    there = segmented(ring_and_parts(), np.ones((30, 40), np.bool_))
    write(export.yolo(export.selected(there, [0, 1], SIZES)), tmp_path)
    for name, size in zip(NAMES[:2], SIZES[:2], strict=True):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", tuple(size)).save(tmp_path / "images" / name)
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    (tmp_path / "listed.yaml").write_text(yaml.safe_dump(content | {"train": "images"}))

    source = YOLOv8InstanceSegmentationInput(tmp_path / "listed.yaml", input_split="train")
    found = {label.image.filename: label.objects for label in source.get_labels()}

    assert [len(found[name]) for name in NAMES[:2]] == [2, 1]
    for row, one in enumerate([*found["b.jpg"], *found["sub/a.jpg"]]):
        (points,) = one.segmentation.polygons
        width, height = SIZES[there.samples[row]].tolist()
        flat = [number for point in points for number in point]
        assert polygons.draw([flat], height, width) == there.mask(row).tolist()


def test_the_line_of_a_mask(folder):
    there = segmented(np.pad(np.ones((15, 20), np.bool_), ((0, 15), (20, 0))))

    boxes = yolo_again(folder, there, masks=False)

    text = (folder.root / "labels/b.txt").read_text()
    assert text == "0 0.5 0 1 0 1 0.5 0.5 0.5\n"
    assert boxes.boxes.tolist() == [[20, 0, 20, 15], [2, 1, 2, 1]]
    assert boxes.schema.task_type == "object-detection"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.1 0.1 0.5 0.5", "line 2: a box has no mask; import the boxes as `yolo`"),
        ("0 0.1 0.1 0.5 0.5 0.9", "line 2: a box has no mask"),
        ("0 0.1 0.1 0.5 0.5 nan 0.5", "line 2: corners that are no place; write"),
        ("0 0.1 0.1 0.5 0.5 1e300 0.5", "line 2: corners that are no place; write"),
        ("0 0.1 0.1 0.5 0.5 0.1 0.5 1.5", "line 2: values outside of 0 to 1; write"),
        ("0 1.005 0.1 1.01 0.1 1.01 0.9", "line 2: outside of the image of 40 x 30 pixels; write"),
        ("2 0.1 0.1 0.5 0.5 0.1 0.5", "line 2: class 2 of 2; name every class"),
    ],
)
def test_broken_lines_are_listed(folder, line, reason):
    good = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.5\n"
    write([("labels/b.txt", f"{good}{line}\n".encode()), ("labels/sub/a.txt", good.encode())],
          folder.root)  # fmt: skip

    found = import_yolo(
        *(folder.files, NAMES, SIZES),
        task="t",
        categories=["a", "b"],
        path_of=exported_label_path,
        masks=True,
    )

    (invalid,) = found.invalid
    assert (invalid.path, invalid.reason[: len(reason)]) == ("labels/b.txt", reason)
    assert found.predicted.tolist() == [True, True, False]
    assert found.scores.tolist() == [0.5, 0.5]


def test_what_sticks_out_of_the_image_is_cut_off(folder):
    write([("labels/b.txt", b"0 -0.1 0.5 0.5 0.5 0.5 1.5 -0.1 1.5\n")], folder.root)

    masks, boxes = (
        import_yolo(
            *(folder.files, NAMES[:1], np.array([[8, 4]])),
            task="t",
            categories=["a"],
            path_of=exported_label_path,
            masks=masked,
        )
        for masked in (True, False)
    )

    rows = ["".join(map(str, row)) for row in rle.decode(masks.mask(0), 4, 8).astype(int).tolist()]
    assert rows == ["00000000", "00000000", "11110000", "11110000"]
    assert boxes.boxes == pytest.approx(np.array([[-0.8, 2, 4.8, 4]]))


def test_polygons_that_cross_themselves_have_their_odd_parts(folder):
    bow = "0 0 0 1 1 1 0 0 1\n"
    write([("labels/b.txt", bow.encode())], folder.root)

    found = import_yolo(
        *(folder.files, NAMES[:1], np.array([[8, 4]])),
        task="t",
        categories=["a"],
        path_of=exported_label_path,
        masks=True,
    )

    rows = ["".join(map(str, row)) for row in rle.decode(found.mask(0), 4, 8).astype(int).tolist()]
    assert rows == ["10000001", "11100111", "11100111", "10000001"]


def test_a_mask_in_cvat_is_the_run_lengths_of_its_box():
    mask = np.zeros((30, 40), np.bool_)
    mask[10, 20:23], mask[11, 21] = True, True
    ((_, written),) = export.cvat(export.selected(segmented(mask), [0], SIZES))

    (image,) = ElementTree.fromstring(written).findall("image")

    assert [one.tag for one in image] == ["mask"]
    assert image.find("mask").attrib == {
        "label": "car",
        "source": "auto",
        "occluded": "0",
        "rle": "0, 3, 1, 1, 1",
        "left": "20",
        "top": "10",
        "width": "3",
        "height": "2",
        "z_order": "0",
    }


def test_boxes_of_a_cvat_file_with_masks(tmp_path):
    there = segmented(ring_and_parts())
    write(export.cvat(export.selected(there, [0], SIZES)), tmp_path)

    assert import_cvat(tmp_path / "annotations.xml", NAMES, task="t").boxes.tolist() == [
        [2, 2, 38, 28]
    ]


NOSE = Category(1, "person", ("nose", "hand", "foot"), ((1, 2), (2, 3)))


def posed(*objects, category=NOSE):
    builder = PredictionsBuilder(
        TaskSchema("pose", TaskType.KEYPOINT_DETECTION, (category,)), NAMES
    )
    builder.add([PredictedObject(0, **one) for one in objects])
    return builder.build()


def coco_of(predictions):
    ((_, content),) = export.coco(export.selected(predictions, [0], SIZES))
    return json.loads(content)


def test_confidences_become_visibilities_in_coco():
    content = coco_of(
        posed(
            {"score": 0.5, "keypoints": [1, 2, 0.25, 3, 4, 1, 9, 9, 0]},
            {"score": 1.0, "box": (0, 0, 9, 9), "keypoints": [0] * 9},
        )
    )

    (category,) = content["categories"]
    assert category["keypoints"] == ["nose", "hand", "foot"]
    assert category["skeleton"] == [[1, 2], [2, 3]]
    first, second = content["annotations"]
    assert first["keypoints"] == [1, 2, 2, 3, 4, 2, 0, 0, 0]
    assert (first["num_keypoints"], first["bbox"], first["score"]) == (2, [1, 2, 2, 2], 0.5)
    assert (second["num_keypoints"], second["bbox"]) == (0, [0, 0, 9, 9])


def test_visibilities_stay_in_coco():
    content = coco_of(posed({"score": 1.0, "keypoints": [1, 2, 1, 3, 4, 2, 0, 0, 0]}))

    assert content["annotations"][0]["keypoints"] == [1, 2, 1, 3, 4, 2, 0, 0, 0]


def test_keypoints_without_names_in_coco():
    nameless = Category(1, "person")
    content = coco_of(posed({"keypoints": [1, 2, 0.5]}, category=nameless))

    assert content["categories"] == [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]


def test_an_object_without_a_keypoint_that_was_found_is_left_out(caplog):
    content = coco_of(posed({"keypoints": [1, 2, 0, 1, 1, 0, 1, 1, 0]}))

    assert content["annotations"] == []
    assert "an object of `b.jpg` has no keypoint: left out" in caplog.text


visible = st.lists(
    st.tuples(st.integers(1, 39), st.integers(1, 29), st.integers(1, 2)) | st.just((0, 0, 0)),
    min_size=3,
    max_size=3,
).filter(lambda points: any(one[2] for one in points))


@given(st.lists(visible, min_size=1, max_size=4))
def test_keypoints_come_back_from_coco_and_from_our_own_folder(tmp_path_factory, people):
    people.append([(1, 1, 2)] * 3)  # so that they are visibilities
    there = posed(*({"score": 1.0, "keypoints": [n for one in p for n in one]} for p in people))
    folder = LightlyFolder(tmp_path_factory.mktemp("pose"))
    write(export.coco(export.selected(there, [0], SIZES)), folder.root)

    back = import_coco_keypoints(folder.root / "coco.json", NAMES, task="pose")
    write(export.lightly(export.selected(back, [0], SIZES)), folder.root)
    again = read_predictions(folder.files, "pose", NAMES)

    assert back.schema == again.schema == there.schema
    for found in (back, again):
        assert np.array_equal(found.keypoints, there.keypoints)
        assert np.array_equal(found.offsets, there.offsets)
    boxes = import_coco(folder.root / "coco.json", NAMES, task="pose")
    assert np.array_equal(boxes.boxes, back.boxes)


@pytest.mark.parametrize("skeleton", [[[0, 1]], [[1]], [[1, 2]], "1-2"])
def test_a_broken_skeleton_is_named(folder, skeleton):
    category = {"id": 0, "name": "person", "keypoints": ["nose"], "skeleton": skeleton}
    folder.write("predictions/tasks.json", ["pose"]).write(
        "predictions/pose/schema.json",
        {"task_type": "keypoint-detection", "categories": [category]},
    )

    with pytest.raises(DatasourceError, match=r"\$\.categories\[0\]\.skeleton"):
        read_schema(folder.files, "pose")
