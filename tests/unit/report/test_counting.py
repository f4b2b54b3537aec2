import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightly_fs.report.counting import compare_tallies, is_whole, tally
from lightly_fs.report.statistics import BINS, summarise

WHOLE = arrays(np.float64, st.integers(1, 60), elements=st.integers(-40, 400).map(float))


def compared(before, after=(), drawn=()):
    sets = {"input": before, "selected": after, "random": drawn}
    return compare_tallies({name: tally(np.array(each, float)) for name, each in sets.items()})


@given(WHOLE)
def test_what_is_counted_is_what_the_written_out_numbers_say(values):
    made = compared(values)
    expected = summarise(values, made.edges)
    assert made.input.counts.tolist() == expected.counts.tolist()
    assert made.input.counts.sum() == len(values) == made.input.n
    for name in ("mean", "std", "min", "p10", "median", "p90", "max"):
        assert getattr(made.input, name) == pytest.approx(getattr(expected, name), abs=1e-9)


@given(WHOLE)
def test_bins_hold_as_many_whole_numbers_each_and_are_few(values):
    edges = compared(values).edges
    assert len(edges) - 1 <= BINS
    assert len(set(np.diff(edges))) == 1
    assert np.diff(edges)[0] == int(np.diff(edges)[0])
    assert edges[0] == values.min() - 0.5
    assert edges[-1] > values.max()


def test_few_numbers_have_a_bin_each():
    made = compared([0, 0, 1, 4], [4], [])
    assert made.edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert made.input.counts.tolist() == [2, 1, 0, 0, 1]
    assert made.selected.counts.tolist() == [0, 0, 0, 0, 1]
    assert made.random.n == 0


def test_nothing_at_all_is_an_empty_bin():
    made = compared([])
    assert (made.input.n, made.edges.tolist()) == (0, [-0.5, 0.5])


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        ([2019, 2020, np.nan, 2023], True),
        ([0, 39], True),
        ([0, 40], False),
        ([0.5, 1], False),
        ([np.nan, np.nan], False),
        ([], False),
        ([np.inf, 1], True),
        ([1e300, 1e300], False),
    ],
)
def test_whole_numbers_of_a_small_range_are_told_apart(values, whole):
    assert is_whole(np.array(values, float)) is whole
