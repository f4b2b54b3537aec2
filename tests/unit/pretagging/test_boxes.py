import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.pretagging.boxes import BoxesFile, drawn, spread
from lightly_fs.pretagging.detections import Detections

SCHEMA = TaskSchema(
    "lightly_pretagging", TaskType.OBJECT_DETECTION, (Category(1, "car"), Category(3, "bus"))
)


def found(*objects) -> Detections:
    places = np.array([one[0] for one in objects], np.int32)
    scores = np.array([one[1] for one in objects], np.float64)
    boxes = np.array([one[2] for one in objects], np.float64).reshape(-1, 4)
    return Detections(400, 200, places, scores, boxes)


def test_the_file_is_as_it_is_documented(tmp_path):
    path = tmp_path / "data" / "bounding_boxes.json"
    with BoxesFile(path, SCHEMA) as file:
        file.add("a/1.jpg", found((1, 0.75, (100, 50, 200, 100)), (0, 0.5, (0, 0, 400, 200))))
        file.add("a/2.jpg", found())
    assert json.loads(path.read_text()) == [
        {
            "filename": "a/1.jpg",
            "boxes": [[0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 1.0, 1.0]],
            "labels": ["bus", "car"],
            "scores": [0.75, 0.5],
        },
        {"filename": "a/2.jpg", "boxes": [], "labels": [], "scores": []},
    ]
    assert len(path.read_text().splitlines()) == 4


def test_no_image_is_an_empty_list(tmp_path):
    with BoxesFile(tmp_path / "b.json", SCHEMA):
        pass
    assert json.loads((tmp_path / "b.json").read_text()) == []


def test_a_file_that_was_not_finished_is_no_json(tmp_path):
    def broken():
        with BoxesFile(tmp_path / "b.json", SCHEMA) as file:
            file.add("a", found())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "b.json").read_text())


@given(rows=st.lists(st.integers(), unique=True), count=st.integers(1, 20))
def test_examples_are_spread_over_everything(rows, count):
    some = spread(rows, count)
    places = [rows.index(row) for row in some]
    assert len(some) == min(len(rows), count)
    assert places == sorted(set(places))
    if len(rows) > count:
        gaps = np.diff([-0.5, *places, len(rows) - 0.5])
        assert gaps.max() <= len(rows) / count + 1


def test_boxes_are_drawn_where_they_are():
    grey = np.full((200, 400, 3), 128, np.uint8)
    boxes = found((1, 0.75, (100, 50, 200, 100))).relative_corners()
    plain = np.array(Image.open(io.BytesIO(drawn(grey, np.empty((0, 4)), [], []))), np.int16)
    image = np.array(Image.open(io.BytesIO(drawn(grey, boxes, ["bus 0.75"], [1]))), np.int16)
    changed = (np.abs(image - plain) > 40).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert image.shape == (200, 400, 3)
    assert abs(int(columns[0]) - 100) <= 3
    assert abs(int(columns[-1]) - 300) <= 3
    assert 30 <= rows[0] < 50  # the label is above
    assert abs(int(rows[-1]) - 150) <= 3
    assert not changed[60:140, 110:290].any()


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.5, 0, 0.5, 0), (1, 1, 1, 1), (0, 0.99, 0.01, 1)])
def test_boxes_at_the_edge_are_drawn(box):
    image = drawn(
        np.zeros((30, 50, 3), np.uint8), np.array([box], float), ["a long name 1.00"], [0]
    )
    assert Image.open(io.BytesIO(image)).size == (50, 30)
