import numpy as np

from lightly_fs.report.examples import choose_pairs, closest_removed, spread
from lightly_fs.report.statistics import Cover

SELECTED = np.array([9, 0])
COVER = Cover(
    rows=np.arange(10),
    nearest=np.array([0, 0, 0, 0, 0, 9, 9, 9, 9, 9]),
    distances=np.array([0, 0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0.15, 0.05, 0.0]),
)


def test_pairs_are_the_closest_of_different_selected_images_then_up_to_the_worst_covered():
    pairs = choose_pairs(COVER, SELECTED, 4)
    assert [(pair.selected, pair.removed) for pair in pairs[:2]] == [(9, 8), (0, 1)]
    assert (pairs[-1].selected, pairs[-1].removed, pairs[-1].distance) == (0, 4, 0.9)
    distances = [pair.distance for pair in pairs]
    assert distances == sorted(distances)
    assert len({pair.removed for pair in pairs}) == 4


def test_fewer_removed_images_than_pairs_are_all_shown_once():
    assert len(choose_pairs(COVER, SELECTED, 100)) == 8


def test_there_are_no_pairs_without_a_selection_or_a_wish():
    assert choose_pairs(None, SELECTED, 6) == []
    assert choose_pairs(COVER, SELECTED, 0) == []
    assert choose_pairs(COVER, np.arange(10), 6) == []


def test_each_shown_image_gets_the_nearest_removed_one():
    found = closest_removed(COVER, SELECTED, np.array([9, 0]))
    assert list(found) == [9, 0]
    assert (found[9].removed, found[0].removed) == (8, 1)


def test_spread_examples_keep_their_distance():
    points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    eligible = np.arange(100, 500)
    chosen = eligible[spread(points, eligible, 50, gap=0.1)]
    scaled = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    gaps = np.abs(scaled[chosen][:, None] - scaled[chosen][None]).max(axis=2)
    np.fill_diagonal(gaps, 1)
    assert 10 < len(chosen) <= 50
    assert gaps.min() > 0.1


def test_spread_of_one_point_and_of_none():
    assert spread(np.zeros((1, 2), np.float32), np.array([0]), 5).tolist() == [0]
    assert len(spread(np.zeros((3, 2), np.float32), np.empty(0, np.int64), 5)) == 0
