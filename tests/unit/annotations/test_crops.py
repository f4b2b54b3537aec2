import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.annotations import rle
from lightly_fs.annotations.crops import object_crops, tile_crops
from lightly_fs.annotations.objects import PredictedObject, PredictionsBuilder
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.errors import ConfigError

SIZE = np.array([[100, 50]])


def predictions(*samples, task_type=TaskType.OBJECT_DETECTION):
    schema = TaskSchema("t", task_type, (Category(0, "a"),))
    builder = PredictionsBuilder(schema, [f"{number}.jpg" for number in range(len(samples))])
    for objects in samples:
        builder.add(objects)
    return builder.build()


def box(*values):
    return PredictedObject(0, 1.0, values)


def test_boxes_become_whole_pixels():
    crops = object_crops(predictions([box(10, 20, 30, 5), box(1.2, 2.8, 3.1, 0.1)]), SIZE)

    assert crops.boxes.tolist() == [[10, 20, 40, 25], [1, 2, 5, 3]]


def test_padding_extends_width_and_height_by_its_share_around_the_centre():
    crops = object_crops(predictions([box(20, 20, 10, 20)]), SIZE, padding=0.2)

    assert crops.boxes.tolist() == [[19, 18, 31, 42]]  # 12 x 24


def test_crops_end_with_the_image():
    crops = object_crops(predictions([box(-5, 40, 20, 20), box(95, 0, 10, 10)]), SIZE, padding=1)

    assert crops.boxes.tolist() == [[0, 30, 25, 50], [90, 0, 100, 15]]


def test_objects_without_a_crop_are_named():
    sizes = np.array([[100, 50], [0, 0], [100, 50]])
    outside, empty, unknown = box(200, 0, 5, 5), box(5, 5, 0, 3), PredictedObject(0, 1.0)

    crops = object_crops(
        predictions(
            [box(0, 0, 1, 1), outside], [box(0, 0, 9, 9)], [empty, unknown, box(1, 1, 2, 2)]
        ),
        sizes,
    )

    assert crops.samples.tolist() == [0, 2]
    assert crops.parts.tolist() == [0, 5]
    assert crops.left_out.tolist() == [1, 2, 3, 4]


def test_masks_and_keypoints_have_boxes_of_their_own():
    mask = np.zeros((50, 100), np.bool_)
    mask[10:13, 20:25] = True
    masked = PredictedObject(0, 1.0, mask=rle.encode(mask).tolist())
    of_another_image = PredictedObject(0, 1.0, mask=[3, 4])
    pose = PredictedObject(0, 1.0, keypoints=[30, 5, 0.9, 99, 49, 0, 40, 25, 0.1])

    crops = object_crops(predictions([masked, of_another_image, pose]), SIZE)

    assert crops.boxes.tolist() == [[20, 10, 25, 13], [30, 5, 40, 25]]
    assert crops.left_out.tolist() == [1]


def test_boxes_beyond_all_numbers_are_left_out():
    crops = object_crops(
        predictions([box(1.7e308, 0, 1.7e308, 1), box(-1e308, -1, 1e308, 9)]), SIZE
    )

    assert crops.left_out.tolist() == [0, 1]


@pytest.mark.parametrize("padding", [-0.1, float("nan"), float("inf")])
def test_impossible_padding_is_refused(padding):
    with pytest.raises(ConfigError, match="must be 0 or more"):
        object_crops(predictions([]), SIZE, padding=padding)


coordinates = st.floats(-200, 200)
lengths = st.floats(0, 300)


@given(
    st.lists(st.tuples(coordinates, coordinates, lengths, lengths), max_size=5),
    st.floats(0, 3),
    st.integers(1, 120),
    st.integers(1, 120),
)
def test_every_crop_lies_in_its_image_and_is_not_empty(boxes, padding, width, height):
    given_ = predictions([box(*values) for values in boxes])

    crops = object_crops(given_, np.array([[width, height]]), padding=padding)

    left, top, right, bottom = crops.boxes.T
    assert (0 <= left).all()
    assert (left < right).all()
    assert (right <= width).all()
    assert (0 <= top).all()
    assert (top < bottom).all()
    assert (bottom <= height).all()
    assert sorted([*crops.parts, *crops.left_out]) == list(range(len(boxes)))


def test_tiles_without_overlap_part_the_image():
    crops = tile_crops(np.array([[10, 7]]), num_rows=2, num_cols=3)

    assert crops.boxes.tolist() == [
        [0, 0, 3, 4],
        [3, 0, 7, 4],
        [7, 0, 10, 4],
        [0, 4, 3, 7],
        [3, 4, 7, 7],
        [7, 4, 10, 7],
    ]
    assert crops.parts.tolist() == [0, 1, 2, 3, 4, 5]


def test_overlap_is_a_share_of_the_tile():
    crops = tile_crops(np.array([[150, 10]]), num_rows=1, num_cols=2, overlap=0.5)

    assert crops.boxes.tolist() == [[0, 0, 100, 10], [50, 0, 150, 10]]


def test_images_without_a_size_have_no_tiles():
    crops = tile_crops(np.array([[4, 4], [0, 0], [2, 2]]), num_rows=1, num_cols=1)

    assert crops.samples.tolist() == [0, 2]


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 0.99),
)
def test_tiles_cover_every_pixel(width, height, rows, cols, overlap):
    crops = tile_crops(np.array([[width, height]]), num_rows=rows, num_cols=cols, overlap=overlap)

    seen = np.zeros((height, width), np.int64)
    for left, top, right, bottom in crops.boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] += 1
    assert len(crops.boxes) == rows * cols
    assert seen.min() >= 1
    if overlap == 0 and rows <= height and cols <= width:
        assert seen.max() == 1


@given(st.integers(20, 300), st.integers(1, 5), st.floats(0, 0.9))
def test_tiles_are_of_one_size(width, cols, overlap):
    boxes = tile_crops(np.array([[width, 10]]), num_rows=1, num_cols=cols, overlap=overlap).boxes

    widths = boxes[:, 2] - boxes[:, 0]
    assert widths.max() - widths.min() <= 1
    assert (np.diff(boxes[:, 0]) >= 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_rows": 0, "num_cols": 1}, "num_rows=0 and num_cols=1 must be at least 1"),
        (
            {"num_rows": 1, "num_cols": 1, "overlap": 1},
            "overlap=1 must be at least 0 and less than 1",
        ),
        ({"num_rows": 1, "num_cols": 1, "overlap": float("nan")}, "overlap=nan must be"),
    ],
)
def test_impossible_tilings_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        tile_crops(SIZE, **values)
