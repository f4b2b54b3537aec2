"""The curve of picks' distances is the covering radius, computed by comparing all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.config.run import CoresetMethod
from lightly_fs.errors import ConfigError
from lightly_fs.selection import select
from lightly_fs.selection.budget import gain_of_next, radius_curve
from lightly_fs.selection.nearest import covering_distances

from .brute_force import datasets, names


def pick(vectors, n_samples):
    return select(
        vectors,
        method=CoresetMethod.CORESET,
        n_samples=n_samples,
        min_distance=None,
        seed=0,
        filenames=names(len(vectors)),
    )


@settings(max_examples=60, deadline=None)
@given(datasets, st.integers(1, 90), st.integers(1, 30))
def test_the_curve_is_the_covering_radius_of_every_prefix(vectors, n_samples, points):
    chosen = pick(vectors, n_samples)
    remaining = float(covering_distances(vectors, vectors[chosen.indices])[0].max())
    counts, radii = radius_curve(chosen.distances, remaining=remaining, points=points)

    assert 1 <= len(counts) <= points
    assert counts[-1] == len(chosen.indices)
    for n, radius in zip(counts, radii, strict=True):
        covered, _ = covering_distances(vectors, vectors[chosen.indices[:n]])
        assert radius == pytest.approx(float(covered.max()), rel=1e-6, abs=1e-7)


@given(st.lists(st.floats(0, 2, width=32), max_size=40), st.integers(1, 60))
def test_the_curve_never_rises_and_stays_above_every_later_pick(distances, points):
    values = np.array([np.inf, *distances], np.float32)
    counts, radii = radius_curve(values, points=points)

    assert (np.diff(counts) > 0).all()
    assert (np.diff(radii) <= 0).all()
    for n, radius in zip(counts, radii, strict=True):
        assert radius == max(values[n:])


def test_the_next_samples_buy_the_difference_of_the_radii():
    distances = np.array([np.inf, 1.0, 0.75, 0.5, 0.5, 0.25], np.float32)

    assert gain_of_next(distances, 1, more=2) == 0.5
    assert gain_of_next(distances, 3, more=1) == 0.0
    assert gain_of_next(distances, 0, more=1) == np.inf
    assert gain_of_next(distances, 4, more=2) is None
    assert gain_of_next(distances, 4, more=2, remaining=0.125) == 0.375


def test_preselected_samples_make_the_radius_before_the_first_pick_known():
    counts, radii = radius_curve(np.array([0.9, 0.4], np.float32), remaining=0.1, points=3)

    assert (counts[0], radii[0]) == (1, np.float32(0.4))
    assert gain_of_next(np.array([0.9, 0.4], np.float32), 0, more=1) == pytest.approx(0.5)


def test_nothing_selected_makes_no_curve():
    for distances in ([], [np.inf]):
        counts, radii = radius_curve(np.array(distances, np.float32))
        assert len(counts) == len(radii) == 0
    with pytest.raises(ConfigError, match="0 points"):
        radius_curve(np.ones(3, np.float32), points=0)
