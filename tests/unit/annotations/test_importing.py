"""Import, checked with real labels and with files that are written out here."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from lightly_fs.annotations import rle
from lightly_fs.annotations.importing import (
    import_coco,
    import_coco_keypoints,
    import_coco_masks,
    import_cvat,
    import_cvat_masks,
    import_pascal_voc,
)
from lightly_fs.annotations.label_studio import import_label_studio, sample_of
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.predictions import category_count, class_distribution
from lightly_fs.annotations.scores import active_learning_scores
from lightly_fs.annotations.yolo import import_yolo, yolo_label_path
from lightly_fs.errors import DatasourceError

from .folder import LightlyFolder

NAMES = ["in/b.jpg", "in/none.jpg", "in/a.jpg"]

COCO = {
    "images": [
        {"id": 5, "file_name": "a.jpg", "width": 8, "height": 6},
        {"id": 9, "file_name": "b.jpg", "width": 8, "height": 6},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 17, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 8, 6]},
    ],
    "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
}


def check_boxes(found, *, scores):
    assert found.schema.category_names == ("car", "cat")
    assert found.offsets.tolist() == [0, 2, 2, 2]
    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 8, 6]]
    assert [found.schema.category_names[place] for place in found.categories] == ["cat", "car"]
    assert found.scores.tolist() == scores


def test_coco_boxes_classes_and_scores(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO))

    found = import_coco(path, NAMES, task="coco", below="in")

    check_boxes(found, scores=[0.25, 1.0])
    assert [one.id for one in found.schema.categories] == [3, 17]
    assert found.predicted.tolist() == [True, False, True]


def test_coco_masks_as_polygons_and_run_lengths(tmp_path):
    square = {"iscrowd": 0, "segmentation": [[2, 1, 4, 1, 4, 3, 2, 3]]}
    mask = np.zeros((6, 8), np.bool_)
    mask[4:, 6:] = True
    by_column = rle.encode(mask.T)  # COCO counts column by column
    crowd = {"iscrowd": 1, "segmentation": {"size": [6, 8], "counts": by_column.tolist()}}
    both = [one | extra for one, extra in zip(COCO["annotations"], (square, crowd), strict=True)]
    for one in both:
        del one["bbox"]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO | {"annotations": both}))

    found = import_coco_masks(path, NAMES, task="coco", below="in")

    drawn = rle.decode(found.mask(0), 6, 8)
    assert drawn[1:3, 2:4].all()
    assert drawn.sum() == 4  # as pycocotools
    assert np.array_equal(rle.decode(found.mask(1), 6, 8), mask)
    assert found.boxes.tolist() == [[2, 1, 2, 2], [6, 4, 2, 2]]
    assert found.scores.tolist() == [0.25, 1.0]

    compressed = {"size": [6, 8], "counts": rle.compress(by_column)}
    both[1] |= {"segmentation": compressed, "bbox": [5, 3, 3, 3]}
    path.write_text(json.dumps(COCO | {"annotations": both}))
    found = import_coco_masks(path, NAMES, task="coco", below="in")
    assert np.array_equal(rle.decode(found.mask(1), 6, 8), mask)
    assert found.boxes.tolist() == [[2, 1, 2, 2], [5, 3, 3, 3]]


def test_cvat(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(
        "<annotations><meta><task><labels><label><name>car</name></label>"
        "<label><name>cat</name></label></labels></task></meta>"
        '<image id="0" name="b.jpg" width="8" height="6">'
        '<box label="cat" xtl="1" ytl="2" xbr="4" ybr="6" occluded="0"/>'
        '<box label="car" xtl="0" ytl="0" xbr="8" ybr="6" occluded="0"/></image>'
        "</annotations>"
    )

    check_boxes(import_cvat(path, NAMES, task="t", below="in"), scores=[1, 1])


def test_pascal_voc(tmp_path):
    def box(name, *corners):
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"

    (tmp_path / "b.xml").write_text(
        "<annotation><filename>b.jpg</filename><size><width>8</width><height>6</height></size>"
        + box("cat", 1, 2, 4, 6)
        + box("car", 0, 0, 8, 6)
        + "</annotation>"
    )

    check_boxes(import_pascal_voc(tmp_path, NAMES, task="t", below="in"), scores=[1, 1])


def test_labels_of_no_sample_are_an_error_that_shows_both_names(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO))

    with pytest.raises(DatasourceError) as caught:
        import_coco(path, NAMES, task="coco")

    assert caught.value.message == (
        f"{path} labels none of the 3 samples: it names `a.jpg`, they are like `in/b.jpg`"
    )
    assert "`below`" in caught.value.hint


BROKEN = [
    ("{", "$: no JSON, input data was truncated"),
    (json.dumps({"images": []}), "$.annotations: missing"),
    ("[" * 200_000, "$: "),
    ('{"images": NaN, "annotations": [], "categories": []}', "$.images: expected `array`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_coco_file_is_named_with_the_reason(tmp_path, text, reason):
    path = tmp_path / "instances.json"
    path.write_text(text)

    with pytest.raises(DatasourceError) as caught:
        import_coco(path, NAMES, task="coco", below="in")

    assert caught.value.message.startswith(f"{path} is no COCO file: {reason}")


@pytest.mark.parametrize(
    ("reader", "more", "reason"),
    [
        (import_coco, {"image_id": 7}, ".image_id: 7 is none of `images`; write the id of one"),
        (import_coco, {"category_id": 7}, ".category_id: 7 is none of `categories`; write"),
        (import_coco, {"category_id": [7]}, ".category_id: expected `int | str`, got `array`;"),
        (import_coco, {"bbox": [1, 2, -3, 4]}, ".bbox[2]: expected `float` >= 0.0; write [x, y,"),
        (import_coco, {"bbox": [1, 2, float("nan"), 4]}, ".bbox[2]: expected `float`, got `str`"),
        (import_coco, {"bbox": None}, ".bbox: expected `array`, got `null`; write [x, y, width"),
        (import_coco, {"score": 3}, ".score: expected `float` <= 1.0; write the confidence"),
        (import_coco_masks, {"segmentation": []}, ".segmentation: no polygon; write polygons"),
        (import_coco_masks, {"segmentation": [[float("nan")] * 6]}, ".segmentation[0][0]: "),
        (import_coco_masks, {"segmentation": [[1, 1, 5]]}, ".segmentation: a polygon of 3 numbers"),
        (import_coco_masks, {"segmentation": [[9, 7, 12, 7, 12, 9]]},
         ".segmentation: outside of the image of 8 x 6 pixels; write polygons"),
        (import_coco_masks, {"segmentation": {"counts": "1~", "size": [6, 8]}},
         ".segmentation: its compressed run lengths are broken: '~' after 1 run lengths"),
        (import_coco_masks, {"segmentation": {"counts": "a", "size": [6, 8]}},
         ".segmentation: its compressed run lengths are broken: it ends within"),
        (import_coco_masks, {"segmentation": {"counts": [50, -2], "size": [6, 8]}},
         ".segmentation.counts[1]: expected `int` >= 0; write run lengths"),
        (import_coco_masks, {"segmentation": {"counts": [50], "size": [6, 8]}},
         ".segmentation: run lengths of 50 pixels, not 48"),
        (import_coco_masks, {"segmentation": {"counts": [50], "size": [8, 6]}},
         ".segmentation: run lengths of size [8, 6], not [6, 8]"),
        (import_coco_masks, {"image_id": 33}, ".segmentation: a mask of 1000000 x 1000000 pixels"),
        (import_coco_keypoints, {"keypoints": None}, ".keypoints: expected `array`, got `null`;"),
        (import_coco_keypoints, {"keypoints": []}, ".keypoints: expected `array` of length >= 3"),
        (import_coco_keypoints, {"keypoints": [1, 2, 2, 3]}, ".keypoints: 4 numbers, not three"),
        (import_coco_keypoints, {"keypoints": [1, 2, 2] * 3},
         ".keypoints: 3 keypoints, but the category names 2; write x, y, visibility of every"),
        (import_coco_keypoints, {"keypoints": [1, 2, 2, 1, 2, -1]}, ".keypoints: a visibility of"),
        (import_coco_keypoints, {"keypoints": [1, float("nan"), 2] * 2}, ".keypoints[1]: expected"),
    ],
)  # fmt: skip
def test_one_bad_coco_annotation_is_left_out_and_listed(tmp_path, reader, more, reason):
    square = {"segmentation": [[2, 1, 4, 1, 4, 3, 2, 3]], "keypoints": [1, 2, 2, 0, 0, 0]}
    one = COCO["annotations"][0] | square
    huge = {"id": 33, "file_name": "huge.jpg", "width": 10**6, "height": 10**6}
    path = tmp_path / "instances.json"
    cat = COCO["categories"][0] | {"keypoints": ["nose", "tail"]}
    content = COCO | {"annotations": [one, one | more], "categories": [cat]}
    path.write_text(json.dumps(content | {"images": [*COCO["images"], huge]}))

    found = reader(path, NAMES, task="t", below="in")

    (invalid,) = found.invalid
    assert invalid.path == str(path)
    assert invalid.reason.startswith(f"$.annotations[1]{reason}")
    assert len(found.categories) == 1


@pytest.mark.parametrize(
    ("key", "entry", "reason"),
    [
        ("images", 3, "$.images[2]: expected `object`, got `int`; write an object with `id`"),
        ("images", {"id": 6}, "$.images[2].file_name: missing; write the image's path"),
        ("images", {"id": 9, "file_name": "x.jpg"}, "$.images[2].id: 9 is that of another image"),
        ("categories", {"id": -1, "name": "x"}, "$.categories[2].id: expected `int` >= 0"),
        ("categories", {"id": 5, "name": "cat"}, "$.categories[2].name: 'cat' is there already"),
        ("categories", {"id": 17, "name": "x"}, "$.categories[2].id: 17 is there already"),
        ("annotations", None, "$.annotations[2]: expected `object`, got `null`; write an object"),
    ],
)
def test_one_bad_entry_of_a_coco_file_is_left_out_and_listed(tmp_path, key, entry, reason):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO | {key: [*COCO[key], entry]}))

    found = import_coco(path, NAMES, task="t", below="in")

    check_boxes(found, scores=[0.25, 1.0])
    (invalid,) = found.invalid
    assert invalid.reason.startswith(reason)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"skeleton": [[1, 2], [1, 9]]}, "skeleton: keypoint 9, but the category names 2; write"),
        ({"keypoints": ["nose", "nose"]}, "keypoints: 'nose' is there twice; give each keypoint"),
    ],
)
def test_a_coco_category_with_broken_keypoints_is_left_out_and_listed(tmp_path, more, reason):
    good = {"id": 3, "name": "car", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    annotations = [one | {"keypoints": [1, 2, 2, 0, 0, 0]} for one in COCO["annotations"]]
    content = {"categories": [good | {"id": 17, "name": "cat"} | more, good]}
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(COCO | content | {"annotations": annotations}))

    found = import_coco_keypoints(path, NAMES, task="t", below="in")

    assert found.schema.category_names == ("car",)
    assert len(found.categories) == 1
    assert [one.reason.split(";")[0] for one in found.invalid] == [
        f"$.categories[0].{reason}".split(";")[0],
        "$.annotations[0].category_id: 17 is none of `categories`",
    ]
    assert found.invalid[0].reason.startswith(f"$.categories[0].{reason}")


def test_an_image_whose_coco_annotations_are_all_bad_has_no_labels(tmp_path):
    path = tmp_path / "instances.json"
    bad = {"id": 3, "image_id": 5, "category_id": 3, "bbox": [1, 2]}
    path.write_text(json.dumps(COCO | {"annotations": [*COCO["annotations"], bad]}))

    found = import_coco(path, NAMES, task="t", below="in")

    assert found.predicted.tolist() == [True, False, False]
    assert len(found.invalid) == 1


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
def test_only_bad_entries_are_an_error_that_lists_them(tmp_path, key):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO | {key: [{}, {}]}))

    with pytest.raises(NothingValidError, match="not one of the labels is valid") as caught:
        import_coco(path, NAMES, task="t", below="in")
    assert len(caught.value.invalid) == (2 if key == "annotations" else 4)


def test_an_image_that_coco_lists_twice_has_the_labels_of_both(tmp_path):
    twin = COCO["images"][1] | {"id": 99}
    more = COCO["annotations"][0] | {"image_id": 99, "bbox": [3, 3, 1, 1]}
    path = tmp_path / "instances.json"
    content = {"images": [*COCO["images"], twin], "annotations": [*COCO["annotations"], more]}
    path.write_text(json.dumps(COCO | content))

    found = import_coco(path, NAMES, task="t", below="in")

    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 8, 6], [3, 3, 1, 1]]
    assert found.offsets.tolist() == [0, 3, 3, 3]


def test_labels_without_an_object_or_an_image(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO | {"annotations": [], "categories": []}))
    assert import_coco(path, NAMES, task="t", below="in").predicted.any()

    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DatasourceError, match="labels no image at all") as caught:
        import_coco(path, NAMES, task="t", below="in")
    assert "below" not in caught.value.hint


@pytest.mark.parametrize("reader", [import_cvat, import_coco, import_pascal_voc])
def test_a_file_that_is_not_there(tmp_path, reader):
    with pytest.raises(DatasourceError, match=r"nothing (cannot be read|is no folder)"):
        reader(tmp_path / "nothing", NAMES, task="t")


CVAT = (
    "<annotations><meta><task><labels><label><name>car</name></label><label><name>cat</name>"
    '</label></labels></task></meta><image name="b.jpg"><box label="cat" xtl="1" ytl="2" xbr="4" '
    'ybr="6"/>{}<box label="car" xtl="0" ytl="0" xbr="8" ybr="6"/></image>{}</annotations>'
)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("<box/>", "image[1]/box[2]/@label: missing"),
        ('<box label="dog" xtl="0"/>', "image[1]/box[2]/@label: 'dog' is none of `meta`"),
        ('<box label="cat" xtl="0" ytl="1"/>', "image[1]/box[2]/@xbr: missing"),
        ('<box label="cat" xtl="nan"/>', "image[1]/box[2]/@xtl: 'nan' is no number of pixels"),
        ('<box label="cat" xtl="5" ytl="0" xbr="1" ybr="2"/>', "image[1]/box[2]: it ends before"),
    ],
)
def test_one_bad_box_of_cvat_is_left_out_and_listed(tmp_path, box, reason):
    (tmp_path / "a.xml").write_text(CVAT.format(box, '<image name="a.jpg"/>'))

    found = import_cvat(tmp_path / "a.xml", NAMES, task="t", below="in")

    check_boxes(found, scores=[1, 1])
    assert found.predicted.tolist() == [True, False, True]
    (invalid,) = found.invalid
    assert invalid.reason.startswith(reason)


SHAPES = (
    "<annotations><meta><task><labels><label><name>car</name></label><label><name>cat</name></label>"
    '</labels></task></meta><image name="b.jpg" width="8" height="6">'
    '<polygon label="cat" points="2,1;4,1;4.00,3;2,3" z_order="0"/>{}'
    '<mask label="car" rle="1, 1, 1, 3" left="5" top="3" width="3" height="2"/><tag label="cat"/>'
    "</image>{}</annotations>"
)


def test_masks_and_polygons_of_cvat(tmp_path):
    (tmp_path / "a.xml").write_text(SHAPES.format("", '<image name="a.jpg"/>'))

    found = import_cvat_masks(tmp_path / "a.xml", NAMES, task="t", below="in")

    first, second = (rle.decode(found.mask(row), 6, 8) for row in range(2))
    assert (first[1:3, 2:4].all(), first.sum()) == (True, 4)
    assert second[3:5, 5:].tolist() == [[False, True, False], [True, True, True]]
    assert second.sum() == 4
    assert found.boxes.tolist() == [[2, 1, 2, 2], [5, 3, 3, 2]]
    assert [found.schema.category_names[place] for place in found.categories] == ["cat", "car"]
    assert found.schema.task_type == "instance-segmentation"
    assert found.predicted.tolist() == [True, False, True]
    assert not found.invalid


def test_boxes_around_masks_and_polygons_of_cvat(tmp_path):
    (tmp_path / "a.xml").write_text(SHAPES.format("", ""))

    found = import_cvat(tmp_path / "a.xml", NAMES, task="t", below="in")

    assert found.boxes.tolist() == [[2, 1, 2, 2], [5, 3, 3, 2]]
    assert found.schema.task_type == "object-detection"


PLACED = 'left="5" top="3" width="3" height="2"'


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ('<polygon points="1,1;2,2"/>', "polygon[2]/@label: missing"),
        ('<polygon label="cat"/>', "polygon[2]/@points: not only pairs of numbers; write `x,y;"),
        ('<polygon label="cat" points="1,1;2,2"/>', "polygon[2]/@points: 2 points; write"),
        ('<polygon label="cat" points="1,1;2,2;nan,3"/>', "polygon[2]/@points: not only pairs"),
        ('<polygon label="cat" points="1,1;2,2;1e9,3"/>', "polygon[2]/@points: not only pairs"),
        ('<polygon label="cat" points="1,1;2,2;3"/>', "polygon[2]/@points: not only pairs"),
        ('<polygon label="cat" points="9,9;20,9;20,20"/>', "polygon[2]/@points: outside of the im"),
        (f'<mask label="cat" rle="1, 4" {PLACED}/>', "mask[1]/@rle: 5 pixels, but its box has 6"),
        (f'<mask label="cat" rle="1, -1, 6" {PLACED}/>', "mask[1]/@rle: not only whole numbers"),
        (f'<mask label="cat" {PLACED}/>', "mask[1]/@rle: 0 pixels, but its box has 6; write run"),
        ('<mask label="cat" rle="6" left="5"/>', "mask[1]/@top: missing; write it in pixels"),
        (f'<mask label="cat" rle="6" {PLACED.replace("3", "2.5")}/>', "mask[1]/@top: '2.5' is no"),
        (f'<mask label="cat" rle="6" {PLACED}/>', "mask[1]/@rle: no pixel is set; write run"),
        (
            f'<mask label="cat" rle="6" {PLACED.replace("5", "6")}/>',
            "mask[1]: 3 x 2 pixels at 6",
        ),
        ('<box label="cat"/>', "box[1]: a box has no mask; import the boxes as `cvat`"),
        ('<ellipse label="cat"/>', "ellipse[1]: no such shape is read; draw boxes, polygons or"),
    ],
)
def test_one_bad_mask_of_cvat_is_left_out_and_listed(tmp_path, shape, reason):
    (tmp_path / "a.xml").write_text(SHAPES.format(shape, ""))

    found = import_cvat_masks(tmp_path / "a.xml", NAMES, task="t", below="in")

    assert len(found.categories) == 2
    (invalid,) = found.invalid
    assert invalid.reason.startswith(f"image[1]/{reason}")


@pytest.mark.parametrize("size", ["", 'width="0" height="6"', 'width="99999" height="99999"'])
def test_masks_need_the_size_of_their_image(tmp_path, size):
    text = SHAPES.replace('width="8" height="6">', f"{size}>")
    (tmp_path / "a.xml").write_text(text.format("", ""))

    with pytest.raises(NothingValidError, match=r"image\[1\]") as caught:
        import_cvat_masks(tmp_path / "a.xml", NAMES, task="t", below="in")
    assert len(caught.value.invalid) == 2


@pytest.mark.parametrize("image", ["<image/>", '<image name="a.jpg"><box label="cat"/></image>'])
def test_a_cvat_image_without_a_name_or_a_valid_box_has_no_labels(tmp_path, image):
    (tmp_path / "a.xml").write_text(CVAT.format("", image))

    found = import_cvat(tmp_path / "a.xml", NAMES, task="t", below="in")

    assert found.predicted.tolist() == [True, False, False]
    assert len(found.invalid) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotations><meta/>", "is no XML: no element found"),
        ("<annotations><meta/></annotations>", "`meta` names no labels"),
        ("<?xml version='1.0' encoding='utf-7'?><annotations/>", "is no XML: "),
        (CVAT.split("<image", maxsplit=1)[0] + "<image/></annotations>", "not one of the labels"),
    ],
)
def test_a_broken_cvat_file(tmp_path, text, reason):
    (tmp_path / "a.xml").write_text(text)

    with pytest.raises(DatasourceError, match=reason):
        import_cvat(tmp_path / "a.xml", NAMES, task="t")


VOC = (
    "<annotation><filename>b.jpg</filename><object><name>{}</name><bndbox><xmin>{}</xmin>"
    "<ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "file: no XML, no element found"),
        ("<annotation/>", "filename: missing; write the name"),
        (VOC.format("", 1), "object[1]/name: empty"),
        (VOC.format("x", "left"), "object[1]/bndbox/xmin: 'left' is no number of pixels"),
        (VOC.format("x", 9), "object[1]: it ends before it starts: 9, 2, 4, 6"),
    ],
)
def test_one_bad_pascal_voc_file_is_left_out_and_listed(tmp_path, text, reason):
    (tmp_path / "a.xml").write_text(text)
    (tmp_path / "b.xml").write_text(VOC.format("cat, black", 1))

    found = import_pascal_voc(tmp_path, NAMES, task="t", below="in")

    assert found.schema.category_names == ("cat, black",)
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    (invalid,) = found.invalid
    assert invalid.path == str(tmp_path / "a.xml")
    assert invalid.reason.startswith(reason)

    (tmp_path / "b.xml").unlink()
    with pytest.raises(NothingValidError):
        import_pascal_voc(tmp_path, NAMES, task="t", below="in")


# YOLO


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/images/a.b.png", "images/labels/a.b.txt"),
        ("a.jpg", "a.txt"),
        ("images", "images.txt"),
    ],
)
def test_where_yolo_labels_are(filename, path):
    assert yolo_label_path(filename) == path


def size_of(path):
    with Image.open(path) as image:
        return image.size


def yolo(folder, texts, sizes):
    for name, text in texts.items():
        target = folder.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    names = [f"images/{number}.jpg" for number in range(len(sizes))]
    return import_yolo(folder.files, names, np.array(sizes), task="y", categories=["car", "cat"])


def test_yolo_labels_and_predictions(folder):
    found = yolo(
        folder,
        {"labels/0.txt": "1 0.5 0.5 0.25 1\n0 0.1 0.2 0.2 0.4 0.875\n\n", "labels/2.txt": ""},
        [(80, 40), (10, 10), (10, 10)],
    )

    assert found.boxes == pytest.approx(np.array([[30, 0, 20, 40], [0, 0, 16, 16]]))
    assert found.categories.tolist() == [1, 0]
    assert found.scores.tolist() == [1.0, 0.875]
    assert found.predicted.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5", "line 2: 3 numbers; write"),
        ("0 0.5 0.5 0.1 wide", "line 2: not only numbers; write"),
        ("2 0.5 0.5 0.1 0.1", "line 2: class 2 of 2; name every class in `categories`"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2: class 0.5 of 2; name every class in `categories`"),
        ("0 120 80 30 30", "line 2: values outside of 0 to 1; write"),
        ("0 nan 0.5 0.1 0.1", "line 2: values outside of 0 to 1; write"),
        ("0 0.5 0.5 0.1 0.1 80", "line 2: values outside of 0 to 1; write"),
        ("0 0.5 0.5 0.1 0.1 0.1 0.1 nan", "line 2: values outside of 0 to 1; write"),
        ("0 0.5 0.5 0.1 0.1 0.1 inf", "line 2: corners that are no place; write"),
        ("0 1.5 0.5 1.6 0.5 1.6 0.6", "line 2: outside of the image of 9 x 9 pixels; write"),
    ],
)
def test_broken_yolo_lines_are_listed(folder, line, reason):
    good = "0 0.5 0.5 0.1 0.1\n"
    texts = {"labels/0.txt": f"{good}{line}\n{good}", "labels/1.txt": f"\n{line}"}
    found = yolo(folder, texts, [(9, 9), (9, 9)])

    first, second = found.invalid
    assert (first.path, second.path) == ("labels/0.txt", "labels/1.txt")
    assert first.reason.startswith(reason)
    assert second.reason == first.reason
    assert found.offsets.tolist() == [0, 2, 2]
    assert found.predicted.tolist() == [True, False]


def test_only_broken_yolo_files_are_an_error(folder):
    with pytest.raises(DatasourceError, match=r"is valid, first labels/0\.txt: line 1"):
        yolo(folder, {"labels/0.txt": "x"}, [(9, 9)])


def test_yolo_labels_of_photographs(test_data):
    """COCO128: real labels, against counts made with nothing but split()."""
    root = test_data / "coco128"
    paths = sorted((root / "images").rglob("*.jpg"))
    sizes = np.array([size_of(path) for path in paths])
    classes = yaml.safe_load((root / "classes.yaml").read_text())["names"]
    categories = [classes[number] for number in range(len(classes))]
    names = [path.relative_to(root).as_posix() for path in paths]

    found = import_yolo(
        LightlyFolder(root).files, names, sizes, task="coco128", categories=categories
    )

    texts = {path: path.read_text() for path in (root / "labels").rglob("*.txt")}
    here = {yolo_label_path(name) for name in names}
    lines = [
        line.split()
        for path, text in texts.items()
        for line in text.splitlines()
        if path.relative_to(root).as_posix() in here
    ]
    assert len(found.categories) == len(lines) > 1500
    assert found.invalid == ()
    assert found.unmatched == 2  # 656 and 659 have labels, but no photograph
    assert found.predicted.sum() == len(texts) - 2
    people = sum(line[0] == "0" for line in lines)
    assert category_count(found, ["person"]).sum() == people > 400
    assert class_distribution(found).sum() == len(lines)
    areas = found.boxes[:, 2] * found.boxes[:, 3] / sizes[found.samples].prod(axis=1)
    assert areas.sum() == pytest.approx(sum(float(w) * float(h) for *_, w, h in lines))
    scores = active_learning_scores(found)
    assert set(scores) == {"objectness_least_confidence", "object_frequency"}
    assert scores["objectness_least_confidence"].max() == 0  # labels are sure


# Label Studio


def rectangle(name, x, y, width, height, **more):
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [name]}
    size = {"original_width": 200, "original_height": 100}
    region = {"type": "rectanglelabels", "value": value | more.pop("value", {}), **size}
    return region | {"from_name": "label", "to_name": "image"} | more


def tasks(*results, image="s3://bucket/in/b.jpg", key="predictions"):
    return [{"id": 1, "data": {"image": image}, key: [{"result": list(results)}]}]


def test_label_studio_rectangles(folder):
    half = rectangle("cat", 50, 10, 25, 50, score=0.5)
    turned = rectangle("car", 50, 50, 10, 10, value={"rotation": 90})
    folder.write("export.json", tasks(half, turned, {"type": "brushlabels", "value": {}}))

    found = import_label_studio(folder.files, ".lightly/export.json", NAMES, task="ls")

    assert found.schema.category_names == ("car", "cat")
    assert found.boxes == pytest.approx(np.array([[100, 10, 50, 50], [90, 50, 10, 20]]))
    assert found.categories.tolist() == [1, 0]
    assert found.scores.tolist() == [0.5, 1.0]
    assert found.predicted.tolist() == [True, False, False]


def test_label_studio_choices_and_skipped_annotations(folder):
    content = tasks({"type": "choices", "value": {"choices": ["sunny"]}}, key="annotations")
    content[0]["annotations"].insert(0, {"result": [], "was_cancelled": True})
    folder.write("export.json", content)

    found = import_label_studio(
        folder.files, ".lightly/export.json", NAMES, task="weather", what="annotations"
    )

    assert found.schema.task_type == "classification"
    assert class_distribution(found).tolist() == [[1], [0], [0]]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/prefix/in/b.jpg", "in/b.jpg"),
        ("/data/local-files/?d=photos/in/b.jpg", "in/b.jpg"),
        ("https://host/in/sp%20ace.jpg?X-Amz-Signature=a%2Fb", "in/sp ace.jpg"),
        ("in/b.jpg", "in/b.jpg"),
        ("s3://bucket/b.jpg", "b.jpg"),
        ("/data/upload/1/c.jpg", "/data/upload/1/c.jpg"),
    ],
)
def test_urls_name_the_sample_they_end_with(url, name):
    assert sample_of(url, {"in/b.jpg", "b.jpg", "in/sp ace.jpg"}) == name


def test_a_label_studio_file_that_is_no_export(folder):
    folder.write("export.json", {})

    with pytest.raises(DatasourceError) as caught:
        import_label_studio(folder.files, ".lightly/export.json", NAMES, task="t")

    assert caught.value.message == (
        ".lightly/export.json is invalid: $: expected `array`, got `object`; "
        "export the project as JSON (not JSON-MIN)"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"id": 1, "data": {"img": "x"}},
         "$[0].data.image: missing; the labelling configuration names the image's field; "
         "call it `image`"),
        ({"data": {"image": "b.jpg"}, "predictions": [{}]},
         "$[0].predictions[0].result: missing; export the project as JSON (not JSON-MIN)"),
        (tasks({"type": "rectanglelabels", "value": {"rectanglelabels": ["a"], "x": 1}})[0],
         "$[0].predictions[0].result[0]: a rectangle without its place or the image's size; "
         "export the project as JSON (not JSON-MIN)"),
        (tasks({"type": "brushlabels", "value": {"brushlabels": ["a"], "rle": [1]}})[0],
         "$[0].predictions[0].result[0]: a brush mask without its `rle` or the image's size; "
         "export the project as JSON (not JSON-MIN)"),
        (tasks({"type": "brushlabels", "value": {"brushlabels": ["a"], "rle": [1]},
                "original_width": 2, "original_height": 2})[0],
         "$[0].predictions[0].result[0].value.rle: no header of values of 8 bits; "
         "export the project as JSON (not JSON-MIN)"),
        (tasks(image="http://[::1/b.jpg")[0],
         "$[0].data.image: 'http://[::1/b.jpg' is no URL: Invalid IPv6 URL"),
    ],
)  # fmt: skip
def test_one_bad_label_studio_task_is_left_out_and_listed(folder, content, reason):
    folder.write("export.json", [content, *tasks(rectangle("a", 1, 1, 5, 5))])

    found = import_label_studio(folder.files, ".lightly/export.json", NAMES, task="t")

    (invalid,) = found.invalid
    assert (invalid.path, invalid.reason) == (".lightly/export.json", reason)
    assert len(found.categories) == 1

    folder.write("export.json", [content])
    with pytest.raises(NothingValidError):
        import_label_studio(folder.files, ".lightly/export.json", NAMES, task="t")


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"type": "rectanglelabels"}],
        [rectangle("", 1, 1, 5, 5)],
        [rectangle("a", 1, 1, 5, 5, value={"rectanglelabels": []})],
    ],
)
def test_label_studio_tasks_without_an_object(folder, results):
    folder.write("export.json", tasks(*results))

    found = import_label_studio(folder.files, ".lightly/export.json", NAMES, task="t")

    assert found.predicted.tolist() == [True, False, False]
    assert len(found.categories) == 0
    assert found.schema.task_type == "object-detection"
