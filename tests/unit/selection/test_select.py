"""What holds for every method."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.config.run import CoresetMethod
from lightly_fs.errors import ModelError
from lightly_fs.selection import METHODS, select

from .brute_force import dataset, datasets, names

methods = st.sampled_from(list(CoresetMethod))


def choose(vectors, method, n_samples=None, min_distance=None, **options):
    options.setdefault("filenames", names(len(vectors)))
    return select(
        vectors,
        method=method,
        n_samples=n_samples,
        min_distance=min_distance,
        seed=1,
        **options,
    )


def test_every_configurable_method_is_there():
    assert set(METHODS) == set(CoresetMethod)


@settings(max_examples=40, deadline=None)
@given(datasets, methods, st.data())
def test_a_smaller_selection_is_the_beginning_of_a_larger_one(vectors, method, data):
    n_samples = data.draw(st.integers(0, len(vectors)))
    part, whole = choose(vectors, method, n_samples), choose(vectors, method)

    np.testing.assert_array_equal(part.indices, whole.indices[:n_samples])
    np.testing.assert_array_equal(part.distances, whole.distances[:n_samples])
    assert sorted(whole.indices) == list(range(len(vectors)))
    assert whole.stopped_by == "all"
    assert part.stopped_by == ("all" if n_samples == len(vectors) else "n_samples")


@settings(max_examples=40, deadline=None)
@given(datasets, methods, st.integers(0, 10_000), st.sampled_from([None, 0.7]))
def test_the_order_of_the_input_changes_nothing(vectors, method, seed, min_distance):
    filenames = names(len(vectors))
    shuffled = np.random.default_rng(seed).permutation(len(vectors))
    given_order = choose(vectors, method, min_distance=min_distance)
    other_order = choose(
        vectors[shuffled],
        method,
        min_distance=min_distance,
        filenames=[filenames[row] for row in shuffled],
    )

    np.testing.assert_array_equal(shuffled[other_order.indices], given_order.indices)
    np.testing.assert_array_equal(other_order.distances, given_order.distances)


@settings(max_examples=40, deadline=None)
@given(datasets, methods, st.sampled_from([0.1, 0.5, 1.0, 2.0]), st.integers(0, 5))
def test_selected_samples_keep_the_minimum_distance_and_leave_no_room(
    vectors, method, min_distance, n_preselected
):
    preselected = vectors[:n_preselected]
    chosen = choose(vectors, method, min_distance=min_distance, preselected=preselected)
    points = np.concatenate([preselected, vectors[chosen.indices]]).astype(np.float64)
    pairs = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(pairs, np.inf)

    assert len(chosen.indices) == 0 or pairs[n_preselected:].min() >= min_distance
    rest = np.delete(vectors.astype(np.float64), chosen.indices, axis=0)
    assert all(np.linalg.norm(points - other, axis=1).min() < min_distance for other in rest)


@pytest.mark.parametrize("method", list(CoresetMethod))
def test_nothing_to_choose_from_is_an_empty_selection(method):
    empty = choose(np.empty((0, 8), np.float32), method, 5)

    assert (len(empty.indices), empty.stopped_by) == (0, "all")


@pytest.mark.parametrize("method", list(CoresetMethod))
def test_zero_samples_asked_is_an_empty_selection(method):
    none = choose(dataset("random", 5, 3, seed=0), method, 0)

    assert (len(none.indices), none.stopped_by) == (0, "n_samples")


def test_identical_vectors_are_picked_by_name_at_distance_zero():
    chosen = choose(np.ones((5, 3), np.float32), CoresetMethod.CORESET, 4)

    assert chosen.indices.tolist() == [0, 1, 2, 3]
    assert chosen.distances.tolist() == [np.inf, 0, 0, 0]
    assert chosen.stopped_by == "n_samples"


def test_stopping_by_distance_is_told_from_stopping_by_number():
    vectors = np.array([[0.0], [10.0], [1.0]], np.float32)

    assert choose(vectors, CoresetMethod.CORESET, 3, 5.0).stopped_by == "min_distance"
    assert choose(vectors, CoresetMethod.CORESET, 2, 5.0).stopped_by == "n_samples"
    assert choose(vectors, CoresetMethod.CORESET, 3, 1.0).stopped_by == "all"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e16])
def test_an_embedding_that_is_not_finite_is_named(value):
    vectors = dataset("random", 5, 3, seed=0)
    vectors[3, 1] = value

    with pytest.raises(ModelError, match=r"'000003\.jpg'"):
        choose(vectors, CoresetMethod.CORESET, 2)


def test_numba_is_not_loaded_for_a_small_dataset():
    code = (
        "import sys, numpy as np\n"
        "from lightly_fs.selection import select\n"
        "x = np.random.default_rng(0).standard_normal((128, 256)).astype('f4')\n"
        "names = [f'{i:03d}' for i in range(128)]\n"
        "select(x, method='coreset', n_samples=50, min_distance=None, seed=1, filenames=names)\n"
        "assert 'numba' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
