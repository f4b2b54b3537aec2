import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightly_fs.report.classes import (
    bars,
    compare_amounts,
    compare_classes,
    compare_labels,
    gini_imbalance,
    normalized_entropy,
    off_target,
)
from lightly_fs.report.selection import Categories, ClassAmounts
from lightly_fs.report.statistics import Sets

COUNTS = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 1000).map(float))


def sets_of(n, selected, random):
    return Sets(n, np.array(selected, np.int64), np.array(random, np.int64), 0)


@pytest.mark.parametrize(
    ("amounts", "gini", "entropy"),
    [
        ([5, 5, 5, 5], 0, 1),
        ([0, 12, 0], 1, 0),
        ([7], 0, 1),
        ([0, 0], 0, 0),
        ([], 0, 0),
        # Mean difference of 1 and 3 over twice their mean is 1/4; at most 1/2 for two classes.
        ([3, 1], 0.5, -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))),
        # Sorted 1, 2, 3 with weights -2, 0, 2: 4 / (6 * 2).
        ([2, 3, 1], 1 / 3, (math.log(6) - (2 * math.log(2) + 3 * math.log(3)) / 6) / math.log(3)),
    ],
)
def test_imbalance_and_entropy_by_hand(amounts, gini, entropy):
    given_amounts = np.array(amounts, np.float64)
    assert gini_imbalance(given_amounts) == pytest.approx(gini)
    assert normalized_entropy(given_amounts) == pytest.approx(entropy)


@given(COUNTS)
def test_imbalance_is_the_mean_difference_and_both_stay_within_0_and_1(amounts):
    gini, entropy = gini_imbalance(amounts), normalized_entropy(amounts)
    assert 0 <= gini <= 1 + 1e-12
    assert 0 <= entropy <= 1 + 1e-12
    if len(amounts) > 1 and amounts.sum():
        differences = np.abs(amounts[:, None] - amounts).sum()
        largest = 2 * amounts.sum() * (len(amounts) - 1)
        assert gini == pytest.approx(differences / largest)


@given(COUNTS, st.randoms())
def test_the_order_of_classes_does_not_matter(amounts, random):
    shuffled = list(amounts)
    random.shuffle(shuffled)
    assert gini_imbalance(np.array(shuffled)) == pytest.approx(gini_imbalance(amounts))
    assert normalized_entropy(np.array(shuffled)) == pytest.approx(normalized_entropy(amounts))


def test_labels_are_counted_in_every_set_and_missing_ones_are_not():
    weather = Categories(("sun", "rain", "hail"), np.array([0, 0, 0, 1, -1, 0]))
    made = compare_labels(weather, sets_of(6, [3, 4, 0], [1, 2, 5]))
    assert made.input.amounts.tolist() == [4, 1, 0]
    assert made.selected.amounts.tolist() == [1, 1, 0]
    assert made.random.amounts.tolist() == [3, 0, 0]
    # Hail never occurs: even among sun and rain is as even as it can be.
    assert (made.selected.gini_imbalance, made.selected.normalized_entropy) == (0, 1)
    assert (made.random.gini_imbalance, made.random.normalized_entropy) == (1, 0)


def test_amounts_are_summed():
    given_amounts = ClassAmounts(("a", "b"), np.array([[1, 0.5], [0.25, 0], [0, 2]]))
    made = compare_amounts(given_amounts, sets_of(3, [2], [0]), {"a": 0.5})
    assert made.input.amounts.tolist() == [1.25, 2.5]
    assert made.selected.shares.tolist() == [0, 1]
    assert made.random.shares == pytest.approx([2 / 3, 1 / 3])
    assert made.target == {"a": 0.5}


def comparison(classes, before, after, target=None):
    amounts = {"input": before, "selected": after, "random": before}
    return compare_classes(
        classes, {name: np.array(each, np.float64) for name, each in amounts.items()}, target
    )


def test_a_class_that_only_the_target_names_is_there_with_nothing():
    made = comparison(("a", "b"), [3, 1], [1, 1], {"c": 0.4, "a": 0.6})
    assert made.classes == ("a", "b", "c")
    assert made.selected.amounts.tolist() == [1, 1, 0]
    assert made.input.gini_imbalance == pytest.approx(0.5)


def test_how_far_from_the_target_counts_unnamed_classes_together():
    target = {"a": 0.5, "b": 0.3}
    made = comparison(("a", "b", "c", "d"), [10, 0, 0, 0], [5, 3, 1, 1], target)
    assert off_target(made, made.selected) == pytest.approx(0)
    # All of a: half of it would have to be b, or of the rest.
    assert off_target(made, made.input) == pytest.approx(0.5)
    assert off_target(comparison(("a",), [1], [1]), made.input) is None
    nothing = comparison(("a",), [1], [0], {"a": 1.0})
    assert off_target(nothing, nothing.selected) is None


def test_many_classes_are_drawn_as_the_largest_and_a_sum():
    classes = tuple(f"class {i:03d}" for i in range(200))
    before = np.arange(200, 0, -1)
    made = comparison(classes, before, before[::-1], {"class 150": 0.2})
    drawn, others = bars(made, 15)
    assert others == 185
    assert [bar.name for bar in drawn[:3]] == ["class 150", "class 000", "class 001"]
    assert drawn[-1].name == "185 other classes"
    for which in ("input", "selected", "random"):
        assert sum(getattr(bar, which) for bar in drawn) == pytest.approx(1)
    assert [bar.target for bar in drawn] == [0.2] + 15 * [None]


def test_one_class_more_than_fits_takes_the_place_of_the_sum():
    classes = tuple("abcd")
    assert [bar.name for bar in bars(comparison(classes, [4, 3, 2, 1], [1] * 4), 3)[0]] == [*"abcd"]
    drawn, others = bars(comparison((*classes, "e"), [4, 3, 2, 1, 0], [1] * 4 + [0]), 3)
    assert ([bar.name for bar in drawn], others) == ([*"abcd"], 0)
