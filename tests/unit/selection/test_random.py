from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.config.run import CoresetMethod
from lightly_fs.selection import select

from .brute_force import dataset, datasets, names


def draw(vectors, n_samples, *, seed=1, filenames=None, min_distance=None, preselected=None):
    return select(
        vectors,
        method=CoresetMethod.RANDOM,
        n_samples=n_samples,
        min_distance=min_distance,
        seed=seed,
        filenames=filenames or names(len(vectors)),
        preselected=preselected,
    )


def test_another_seed_is_another_order_and_the_same_seed_the_same():
    vectors = dataset("random", 100, 4, seed=0)

    assert draw(vectors, 20).indices.tolist() == draw(vectors, 20).indices.tolist()
    assert draw(vectors, 20).indices.tolist() != draw(vectors, 20, seed=2).indices.tolist()


@settings(max_examples=40, deadline=None)
@given(datasets, st.integers(0, 5), st.sampled_from([None, 0.5, 1.5]))
def test_distances_are_those_to_what_was_selected_before(vectors, n_preselected, min_distance):
    preselected = vectors[:n_preselected]
    drawn = draw(vectors, None, min_distance=min_distance, preselected=preselected)

    before = list(preselected.astype(np.float64))
    for row, distance in zip(drawn.indices, drawn.distances, strict=True):
        point = vectors[row].astype(np.float64)
        nearest = min((np.linalg.norm(point - other) for other in before), default=np.inf)
        np.testing.assert_allclose(distance, nearest, rtol=1e-6)
        assert nearest >= (min_distance or 0)
        before.append(point)


def test_minimum_distance_skips_samples_and_keeps_the_order_of_the_rest():
    vectors = np.repeat(dataset("random", 300, 4, seed=0), 2, axis=0)
    plain = draw(vectors, None).indices.tolist()
    apart = draw(vectors, None, min_distance=1e-6)

    assert len(apart.indices) == 300
    assert apart.stopped_by == "min_distance"
    assert apart.indices.tolist() == [row for row in plain if row in set(apart.indices.tolist())]


def test_new_files_leave_the_order_of_the_old_ones():
    vectors = dataset("random", 60, 4, seed=0)
    old = draw(vectors[:50], None).indices.tolist()
    new = draw(vectors, None).indices.tolist()

    assert [row for row in new if row < 50] == old


def test_filenames_that_are_no_unicode_can_be_drawn():
    vectors = dataset("random", 2, 4, seed=0)

    assert sorted(draw(vectors, None, filenames=["a\udcff.jpg", "b.jpg"]).indices) == [0, 1]
