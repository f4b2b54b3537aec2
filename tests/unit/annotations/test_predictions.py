import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.annotations.predictions import (
    PredictionReader,
    category_count,
    class_distribution,
    prediction_path,
    read_predictions,
)
from lightly_fs.annotations.reading import InvalidContentError
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType, read_schema, read_tasks
from lightly_fs.errors import ConfigError, DatasourceError

from .folder import LightlyFolder

BOX = [10, 20, 30, 40]
DOG = {"category_id": 7, "bbox": BOX, "score": 0.5}


@pytest.fixture
def detector(folder):
    """A detection task whose ids have gaps and are not in order."""
    return folder.task("detector", "object-detection", {7: "dog", 2: "cat", 30: "car"})


def test_objects_become_columns_in_the_order_of_the_samples(detector):
    cat = {"category_id": 2, "bbox": [0, 0, 1.5, 2], "score": 1, "probabilities": [0.7, 0.2, 0.1]}
    detector.predict("detector", "b/two.json", DOG, cat, file_name="b/two.png")
    detector.predict("detector", "none.json")

    found = read_predictions(
        detector.files, "detector", ["missing.jpg", "b/two.png", "none.webp", "b/one.jpg"]
    )

    assert found.schema.category_names == ("cat", "dog", "car")
    assert found.offsets.tolist() == [0, 0, 2, 2, 2]
    assert found.samples.tolist() == [1, 1]
    assert found.categories.tolist() == [1, 0]
    assert found.scores.tolist() == [0.5, 1.0]
    assert found.boxes.tolist() == [BOX, [0, 0, 1.5, 2]]
    assert found.probability_rows.tolist() == [1]
    assert found.probabilities.tolist() == [[0.7, 0.2, 0.1]]
    assert found.predicted.tolist() == [False, True, True, False]
    assert found.invalid == ()
    assert found.of(1) == range(2)


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("my_image.png", ".lightly/predictions/t/my_image.json"),
        ("my_subdir/my_image.png", ".lightly/predictions/t/my_subdir/my_image.json"),
        ("my_subdir/video_1-099-mp4.png", ".lightly/predictions/t/my_subdir/video_1-099-mp4.json"),
        ("v1.2/a.b.tar.jpeg", ".lightly/predictions/t/v1.2/a.b.tar.json"),
    ],
)
def test_files_are_named_as_documented(filename, path):
    assert prediction_path("t", filename) == path


def test_only_listed_tasks_exist(detector):
    detector.task("other", "classification", ["a"])

    assert read_tasks(detector.files) == ["other"]
    with pytest.raises(DatasourceError, match="does not list the task `detector`, only `other`"):
        read_schema(detector.files, "detector")


def test_a_listed_task_without_a_schema_is_an_error(folder):
    folder.write("predictions/tasks.json", ["detector"])

    with pytest.raises(DatasourceError) as caught:
        read_predictions(folder.files, "detector", ["a.jpg"])

    assert caught.value.message == (
        ".lightly/predictions/detector/schema.json is not there, "
        "but .lightly/predictions/tasks.json lists the task `detector`"
    )
    assert caught.value.hint == "Write the schema, or take `detector` out of the list."


def test_a_bucket_without_tasks_says_so(folder):
    with pytest.raises(DatasourceError, match=r"tasks\.json is not there, so the bucket has no"):
        read_tasks(folder.files)


BROKEN = {
    "Python": (
        "{'predictions': []}",
        "$: no JSON, object keys must be strings (byte 1); write the file again as JSON "
        "(which has no NaN, no comments, no trailing commas)",
    ),
    "empty": (
        "",
        "$: no JSON, input data was truncated; write the file again as JSON "
        "(which has no NaN, no comments, no trailing commas)",
    ),
    "cut off": (
        '{"predictions": [',
        "$: no JSON, input data was truncated; write the file again "
        "as JSON (which has no NaN, no comments, no trailing commas)",
    ),
    "NaN": (
        '{"predictions": [{"category_id": 7, "bbox": [1, 2, 3, NaN], "score": 1}]}',
        "$: no JSON, invalid character (byte 54); write the file again as JSON "
        "(which has no NaN, no comments, no trailing commas)",
    ),
    "latin-1": (
        '{"file_name": "\xe9.jpg", "predictions": []}'.encode("latin-1"),
        "$: no UTF-8 text; save the file as UTF-8",
    ),
    "no object": (
        [],
        "$: expected `object`, got `array`; write an object with `file_name` and `predictions`",
    ),
    "no predictions": (
        {"file_name": "a.jpg"},
        "$.predictions: missing; write a list of objects, [] when nothing was found",
    ),
    "null": (
        {"predictions": None},
        "$.predictions: expected `array`, got `null`; "
        "write a list of objects, [] when nothing was found",
    ),
    "no box": (
        {"predictions": [DOG, {"category_id": 7, "score": 1}]},
        "$.predictions[1].bbox: missing; write [x, y, width, height] in pixels",
    ),
    "short box": (
        {"predictions": [DOG | {"bbox": [1, 2, 3]}]},
        "$.predictions[0].bbox: expected `array` of length 4; "
        "write [x, y, width, height] in pixels",
    ),
    "corners": (
        {"predictions": [DOG | {"bbox": [5, 5, -1, 3]}]},
        "$.predictions[0].bbox[2]: expected `float` >= 0.0; write [x, y, width, height] in pixels",
    ),
    "percent": (
        {"predictions": [DOG | {"score": 87}]},
        "$.predictions[0].score: expected `float` <= 1.0; "
        "write the confidence, 0 to 1 (1 for a label)",
    ),
    "no score": (
        {"predictions": [{"category_id": 7, "bbox": BOX}]},
        "$.predictions[0].score: missing; write the confidence, 0 to 1 (1 for a label)",
    ),
    "a name": (
        {"predictions": [DOG | {"category_id": "dog"}]},
        "$.predictions[0].category_id: expected `int`, got `str`; "
        "write the whole number that schema.json gives the category",
    ),
    "unknown category": (
        {"predictions": [DOG, DOG | {"category_id": 1}]},
        "$.predictions[1].category_id: 1 is no category of schema.json "
        "(2, 7, 30); use one of these, or add it there",
    ),
    "two of three": (
        {"predictions": [DOG | {"probabilities": [0.5, 0.5]}]},
        "$.predictions[0].probabilities: 2 numbers for the 3 categories of "
        "schema.json; write one per category, in the order of the ids",
    ),
    "logits": (
        {"predictions": [DOG | {"probabilities": [0.9, 0.8, 0.1]}]},
        "$.predictions[0].probabilities: they add up to 1.8; write probabilities that add up to 1",
    ),
    "another": (
        {"file_name": "sub/a.jpg", "predictions": []},
        "$.file_name: `sub/a.jpg`, but the file is that of `a.jpg`; "
        "write the sample's path below the input, or leave it out",
    ),
    "nested": ('{"x": ' + "[" * 9999, "$: nested too deeply"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_file_is_listed_with_its_reason_and_the_run_goes_on(detector, case):
    content, reason = BROKEN[case]
    detector.write("predictions/detector/a.json", content)
    detector.predict("detector", "b.json", DOG)

    found = read_predictions(detector.files, "detector", ["a.jpg", "b.jpg"])

    assert [(one.path, one.reason) for one in found.invalid] == [
        (".lightly/predictions/detector/a.json", reason)
    ]
    assert found.predicted.tolist() == [False, True]
    assert found.offsets.tolist() == [0, 0, 1]


TASK_FILES = [
    ("segmentation", {"segmentation": [4, 2, "3"]}, "[0].segmentation[2]: expected `int`, got "
     "`str`; write run lengths, row by row, starting with the zeros"),
    ("segmentation", {"segmentation": [4, -2]}, "[0].segmentation[1]: expected `int` >= 0; "
     "write run lengths, row by row, starting with the zeros"),
    ("segmentation", {}, "[0].segmentation: missing; "
     "write run lengths, row by row, starting with the zeros"),
    ("keypoint", {"keypoints": [1, 2, 0.5, 4]}, "[0].keypoints: 4 numbers, not three per "
     "keypoint; write [x, y, confidence] of every keypoint, one after the other"),
    ("keypoint", {"keypoints": [1, 2, 0.5]}, "[0].keypoints: 1 keypoints, but schema.json names "
     "2; write all of them, with confidence 0 where one was not found"),
    ("keypoint", {"keypoints": [1, 2, 0.5, 3, 4, -1]}, "[0].keypoints[5]: a confidence of -1; "
     "write 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "reason"), TASK_FILES)
def test_broken_masks_and_keypoints_are_explained(kind, fields, reason):
    types = {
        "segmentation": TaskType.SEMANTIC_SEGMENTATION,
        "keypoint": TaskType.KEYPOINT_DETECTION,
    }
    schema = TaskSchema("t", types[kind], (Category(0, "person", ("head", "foot")),))
    data = json.dumps({"predictions": [{"category_id": 0, "score": 1, **fields}]}).encode()

    with pytest.raises(InvalidContentError) as caught:
        PredictionReader(schema).read(data, "a.jpg")

    assert str(caught.value) == "$.predictions" + reason


def test_masks_of_different_images_are_explained(folder):
    folder.task("t", "semantic-segmentation", ["road", "sky"])
    first = {"category_id": 0, "segmentation": [4, 2], "score": 1}
    folder.predict("t", "a.json", first, {"category_id": 1, "segmentation": [4], "score": 1})
    folder.predict("t", "b.json", first)

    (invalid,) = read_predictions(folder.files, "t", ["a.jpg", "b.jpg"]).invalid

    assert invalid.reason == (
        "$.predictions[1].segmentation: 4 pixels, but $.predictions[0].segmentation has 6; "
        "count every pixel of the image, also those behind the last 1"
    )


BROKEN_SCHEMAS = [
    ({"task_type": "detection", "categories": []}, "$.task_type: invalid enum value 'detection'; "
     "write one of classification, object-detection, semantic-segmentation, "
     "instance-segmentation, keypoint-detection"),
    ({"task_type": "classification", "categories": []}, "$.categories: expected `array` of length "
     '>= 1; write a list like [{"id": 0, "name": "car"}]'),
    ({"categories": [{"id": 0, "name": "a"}]}, "$.task_type: missing; write one of classification, "
     "object-detection, semantic-segmentation, instance-segmentation, keypoint-detection"),
    ({"task_type": "classification", "categories": [{"id": -1, "name": "a"}]},
     "$.categories[0].id: expected `int` >= 0; "
     "write a whole number from 0, the `category_id` of predictions"),
    ({"task_type": "classification",
      "categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
     "$.categories[1].id: 3 is that of $.categories[0] too; give each category its own"),
    ({"task_type": "classification",
      "categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]},
     "$.categories[1].name: 'a' is that of $.categories[0] too; give each category its own"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason"), BROKEN_SCHEMAS)
def test_a_broken_schema_stops_with_place_and_fix(folder, schema, reason):
    folder.write("predictions/tasks.json", ["t"]).write("predictions/t/schema.json", schema)

    with pytest.raises(DatasourceError) as caught:
        read_predictions(folder.files, "t", ["a.jpg"])

    assert caught.value.message == f".lightly/predictions/t/schema.json is invalid: {reason}"


@pytest.mark.parametrize("name", ["", "..", "a/../../b", "/etc", "a//b", "a/", "a b", "./a"])
def test_a_task_name_cannot_lead_out_of_its_folder(folder, name):
    folder.write("predictions/tasks.json", [name])

    with pytest.raises(DatasourceError, match=r"\$\[0\]: .* cannot be a task's folder"):
        read_tasks(folder.files)


def test_a_task_may_lie_in_a_folder_of_tasks(folder):
    folder.task("models/v1.2", "classification", ["a"]).predict(
        "models/v1.2", "x.json", {"category_id": 0}
    )

    assert read_predictions(folder.files, "models/v1.2", ["x.png"]).predicted.all()


def test_all_files_invalid_is_an_error(detector):
    detector.predict("detector", "a.json", {"category_id": 7})
    detector.predict("detector", "b.json", {"category_id": 7})

    with pytest.raises(DatasourceError) as caught:
        read_predictions(detector.files, "detector", ["a.jpg", "b.jpg", "c.jpg"])

    assert caught.value.message == (
        "not one of the 3 samples has a valid prediction of `.lightly/predictions/detector/` "
        "(2 invalid), first .lightly/predictions/detector/a.json: "
        "$.predictions[0].bbox: missing; write [x, y, width, height] in pixels"
    )


def test_files_that_are_named_after_no_sample_are_an_error_and_counted_otherwise(detector):
    detector.predict("detector", "a.jpg.json", DOG)
    with pytest.raises(DatasourceError) as caught:
        read_predictions(detector.files, "detector", ["a.jpg"])
    assert caught.value.message.endswith(
        ": 1 named after none of them, like .lightly/predictions/detector/a.jpg.json"
    )
    assert caught.value.hint == "The file of `a.jpg` is `.lightly/predictions/detector/a.json`."

    detector.predict("detector", "a.json", DOG)
    assert read_predictions(detector.files, "detector", ["a.jpg"]).unmatched == 1


def test_no_file_at_all_is_an_error(detector):
    with pytest.raises(DatasourceError, match=r"prediction of `[^`]*`: there is no file$"):
        read_predictions(detector.files, "detector", ["a.jpg"])


def test_two_samples_with_one_file_are_told_apart_by_its_file_name(detector):
    detector.predict("detector", "a.json", DOG, file_name="a.png")
    detector.predict("detector", "b.json", DOG)

    found = read_predictions(detector.files, "detector", ["a.jpg", "a.png", "b.jpg", "b.png"])

    assert found.predicted.tolist() == [False, True, False, False]
    assert {one.reason for one in found.invalid} == {
        f"$.file_name: missing, but `b.{extension}` is not the only sample with this file; "
        "write the sample's path below the input, and rename the others"
        for extension in ("jpg", "png")
    }


def test_a_byte_order_mark_and_unknown_keys_are_overlooked(detector):
    content = {"predictions": [DOG | {"iscrowd": 0}], "model": "v7"}
    detector.write("predictions/detector/a.json", b"\xef\xbb\xbf" + json.dumps(content).encode())

    assert read_predictions(detector.files, "detector", ["a.jpg"]).scores.tolist() == [0.5]


def test_rounded_probabilities_are_probabilities(detector):
    detector.predict("detector", "a.json", DOG | {"probabilities": [0.33, 0.33, 0.33]})

    assert read_predictions(detector.files, "detector", ["a.jpg"]).predicted.all()


def test_masks_and_keypoints_are_kept(folder):
    folder.task("seg", "instance-segmentation", ["a"])
    one = {"category_id": 0, "segmentation": [1, 2, 3], "score": 1}
    folder.predict("seg", "x.json", one, one | {"segmentation": [0, 6], "bbox": BOX})
    found = read_predictions(folder.files, "seg", ["x.png"])
    assert [found.mask(row).tolist() for row in (0, 1)] == [[1, 2, 3], [0, 6]]
    assert np.isnan(found.boxes[0]).all()
    assert found.boxes[1].tolist() == BOX

    folder.task("pose", "keypoint-detection", ["a"])
    person = {"category_id": 0, "keypoints": [1, 2, 0.5, 3, 4, 0], "score": 1}
    folder.predict("pose", "x.json", person, person | {"keypoints": [9, 9, 1]})
    found = read_predictions(folder.files, "pose", ["x.png"])
    assert found.keypoints_of(0).tolist() == [[1, 2, 0.5], [3, 4, 0]]
    assert found.keypoints_of(1).tolist() == [[9, 9, 1]]


@pytest.mark.parametrize("key", ["keypoint_names", "keypointNames", "keypoints"])
def test_keypoint_names_of_the_schema_in_each_spelling(folder, key):
    category = {"id": 0, "name": "person", key: ["nose", "tail"], "skeleton": [[1, 2]]}
    folder.task("pose", "keypoint-detection", []).write(
        "predictions/pose/schema.json",
        {"task_type": "keypoint-detection", "categories": [category]},
    )

    assert read_schema(folder.files, "pose").categories[0].keypoint_names == ("nose", "tail")


def test_class_distribution_sums_probabilities_and_counts_labels(detector):
    likely = DOG | {"probabilities": [0.25, 0.5, 0.25]}
    detector.predict("detector", "a.json", likely, likely | {"probabilities": [1, 0, 0]})
    detector.predict("detector", "b.json", DOG, DOG, DOG | {"category_id": 30, "score": 0.1})
    detector.predict("detector", "c.json", likely, DOG)
    detector.predict("detector", "d.json")

    found = read_predictions(detector.files, "detector", [f"{name}.jpg" for name in "abcde"])

    assert class_distribution(found).tolist() == [
        [1.25, 0.5, 0.25],
        [0, 2, 1],  # a label counts 1, whatever its score
        [0.25, 1.5, 0.25],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_category_count_counts_objects_of_the_categories(detector):
    car = DOG | {"category_id": 30}
    detector.predict("detector", "a.json", DOG, DOG, car)
    detector.predict("detector", "b.json", car)
    found = read_predictions(detector.files, "detector", ["a.jpg", "b.jpg", "c.jpg"])

    assert category_count(found, ["dog"]).tolist() == [2, 0, 0]
    assert category_count(found, ["dog", "car"]).tolist() == [3, 1, 0]
    assert category_count(found, ["cat"]).tolist() == [0, 0, 0]
    with pytest.raises(ConfigError) as caught:
        category_count(found, ["dgo"])
    assert caught.value.message == "the task `detector` has no category `dgo`, but `dog`"
    assert caught.value.hint == "Its categories: cat, dog, car"


@given(st.lists(st.lists(st.sampled_from([2, 7, 30]), max_size=4), min_size=1, max_size=6))
def test_the_sums_of_labels_are_the_counts_of_each_category(tmp_path_factory, images):
    folder = LightlyFolder(tmp_path_factory.mktemp("bucket"))
    folder.task("t", "object-detection", {7: "dog", 2: "cat", 30: "car"})
    for number, ids in enumerate(images):
        folder.predict("t", f"{number}.json", *(DOG | {"category_id": one} for one in ids))
    found = read_predictions(folder.files, "t", [f"{n}.jpg" for n in range(len(images))])

    table = class_distribution(found)

    assert table.sum(axis=1).tolist() == [len(ids) for ids in images]
    for place, name in enumerate(found.schema.category_names):
        assert table[:, place].tolist() == category_count(found, [name]).tolist()
