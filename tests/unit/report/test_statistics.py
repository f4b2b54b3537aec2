import numpy as np
import pytest

from lightly_fs.report import embedding_statistics as embeddings
from lightly_fs.report import statistics
from lightly_fs.report.embedding_statistics import embedding_statistics
from lightly_fs.report.statistics import (
    compare,
    cover,
    draw_sets,
    nearest,
    neighbour_distances,
    pairwise_distances,
    sample_rows,
    summarise,
)
from tests.unit.report.made import vectors


def all_distances(left, right):
    return np.linalg.norm(left[:, None].astype(float) - right[None].astype(float), axis=2)


def test_nearest_agrees_with_all_distances(monkeypatch):
    monkeypatch.setattr(statistics, "_TILE", 7)
    monkeypatch.setattr(statistics, "_QUERIES", 5)
    queries, references = vectors(23, seed=1), vectors(31, seed=2)
    distances, rows = nearest(queries, references, own=None)
    expected = all_distances(queries, references)
    np.testing.assert_array_equal(rows, expected.argmin(axis=1))
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-6)


def test_a_sample_is_not_its_own_neighbour(monkeypatch):
    monkeypatch.setattr(statistics, "_TILE", 7)
    given = vectors(20)
    expected = all_distances(given, given)
    np.fill_diagonal(expected, np.inf)
    np.testing.assert_allclose(neighbour_distances(given, None, 1), expected.min(axis=1), rtol=1e-6)


def test_small_distances_survive_a_large_offset():
    given = np.array([[0.0], [0.001], [5.0]], np.float32) + np.float32(1000)
    np.testing.assert_allclose(neighbour_distances(given, None, 1)[:2], 0.001, rtol=0.05)


def test_one_sample_has_no_neighbours_and_no_pairs():
    assert len(neighbour_distances(vectors(1), None, 1)) == 0
    assert len(pairwise_distances(vectors(1))) == 0


def test_pairwise_distances_are_those_above_the_diagonal():
    given = vectors(700)  # more than one block
    expected = all_distances(given, given)[np.triu_indices(700, 1)]
    np.testing.assert_allclose(
        np.sort(pairwise_distances(given)), np.sort(expected), rtol=1e-5, atol=1e-6
    )


def test_cover_names_the_nearest_selected_row():
    given = vectors(30)
    chosen = np.array([4, 11, 25])
    covered = cover(given, chosen, 1)
    assert covered.nearest[4] == 4
    assert covered.distances[11] == 0
    expected = all_distances(given, given[chosen])
    np.testing.assert_array_equal(covered.nearest, chosen[expected.argmin(axis=1)])


def test_cover_of_nothing_is_none():
    assert cover(vectors(5), np.empty(0, np.int64), 1) is None


def test_the_random_set_has_the_selections_size_and_depends_on_the_seed_only():
    selected = np.array([3, 1, 2])
    first, again, other = (draw_sets(1000, selected, seed) for seed in (1, 1, 2))
    assert len(np.unique(first.random)) == 3
    np.testing.assert_array_equal(first.random, again.random)
    assert first.random.tolist() != other.random.tolist()


def test_a_sample_of_more_than_there_are_is_all():
    np.testing.assert_array_equal(sample_rows(4, 9, 1, stream=0), [0, 1, 2, 3])


def test_summary_counts_every_value_and_ignores_what_is_not_finite():
    made = summarise(np.array([1, 2, 3, np.nan, np.inf, 100]), np.linspace(1, 3, 3))
    assert made.counts.tolist() == [1, 3]  # the value beyond the edges is in the last bin
    assert (made.n, made.min, made.median, made.max) == (4, 1, 2.5, 100)


def test_summary_of_nothing_is_zero():
    made = summarise(np.empty(0), np.linspace(0, 1, 3))
    assert made.counts.tolist() == [0, 0]
    assert (made.n, made.mean, made.max) == (0, 0, 0)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e12])
def test_a_constant_has_edges_of_some_width(value):
    compared = compare({"selected": np.full(3, value), "random": np.full(3, value)})
    assert (np.diff(compared.edges) > 0).all()
    assert compared.selected.counts.sum() == 3


def test_an_outlier_does_not_widen_the_edges():
    values = np.append(np.linspace(0, 1, 5000), 1e6)
    compared = compare({"input": values, "selected": values[:5], "random": values[:5]})
    assert compared.edges[-1] < 2
    assert compared.input.max == 1e6
    assert compared.input.counts.sum() == 5001


def test_a_large_datapool_does_not_hide_the_run():
    run, pool = np.linspace(100, 200, 500), np.linspace(0, 1, 500_000)
    sets = {"input": run, "selected": run[:9], "random": run[-9:]}
    compared = compare({**sets, "preselected": pool, "with_datapool": np.append(pool, run[:9])})
    alone = compare(sets)
    assert compared.edges[0] < 0.01
    assert compared.edges[-1] == alone.edges[-1]
    assert compared.preselected.counts.sum() == len(pool)


def test_work_is_bounded_and_the_sample_is_said(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_MULTIPLICATIONS", 1000 * 16 * 150)
    monkeypatch.setattr(embeddings, "MAX_PAIRWISE", 50)
    given = vectors(1000)
    made = embedding_statistics(given, draw_sets(1000, np.arange(10), 1), memory_gb=1)
    assert made.neighbour.input.n == made.neighbour.n_measured == 150
    assert made.neighbour.selected.n == 10
    assert made.pairwise.input.n == 50 * 49 // 2
    assert made.pairwise.n_measured == 50


def test_memory_bounds_the_pairwise_matrix():
    given = vectors(200)
    made = embedding_statistics(given, draw_sets(200, np.arange(9), 1), memory_gb=8 * 30**2 / 1e9)
    assert made.pairwise.input.n == 30 * 29 // 2


def test_farthest_first_keeps_selected_images_apart_and_covers_better_than_random():
    from tests.unit.report.made import farthest_first

    given = vectors(400)
    sets = draw_sets(400, farthest_first(given, 40).indices, 1)
    made = embedding_statistics(given, sets, memory_gb=1)
    assert made.neighbour.selected.min > made.neighbour.random.min
    assert made.covering.selected.max < made.covering.random.max
