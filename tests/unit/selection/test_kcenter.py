"""Both ways of farthest-first selection pick exactly what the plain definition picks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.selection import distances, lazy, products
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


def by_rounding(candidates, block=7, n_threads=2):
    """Pick with all products in bfloat16, whatever the processor and however little it helps."""
    dimensions = candidates.vectors.shape[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "FEWEST_CENTRES", 1)
        patch.setattr(products, "PAIRS_PER_CLOSE", 0)
        search = lazy.Search(candidates)
        search.block = block
        search.comparisons = [
            products.Comparison(dimensions, lazy.CENTRES_AT_ONCE, rounding=True)
            for _ in range(n_threads)
        ]
        picks = search.run(silent)
    assert all(comparison.rounding for comparison in search.comparisons)
    return picks


@settings(max_examples=80, deadline=None)
@given(datasets, st.integers(1, 90), st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.integers(0, 9))
def test_scan_and_lazy_pick_what_brute_force_picks(vectors, limit, min_distance, n_preselected):
    preselected = vectors[:n_preselected][::-1].copy()
    rows, distances = brute_force(
        vectors, limit=limit, min_distance=min_distance, preselected=preselected
    )

    for way in (scan, by_lazy, by_rounding):
        picks = way(ask(vectors, limit, min_distance, preselected))
        np.testing.assert_array_equal(picks.rows, rows)
        np.testing.assert_allclose(np.sqrt(picks.squared), distances, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_lazy_agrees_with_scan_to_the_last_bit_over_many_blocks_and_chunks(kind, monkeypatch):
    monkeypatch.setattr(lazy, "CENTRES_AT_ONCE", 16)
    monkeypatch.setattr(lazy, "PICKS_AT_ONCE", 10)
    candidates = ask(dataset(kind, 1500, 24, seed=1), limit=400)

    expected = scan(candidates)
    blocks = (1, 50, 600, 5000)
    for picks in itertools.chain(
        (by_lazy(candidates, block) for block in blocks),
        (by_rounding(candidates, block) for block in blocks[1:]),
    ):
        np.testing.assert_array_equal(picks.rows, expected.rows)
        assert picks.squared.tobytes() == expected.squared.tobytes()


@settings(max_examples=80, deadline=None)
@given(
    datasets,
    st.sampled_from([1e-44, 1e-40, 1e-38, 1e-25, 1e-15, 1.0, 1e9, 1e15]),
    st.sampled_from([0.0, 1.0, 300.0]),
    st.integers(1, 40),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_rounded_products_pick_what_a_scan_picks_at_any_scale(
    vectors, scale, offset, limit, n_preselected, n_threads
):
    vectors = ((vectors + offset) * scale).astype(np.float32)
    candidates = ask(vectors, limit, preselected=vectors[:n_preselected][::-1].copy())

    expected, picks = scan(candidates), by_rounding(candidates, n_threads=n_threads)
    np.testing.assert_array_equal(picks.rows, expected.rows)
    assert picks.squared.tobytes() == expected.squared.tobytes()


def test_rounded_products_pick_what_a_scan_picks_among_vectors_of_all_lengths():
    rng = np.random.default_rng(5)
    vectors = dataset("random", 2000, 40, seed=3)
    vectors *= 10.0 ** rng.uniform(-20, 8, (2000, 1)).astype(np.float32)
    vectors[::3] = vectors[1::3][:667] * np.float32(1 + 2**-20)
    candidates = ask(vectors, limit=1500)

    expected = scan(candidates)
    for n_threads in (1, 3):
        picks = by_rounding(candidates, 100, n_threads)
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
