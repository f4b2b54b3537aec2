import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightly_fs.annotations import rle

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def test_the_documented_example():
    mask = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], np.bool_)

    assert rle.encode(mask).tolist() == [2, 2, 1, 3, 3, 1]


def test_a_mask_that_starts_with_ones_starts_with_a_zero_count():
    assert rle.encode(np.array([[1, 1, 0]], np.bool_)).tolist() == [0, 2, 1]


@given(masks)
def test_decoding_gives_the_encoded_mask(mask):
    counts = rle.encode(mask)

    assert np.array_equal(rle.decode(counts, *mask.shape), mask)
    assert rle.area(counts) == mask.sum()
    assert (counts[1:] > 0).all()
    assert counts.sum() == mask.size


@given(masks)
def test_the_box_is_the_smallest_around_the_ones(mask):
    rows, columns = np.nonzero(mask)
    expected = None
    if len(rows):
        left, top = columns.min(), rows.min()
        expected = (left, top, columns.max() - left + 1, rows.max() - top + 1)

    assert rle.bounding_box(rle.encode(mask), mask.shape[1]) == expected


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 9))
def test_counts_with_zeros_in_between_are_understood(counts, width):
    total = sum(counts)
    height = -(-total // width)
    padded = [*counts, *([0] if len(counts) % 2 else []), height * width - total]
    mask = rle.decode(padded, height, width)

    assert mask.sum() == rle.area(padded)
    assert rle.bounding_box(padded, width) == rle.bounding_box(rle.encode(mask), width)


@pytest.mark.parametrize("counts", [[3], [2, 2, 3], [], [8, -2]])
def test_counts_of_another_size_are_refused(counts):
    with pytest.raises(
        ValueError, match=r"add up to \d pixels, but the mask has 2 x 3; count every"
    ):
        rle.decode(counts, 2, 3)
