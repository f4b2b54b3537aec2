"""What of a datapool's selection is near to the samples of a run."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.selection import select
from lightly_fs.selection.nearest import covering_distances

DIMENSIONS = 3
# On a coarse grid many samples are equally near, and some are the same.
GRID = st.integers(-2, 2).map(np.float32)


def vectors(least: int) -> st.SearchStrategy:
    shapes = st.integers(least, 12).map(lambda n: (n, DIMENSIONS))
    return hnp.arrays(np.float32, shapes, elements=GRID)


def beside(run: np.ndarray, earlier: np.ndarray) -> Preselected:
    distances, nearest = covering_distances(run, earlier)
    names = [f"old {place}" for place in range(len(earlier))]
    measured = {"sharpness": np.arange(len(earlier), dtype=np.float64)}
    return Preselected(names, earlier, measured, nearest, distances)


@given(vectors(1), vectors(1))
def test_the_nearest_alone_are_as_near_as_all(run, earlier):
    whole = beside(run, earlier)

    fewer = whole.only_nearest()

    distances, nearest = covering_distances(run, fewer.vectors)
    np.testing.assert_array_equal(distances, whole.distances)
    np.testing.assert_array_equal(nearest, fewer.nearest)
    assert [fewer.filenames[place] for place in fewer.nearest] == [
        whole.filenames[place] for place in whole.nearest
    ]
    places = fewer.properties["sharpness"].astype(int)
    np.testing.assert_array_equal(fewer.vectors, earlier[places])
    assert len(fewer) <= min(len(run), len(earlier))


@given(vectors(1), vectors(1), st.integers(1, 12), st.sampled_from(["coreset", "random"]))
def test_a_selection_beside_the_nearest_alone_is_that_beside_all(run, earlier, count, method):
    names = [f"{place:02d}" for place in range(len(run))]
    whole = beside(run, earlier)

    one, other = (
        select(
            run, method=method, n_samples=min(count, len(run)), min_distance=None, seed=1,
            filenames=names, preselected=given.vectors,
        )
        for given in (whole, whole.only_nearest())
    )  # fmt: skip

    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)


def test_beside_some_samples():
    run, earlier = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]
    whole = beside(run, earlier)
    some = whole.of(np.array([2, 0]))
    assert some.nearest.tolist() == [0, 2]
    assert some.distances.tolist() == [0, 0]
    assert some.only_nearest().filenames == ["old 0", "old 2"]
