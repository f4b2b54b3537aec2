import numpy as np
import pytest

from lightly_fs.annotations import rle
from lightly_fs.annotations.objects import PredictedObject
from lightly_fs.annotations.tasks import TaskType
from lightly_fs.report.boxes import (
    COLOURS,
    MAX_BOXES,
    box_of,
    choose_images,
    cut,
    draw_boxes,
    drawn_objects,
)
from lightly_fs.report.groups import choose_crops, near_duplicate_groups
from lightly_fs.report.selection import CropFacts
from tests.unit.report.strategies_made import predictions_of, schema

GREY = np.full((240, 320, 3), 128, np.uint8)
SIZE = (640, 480)


def one(objects, kind=TaskType.OBJECT_DETECTION, classes=("a", "b")):
    return predictions_of(["a.jpg"], [objects], schema("task", classes, kind))


def colour(number):
    return [int(COLOURS[number][i : i + 2], 16) for i in (1, 3, 5)]


def test_boxes_are_drawn_where_they_are_in_the_colour_of_their_class():
    drawn = draw_boxes(GREY, one([PredictedObject(1, 0.9, (160, 120, 320, 240))]), 0, SIZE)
    assert drawn.shape == (360, 480, 3)
    # 480 of 640 pixels: the box spans 120 to 360 and 90 to 270.
    edges = [(90, 240), (270, 240), (180, 120), (180, 360)]
    assert [drawn[y, x].tolist() for y, x in edges] == [colour(1)] * 4
    assert drawn[180, 240].tolist() == [128] * 3
    assert drawn[80, 122].tolist() == colour(1)  # the label above its corner


@pytest.mark.parametrize(
    "box",
    [
        (-100, -50, 2000, 2000),
        (630, 470, 500, 500),
        (700, 900, 10, 10),
        (0, 0, 0, 0),
        (-9e12, 5, 1e300, 1),
    ],
)
def test_boxes_that_stick_out_are_drawn_up_to_the_edge(box):
    drawn = draw_boxes(GREY, one([PredictedObject(0, float("nan"), box)]), 0, SIZE)
    assert drawn.shape == (360, 480, 3)
    assert (drawn == colour(0)).all(axis=2).any()


def test_labels_of_a_crowd_do_not_cover_one_another():
    crowd = [PredictedObject(1, 0.5, (200, 200, 50, 50)) for _ in range(30)]
    best = PredictedObject(0, 0.99, (200, 200, 50, 50))
    alone = draw_boxes(GREY, one([best]), 0, SIZE)
    together = draw_boxes(GREY, one([*crowd, best]), 0, SIZE)
    np.testing.assert_array_equal(alone[130:148], together[130:148])


def test_the_most_confident_objects_are_drawn():
    objects = [PredictedObject(0, i / 100, (i, 0, 5, 5)) for i in range(60)]
    drawn = drawn_objects(one([*objects, PredictedObject(0, float("nan"), (0, 0, 1, 1))]), 0, SIZE)
    assert [row for row, _ in drawn] == list(range(59, 59 - MAX_BOXES, -1))


def test_masks_and_keypoints_are_drawn_as_the_box_around_them():
    mask = np.zeros((480, 640), np.bool_)
    mask[20:30, 5:15] = True
    masked = PredictedObject(0, 0.5, mask=rle.encode(mask).tolist())
    segmented = one([masked], TaskType.INSTANCE_SEGMENTATION)
    assert box_of(segmented, 0, SIZE) == (5, 20, 10, 10)
    assert box_of(segmented, 0, (10, 10)) is None
    points = PredictedObject(0, 0.5, keypoints=[4, 6, 0.5, 10, 2, 1, 300, 300, 0])
    assert box_of(one([points], TaskType.KEYPOINT_DETECTION), 0, SIZE) == (4, 2, 6, 4)
    hidden = PredictedObject(0, 0.5, keypoints=[4, 6, 0])
    assert box_of(one([hidden], TaskType.KEYPOINT_DETECTION), 0, SIZE) is None
    assert box_of(one([PredictedObject(0, 0.5)]), 0, SIZE) is None


def test_images_of_new_classes_are_chosen_first_and_shown_in_the_order_of_picks():
    def boxes(*classes):
        return [PredictedObject(each, 0.5, (0, 0, 9, 9)) for each in classes]

    objects = [boxes(0), boxes(0), [], boxes(0, 1), None, boxes(0), [PredictedObject(1, 0.5)]]
    made = predictions_of([f"{i}" for i in range(7)], objects, schema("task", ("a", "b")))
    picks = np.array([6, 5, 4, 1, 0, 3, 2])
    assert choose_images(made, picks, 2) == [5, 3]
    assert choose_images(made, picks, 3) == [5, 1, 3]
    assert choose_images(made, picks, 9) == [5, 1, 0, 3]
    assert choose_images(made, picks[:0], 9) == []


def test_crops_are_cut_from_the_smaller_image_at_their_place():
    pixels = np.arange(24 * 32 * 3, dtype=np.uint32).reshape(24, 32, 3).astype(np.uint8)
    np.testing.assert_array_equal(cut(pixels, (160, 40, 320, 200), (640, 480)), pixels[2:10, 8:16])
    assert cut(pixels, (639, 479, 640, 480), (640, 480)).shape == (1, 1, 3)
    assert cut(pixels, (-50, -50, 9000, 9000), (640, 480)).shape == pixels.shape
    assert cut(pixels, (700, 700, 800, 800), (640, 480)).shape == (1, 1, 3)


def test_crops_are_shown_of_as_many_selected_images_as_there_are():
    samples = np.array([0, 0, 0, 1, 2, 2, 3])
    crops = CropFacts(7, 4, samples, np.zeros((7, 4), np.int64))
    picks = np.array([2, 0, 9, 3])
    assert choose_crops(crops, picks, 3).tolist() == [4, 0, 6]
    assert choose_crops(crops, picks, 9).tolist() == [4, 0, 6, 5, 1, 2]
    assert choose_crops(crops, picks[:0], 9).tolist() == []


def test_near_duplicates_are_grouped_by_what_stands_for_them():
    rows, originals = np.array([5, 1, 8, 3, 9]), np.array([0, 2, 0, 4, 0])
    distances = np.array([0.3, 0.1, 0.2, 0.4, 0.2])
    groups = near_duplicate_groups((rows, originals, distances))
    assert [group.original for group in groups] == [0, 2, 4]
    assert groups[0].members.tolist() == [8, 9, 5]
    assert groups[0].distances.tolist() == [0.2, 0.2, 0.3]
    assert near_duplicate_groups(None) == []
    assert near_duplicate_groups((rows[:0], rows[:0], distances[:0])) == []
