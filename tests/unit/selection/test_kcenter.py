"""Both ways of farthest-first selection pick exactly what the plain definition picks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.selection import distances, lazy
from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.kcenter import farthest_first, scan
from lightly_fs.types import silent

from .brute_force import KINDS, dataset, datasets, names
from .brute_force import farthest_first as brute_force


def ask(vectors, limit=None, min_distance=0.0, preselected=None):
    return Candidates(
        vectors=vectors,
        filenames=names(len(vectors)),
        preselected=np.empty((0, vectors.shape[1]), np.float32)
        if preselected is None
        else preselected,
        limit=len(vectors) if limit is None else min(limit, len(vectors)),
        min_distance=min_distance,
    )


def by_lazy(candidates, block=7):
    search = lazy.Search(candidates)
    search.block = block
    return search.run(silent)


@settings(max_examples=80, deadline=None)
@given(datasets, st.integers(1, 90), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(0, 9))
def test_scan_and_lazy_pick_what_brute_force_picks(vectors, limit, min_distance, n_preselected):
    preselected = vectors[:n_preselected][::-1].copy()
    rows, distances = brute_force(
        vectors, limit=limit, min_distance=min_distance, preselected=preselected
    )

    for way in (scan, by_lazy):
        picks = way(ask(vectors, limit, min_distance, preselected))
        np.testing.assert_array_equal(picks.rows, rows)
        np.testing.assert_allclose(np.sqrt(picks.squared), distances, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_agrees_with_scan_to_the_last_bit_over_many_blocks_and_chunks(kind, monkeypatch):
    monkeypatch.setattr(lazy, "CENTRES_AT_ONCE", 16)
    monkeypatch.setattr(lazy, "PICKS_AT_ONCE", 10)
    candidates = ask(dataset(kind, 1500, 24, seed=1), limit=400)

    expected = scan(candidates)
    for block in (1, 50, 600, 5000):
        picks = by_lazy(candidates, block)
        np.testing.assert_array_equal(picks.rows, expected.rows)
        assert picks.squared.tobytes() == expected.squared.tobytes()


def test_lazy_stops_at_the_minimum_distance_among_many_equal_distances():
    corners = np.eye(300, dtype=np.float32)

    assert len(by_lazy(ask(corners, min_distance=1.4)).rows) == 300
    assert len(by_lazy(ask(corners, min_distance=1.5)).rows) == 1


def test_large_input_takes_the_lazy_way_and_reports_progress(monkeypatch):
    monkeypatch.setattr(distances, "SMALL_TERMS", 3000 * 16 * 100 - 1)
    vectors = dataset("clustered", 3000, 16, seed=2)
    calls = []
    clock = iter(range(1_000_000))
    monkeypatch.setattr(lazy.time, "monotonic", lambda: float(next(clock)))
    picks = farthest_first(
        ask(vectors, limit=100), lambda stage, done, total, note="": calls.append((done, total))
    )

    expected, _ = brute_force(vectors, limit=100)
    np.testing.assert_array_equal(picks.rows, expected)
    assert calls[-1] == (100, 100)


def test_preselected_samples_count_as_selected_from_the_start():
    vectors = np.array([[0, 0], [10, 0], [0, 6]], np.float32)

    for way in (scan, by_lazy):
        picks = way(ask(vectors, 2, preselected=np.array([[10, 1]], np.float32)))
        assert picks.rows.tolist() == [2, 0]
        np.testing.assert_allclose(np.sqrt(picks.squared), [np.sqrt(125), 6])
