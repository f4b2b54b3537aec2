"""Exports, read back with readers that are not ours: labelformat, tarfile, json, yaml."""

import io
import json
import tarfile
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from labelformat.formats import (
    COCOObjectDetectionInput,
    CVATObjectDetectionInput,
    LightlyObjectDetectionInput,
    YOLOv8ObjectDetectionInput,
)
from PIL import Image

from lightly_fs.annotations import export
from lightly_fs.annotations.label_studio import import_label_studio
from lightly_fs.annotations.objects import PredictedObject, PredictionsBuilder
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.annotations.webdataset import webdataset
from lightly_fs.errors import ConfigError

from .folder import LightlyFolder

NAMES = ["sub/a.jpg", "b.jpg", "left-out.jpg", "without.jpg", "empty.jpg"]
SIZES = np.array([[80, 40], [33, 77], [5, 5], [10, 20], [10, 20]])
CATEGORIES = (Category(3, "car"), Category(17, "traffic light"))


def detections(task_type=TaskType.OBJECT_DETECTION):
    builder = PredictionsBuilder(TaskSchema("detector", task_type, CATEGORIES), NAMES)
    vector = [0.25, 0.75]
    builder.add(
        [PredictedObject(1, 0.5, (8, 4, 16, 20), vector), PredictedObject(0, 1.0, (0, 0, 80, 40))]
    )
    builder.add([PredictedObject(0, 0.125, (1.5, 2.25, 30, 70))])
    builder.add([PredictedObject(0, 0.9, (1, 1, 1, 1))])
    builder.skip(4)
    builder.add([])
    return builder.build()


@pytest.fixture
def chosen():
    """All but one, in another order than the inventory's."""
    return export.selected(
        detections(), [1, 0, 3, 4], SIZES, url_of=lambda name: f"https://host/{name}?x=1"
    )


EXPECTED = {
    "b.jpg": [("car", [1.5, 2.25, 30, 70])],
    "sub/a.jpg": [("traffic light", [8, 4, 16, 20]), ("car", [0, 0, 80, 40])],
    "without.jpg": [],
    "empty.jpg": [],
}


def write(files, root):
    for name, content in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def photographs(root):
    for name, size in zip(NAMES, SIZES, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", tuple(size)).save(root / name)


def boxes_of(source):
    """Return what labelformat reads: name and x, y, w, h by filename."""
    found = {image.filename: [] for image in source.get_images()}
    for label in source.get_labels():
        for one in label.objects:
            box = one.box
            values = [box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin]
            found[label.image.filename].append((one.category.name, pytest.approx(values, abs=1e-4)))
    return found


def test_coco(chosen, tmp_path):
    write(export.coco(chosen), tmp_path)
    source = COCOObjectDetectionInput(input_file=tmp_path / "coco.json")

    assert EXPECTED == boxes_of(source)
    assert [image.filename for image in source.get_images()] == list(EXPECTED)
    assert {one.id: one.name for one in source.get_categories()} == {3: "car", 17: "traffic light"}
    assert [one.confidence for label in source.get_labels() for one in label.objects] == [
        0.125,
        0.5,
        1.0,
    ]


def test_yolo(chosen, tmp_path):
    photographs(tmp_path / "images")
    for name in ("left-out.jpg", "without.jpg"):
        (tmp_path / "images" / name).unlink()
    write(export.yolo(chosen), tmp_path)
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    # labelformat takes folders, ultralytics lists too.
    (tmp_path / "listed.yaml").write_text(yaml.safe_dump(content | {"train": "images"}))
    source = YOLOv8ObjectDetectionInput(input_file=tmp_path / "listed.yaml", input_split="train")

    assert {name: boxes for name, boxes in EXPECTED.items() if name != "without.jpg"} == boxes_of(
        source
    )
    assert content["names"] == {0: "car", 1: "traffic light"}
    assert content["train"] == content["val"] == "train.txt"
    listed = (tmp_path / "train.txt").read_text().splitlines()
    assert listed == ["./images/b.jpg", "./images/sub/a.jpg", "./images/empty.jpg"]
    assert all((tmp_path / line).is_file() for line in listed)


def test_yolo_of_an_input_that_has_its_images_in_a_folder_of_that_name():
    schema = TaskSchema("t", TaskType.OBJECT_DETECTION, CATEGORIES)
    for names, paths in (
        (["images/train/a.jpg"], ["labels/train/a.txt"]),
        (["images/a.jpg", "train/images/b.jpg"], ["labels/a.txt", "train/labels/b.txt"]),
        (["x/a.jpg", "b.jpg"], ["labels/b.txt", "labels/x/a.txt"]),
    ):
        files = dict(export.yolo(export.Export([image(name) for name in names], schema)))
        # What ultralytics makes of the list: the last folder `images` is `labels`.
        listed = files["train.txt"].decode().splitlines()
        swapped = ["/labels/".join(line.rsplit("/images/", 1)) for line in listed]
        found = [line.removeprefix("./").replace(".jpg", ".txt") for line in swapped]
        assert sorted(found) == paths
        assert sorted(files.keys() - {"data.yaml", "train.txt"}) == paths


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["images/a.jpg", "b.jpg"], "labels of `images/a.jpg` in the input itself"),
        (["new\nline.jpg"], r"'new\\nline.jpg' has a line break"),
        (["new\u2028line.jpg"], "has a line break"),
    ],
)
def test_names_that_yolo_cannot_hold(names, reason):
    schema = TaskSchema("t", TaskType.OBJECT_DETECTION, CATEGORIES)

    with pytest.raises(ConfigError, match=reason):
        list(export.yolo(export.Export([image(name) for name in names], schema)))


def test_names_that_xml_cannot_hold():
    schema = TaskSchema("t", TaskType.OBJECT_DETECTION, (Category(0, "a\x01b"),))

    with pytest.raises(ConfigError, match=r"the image 'a\\x1b\.jpg' has characters"):
        list(export.cvat(export.Export([image("a\x1b.jpg")])))
    for exporter in (export.cvat, export.label_studio):
        with pytest.raises(ConfigError, match=r"the category 'a\\x01b' has characters"):
            list(exporter(export.Export([image("a.jpg")], schema)))
    ((_, written),) = export.cvat(export.Export([image("a\n\t<&>é.jpg")]))
    assert ElementTree.fromstring(written).find("image").get("name") == "a\n\t<&>é.jpg"


def image(name, *boxes):
    objects = [PredictedObject(0, 1.0, box) for box in boxes]
    return export.ExportedImage(name, 100, 50, None, objects)


def test_yolo_boxes_end_at_the_border(caplog):
    schema = TaskSchema("t", TaskType.OBJECT_DETECTION, CATEGORIES)
    one = image("a.jpg", (-10, -5, 30, 20), (90, 40, 50, 50), (100, 0, 5, 5), (0, 0, 100, 50))

    files = dict(export.yolo(export.Export([one], schema)))

    assert files["labels/a.txt"].decode().splitlines() == [
        "0 0.1 0.15 0.2 0.3",
        "0 0.95 0.9 0.1 0.2",
        "0 0.5 0.5 1 1",
    ]
    assert "a box of `a.jpg` lies outside of the image" in caplog.text


def test_cvat(chosen, tmp_path):
    write(export.cvat(chosen), tmp_path)

    assert EXPECTED == boxes_of(CVATObjectDetectionInput(input_file=tmp_path / "annotations.xml"))


def test_lightly_with_another_reader_and_with_ours(chosen, tmp_path):
    write(export.lightly(chosen), tmp_path)
    photographs(tmp_path / "images")
    task = tmp_path / ".lightly/predictions/detector"
    source = LightlyObjectDetectionInput(task, images_rel_path="../../../images")

    assert EXPECTED | {"left-out.jpg": []} == boxes_of(source)
    found = read_predictions(LightlyFolder(tmp_path).files, "detector", NAMES)
    given_ = detections()
    assert found.schema == given_.schema
    assert found.predicted.tolist() == [True, True, False, False, True]
    assert found.boxes.tolist() == given_.boxes[:3].tolist()
    assert found.scores.tolist() == given_.scores[:3].tolist()
    assert found.probabilities.tolist() == given_.probabilities.tolist()


def test_label_studio_tasks(chosen, folder):
    (name, content), (beside, configuration) = export.label_studio(chosen)
    tasks = json.loads(content)

    assert name == "label_studio_tasks.json"
    assert beside == "label_studio_config.xml"
    view = ElementTree.fromstring(configuration)
    assert view.find("Image").attrib == {"name": "image", "value": "$image"}
    assert view.find("RectangleLabels").attrib == {"name": "label", "toName": "image"}
    assert [one.get("value") for one in view.iter("Label")] == ["car", "traffic light"]
    assert [task["data"]["image"] for task in tasks] == [
        f"https://host/{name}?x=1" for name in EXPECTED
    ]
    assert [task["data"]["lightlyFileName"] for task in tasks] == list(EXPECTED)
    (prediction,) = tasks[1]["predictions"]
    assert prediction["model_version"] == "detector"
    assert prediction["result"][0] == {
        "id": "object_0",
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "score": 0.5,
        "original_width": 80,
        "original_height": 40,
        "image_rotation": 0,
        "value": {
            "x": 10.0,
            "y": 10.0,
            "width": 20.0,
            "height": 50.0,
            "rotation": 0,
            "rectanglelabels": ["traffic light"],
        },
    }
    assert "predictions" not in tasks[2]
    folder.write("tasks.json", content)
    back = import_label_studio(folder.files, ".lightly/tasks.json", NAMES, task="detector")
    assert back.boxes == pytest.approx(detections().boxes[:3])


def test_label_studio_choices():
    builder = PredictionsBuilder(TaskSchema("w", TaskType.CLASSIFICATION, CATEGORIES), ["a.jpg"])
    builder.add([PredictedObject(0)])
    chosen = export.selected(builder.build(), [0], np.array([[0, 0]]))

    (_, content), (_, configuration) = export.label_studio(chosen)

    (task,) = json.loads(content)
    assert task["data"]["image"] == "a.jpg"
    assert task["predictions"][0]["result"] == [
        {
            "id": "object_0",
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["car"]},
        }
    ]
    choices = ElementTree.fromstring(configuration).find("Choices")
    assert [one.get("value") for one in choices] == ["car", "traffic light"]


def test_labelbox_rows(chosen):
    ((name, content),) = export.labelbox(chosen)

    assert name == "labelbox_data_rows.json"
    assert json.loads(content)[1] == {
        "row_data": "https://host/sub/a.jpg?x=1",
        "global_key": "sub/a.jpg",
        "media_type": "IMAGE",
    }


def test_labelbox_without_urls_is_refused():
    with pytest.raises(ConfigError, match=r"Labelbox needs a URL to read `sub/a\.jpg` from"):
        list(export.labelbox(export.selected(detections(), [0], SIZES)))


def test_hugging_face(chosen):
    ((name, content),) = export.hugging_face(chosen)
    lines = [json.loads(line) for line in content.splitlines()]

    assert name == "metadata.jsonl"
    assert [line["filename"] for line in lines] == list(EXPECTED)
    assert [line["file_name"] for line in lines] == [f"images/00000{n}.jpg" for n in range(4)]
    assert lines[1]["objects"] == {
        "bbox": [[8, 4, 16, 20], [0, 0, 80, 40]],
        "category": ["traffic light", "car"],
        "score": [0.5, 1.0],
    }
    assert "objects" not in lines[2]
    assert lines[3]["objects"] == {"bbox": [], "category": [], "score": []}


def test_pretagging_in_the_documented_form(chosen):
    ((name, content),) = export.pretagging(chosen)

    assert name == "data/bounding_boxes.json"
    assert json.loads(content)[1] == {
        "filename": "sub/a.jpg",
        "boxes": [[0.1, 0.1, 0.3, 0.6], [0, 0, 1, 1]],
        "labels": ["traffic light", "car"],
        "scores": [0.5, 1.0],
    }


def test_webdataset_shards(chosen):
    contents = [bytes([number]) * 700 for number in range(4)]

    shards = dict(webdataset(chosen, iter(contents), shard_size=3))

    assert list(shards) == ["shard-000000.tar", "shard-000001.tar"]
    members = {}
    for shard in shards.values():
        with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
            members |= {one.name: archive.extractfile(one).read() for one in archive}
    assert list(members)[:4] == ["b.jpg", "b.json", "sub/a.jpg", "sub/a.json"]
    assert members["sub/a.jpg"] == contents[1]
    facts = json.loads(members["sub/a.json"])
    assert facts["filename"] == "sub/a.jpg"
    assert facts["objects"][0] == {
        "category": "traffic light",
        "bbox": [8, 4, 16, 20],
        "score": 0.5,
    }
    assert len(members) == 8


def test_a_webdataset_shard_ends_when_it_is_large(chosen):
    shards = dict(webdataset(chosen, [b"x" * 600] * 4, shard_bytes=1000))

    assert list(shards) == ["shard-000000.tar", "shard-000001.tar"]


@given(
    st.lists(
        st.tuples(st.text("a.%_/", min_size=1, max_size=6), st.sampled_from([".jpg", ".png"])),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_no_two_images_share_a_webdataset_key(names):
    images = [export.ExportedImage(f"{stem}x{extension}", 1, 1) for stem, extension in names]

    ((_, shard),) = webdataset(export.Export(images), [b""] * len(images))

    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        names = archive.getnames()
    keys = {name.partition(".")[0] for name in names}
    assert len(keys) == len(images)


@pytest.mark.parametrize("name", ["yolo", "lightly"])
def test_two_images_of_one_name_are_refused(name):
    images = [export.ExportedImage(name, 5, 5, None, []) for name in ("a.jpg", "a.png")]
    schema = TaskSchema("t", TaskType.OBJECT_DETECTION, CATEGORIES)

    with pytest.raises(ConfigError, match=r"`a\.jpg` and `a\.png` would both be described by"):
        list(export.EXPORTERS[name](export.Export(images, schema)))


@pytest.mark.parametrize(
    "name", sorted(export.EXPORTERS.keys() - {"label_studio", "labelbox", "sama", "cvat"})
)
def test_every_format_of_a_selection_without_predictions_exports_or_says_why(name):
    images = [export.ExportedImage("a.jpg", 5, 5)]
    if name == "huggingface":
        assert dict(export.hugging_face(export.Export(images))) == {
            "metadata.jsonl": b'{"file_name":"images/000000.jpg","filename":"a.jpg"}\n'
        }
        return
    with pytest.raises(ConfigError, match="holds predictions, and the selection has none"):
        list(export.EXPORTERS[name](export.Export(images)))


@pytest.mark.parametrize("name", ["yolo", "cvat", "pretagging", "label_studio"])
def test_a_format_that_needs_sizes_says_so(name):
    chosen = export.selected(detections(), [0], np.zeros((5, 2), np.int64))

    with pytest.raises(ConfigError, match=r"needs the size of `sub/a\.jpg`"):
        list(export.EXPORTERS[name](chosen))


@pytest.mark.parametrize(
    "name", ["coco", "yolo", "cvat", "pretagging", "label_studio", "huggingface"]
)
def test_an_object_without_a_box_is_not_left_out_silently(name):
    images = [export.ExportedImage("a.jpg", 5, 5, None, [PredictedObject(0, 1.0)])]
    schema = TaskSchema("t", TaskType.KEYPOINT_DETECTION, CATEGORIES)

    with pytest.raises(ConfigError, match=r"`a\.jpg` has an object without a box, and this format"):
        list(export.EXPORTERS[name](export.Export(images, schema)))


def test_hugging_face_classes():
    images = [export.ExportedImage("a.jpg", 5, 5, None, [PredictedObject(1)])]
    schema = TaskSchema("t", TaskType.CLASSIFICATION, CATEGORIES)

    assert dict(export.hugging_face(export.Export(images, schema))) == {
        "metadata.jsonl": b'{"file_name":"images/000000.jpg","filename":"a.jpg",'
        b'"labels":["traffic light"]}\n'
    }


def test_masks_and_keypoints_survive_our_own_format(tmp_path):
    for task_type, more in (
        (TaskType.SEMANTIC_SEGMENTATION, {"mask": [1, 2, 3]}),
        (TaskType.KEYPOINT_DETECTION, {"keypoints": [1.0, 2.0, 0.5]}),
    ):
        category = (Category(0, "a", ("nose",)),)
        builder = PredictionsBuilder(TaskSchema("t", task_type, category), ["x.jpg"])
        builder.add([PredictedObject(0, 0.5, **more)])
        given_ = builder.build()
        root = tmp_path / task_type
        write(export.lightly(export.selected(given_, [0], np.array([[3, 2]]))), root)

        found = read_predictions(LightlyFolder(root).files, "t", ["x.jpg"])

        assert found.schema == given_.schema
        assert found.mask(0).tolist() == given_.mask(0).tolist()
        assert found.keypoints_of(0).tolist() == given_.keypoints_of(0).tolist()
