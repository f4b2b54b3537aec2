"""Near duplicates are those of the plain definition, whatever the order, cells and blocks."""

from __future__ import annotations

import re
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.selection import distances, heartbeat, near_pairs, products
from lightly_fs.selection.near_duplicates import find_near_duplicates

from .brute_force import KINDS, dataset, datasets, names

radii = st.one_of(st.sampled_from([0.0, 0.05, 0.5, 1.0, np.sqrt(2.0), 2.0]), st.floats(0, 3))


def by_definition(vectors, filenames, max_distance, keep_first=()):
    """Go through the samples one by one; {filename: (original, distance)} of the removed."""
    points = vectors.astype(np.float64)
    first = {int(row) for row in keep_first}
    order = sorted(range(len(points)), key=lambda row: (row not in first, filenames[row]))
    kept, removed = [], {}
    for row in order:
        apart = [np.sqrt(np.square(points[row] - points[other]).sum()) for other in kept]
        nearest = int(np.argmin(apart)) if apart else -1
        if apart and apart[nearest] <= max_distance:
            removed[filenames[row]] = (filenames[kept[nearest]], apart[nearest])
        else:
            kept.append(row)
    return removed


def cells_and_blocks(stack, n_cells, block):
    for module, name, value in (
        (distances, "SMALL_TERMS", -1),
        (near_pairs, "PAIRS_AT_ONCE", block),
        (near_pairs, "HITS_AT_ONCE", 20 * block),
        (near_pairs, "ROWS_AT_ONCE", 4 * block),
        (products, "CENTRES_AT_ONCE", block),
        (products, "CHUNK_BYTES", 0),
        (near_pairs, "cell_count", lambda count: min(count, n_cells)),
    ):
        stack.enter_context(patch.object(module, name, value))


def check(found, vectors, filenames, max_distance, keep_first=()):
    expected = by_definition(vectors, filenames, max_distance, keep_first)
    originals = {
        filenames[row]: filenames[other]
        for row, other in zip(found.removed, found.original, strict=True)
    }
    assert originals == {name: original for name, (original, _) in expected.items()}
    assert (np.diff(found.removed) > 0).all()
    np.testing.assert_allclose(
        found.distance, [expected[filenames[row]][1] for row in found.removed], rtol=1e-6
    )


@settings(max_examples=150, deadline=None)
@given(datasets, radii, st.integers(0, 1000), st.booleans())
def test_numpy_removes_what_the_definition_removes(vectors, max_distance, seed, leading):
    rng = np.random.default_rng(seed)
    filenames = list(rng.permutation(names(len(vectors))))
    first = np.flatnonzero(rng.random(len(vectors)) < 0.2) if leading else None
    found = find_near_duplicates(vectors, filenames, max_distance=max_distance, keep_first=first)
    check(found, vectors, filenames, max_distance, () if first is None else first)


@settings(max_examples=250, deadline=None)
@given(datasets, radii, st.integers(0, 1000), st.integers(1, 12), st.integers(1, 9))
def test_cells_remove_what_the_definition_removes(vectors, max_distance, seed, n_cells, block):
    rng = np.random.default_rng(seed)
    filenames = list(rng.permutation(names(len(vectors))))
    first = np.flatnonzero(rng.random(len(vectors)) < 0.2)
    with ExitStack() as stack:
        cells_and_blocks(stack, n_cells, block)
        found = find_near_duplicates(
            vectors, filenames, max_distance=max_distance, keep_first=first
        )
    check(found, vectors, filenames, max_distance, first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_distance", [0.0, 0.3, 1.2])
def test_cells_agree_with_numpy_to_the_last_bit(kind, max_distance):
    vectors = dataset(kind, 1200, 20, seed=4)
    vectors[7::7] = vectors[3::7] + np.float32(0.01)
    plain = find_near_duplicates(vectors, names(1200), max_distance=max_distance)
    for n_cells, block in ((1, 100), (20, 16), (40, 300)):
        with ExitStack() as stack:
            cells_and_blocks(stack, n_cells, block)
            fast = find_near_duplicates(vectors, names(1200), max_distance=max_distance)
        np.testing.assert_array_equal(fast.removed, plain.removed)
        np.testing.assert_array_equal(fast.original, plain.original)
        assert fast.distance.tobytes() == plain.distance.tobytes()


def test_a_chain_of_near_samples_is_thinned_and_not_removed_whole():
    steps = np.arange(7, dtype=np.float32)[:, None]
    found = find_near_duplicates(steps, names(7), max_distance=1.5)

    assert found.removed.tolist() == [1, 3, 5]
    assert found.original.tolist() == [0, 2, 4]
    assert found.distance.tolist() == [1, 1, 1]


def test_what_comes_first_is_kept():
    steps = np.array([[0], [1], [2], [9]], np.float32)
    found = find_near_duplicates(
        steps, names(4), max_distance=1.0, keep_first=np.array([1], np.int64)
    )

    assert (found.removed.tolist(), found.original.tolist()) == ([0, 2], [1, 1])


def test_a_file_in_memory_is_searched_as_it_is(tmp_path):
    vectors = dataset("duplicated", 400, 8, seed=1)
    vectors.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", np.float32, "r", shape=vectors.shape)
    with ExitStack() as stack:
        cells_and_blocks(stack, 5, 50)
        found = find_near_duplicates(mapped, names(400), max_distance=0.1)
    check(found, vectors, names(400), 0.1)


def test_progress_is_told_and_what_it_raises_ends_the_search(monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS", -1)
    vectors = dataset("random", 300, 8, seed=1)
    notes = []

    def cancel(stage, done, total, note=""):
        notes.append(note)
        if note.startswith("near duplicates"):
            raise KeyboardInterrupt

    with ExitStack() as stack:
        cells_and_blocks(stack, 5, 10)
        with pytest.raises(KeyboardInterrupt):
            find_near_duplicates(vectors, names(300), max_distance=0.1, progress=cancel)
    assert re.match(r"near duplicates: \d+%, about ", notes[-1])


@pytest.mark.parametrize("max_distance", [-1.0, np.nan, np.inf])
def test_a_distance_that_means_nothing_is_refused(max_distance):
    with pytest.raises(ConfigError, match="near duplicates"):
        find_near_duplicates(np.ones((2, 1), np.float32), names(2), max_distance=max_distance)


def test_a_value_that_is_not_finite_is_named():
    with pytest.raises(ModelError, match=r"000001\.jpg"):
        find_near_duplicates(np.array([[0], [np.nan]], np.float32), names(2), max_distance=1.0)
