from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.selection import nearest, products
from lightly_fs.selection.nearest import Nearest, covering_distances

from .brute_force import KINDS, dataset, datasets


@settings(max_examples=50, deadline=None)
@given(datasets, st.integers(1, 20))
def test_covering_distances_are_those_of_all_pairs(vectors, n_selected):
    selected = vectors[::3][:n_selected]
    pairs = np.square(vectors[:, None].astype(np.float64) - selected[None]).sum(axis=2)

    distances, rows = covering_distances(vectors, selected)
    np.testing.assert_allclose(distances, np.sqrt(pairs.min(axis=1)), rtol=1e-6)
    np.testing.assert_array_equal(rows, pairs.argmin(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_numpy_agree_to_the_last_bit(kind, monkeypatch):
    monkeypatch.setattr(nearest, "CENTRES_AT_ONCE", 30)
    for dimensions in (1, 2, 3, 5, 64):
        vectors = dataset(kind, 200, dimensions, seed=3)
        plain, plain_rows = Nearest(compiled=False).squared(vectors, vectors[:100])
        fast, fast_rows = Nearest(compiled=True).squared(vectors, vectors[:100])
        assert plain.tobytes() == fast.tobytes()
        np.testing.assert_array_equal(plain_rows, fast_rows)


@pytest.mark.parametrize("n", [0, 2, 2_000_000])
def test_nothing_selected_is_infinitely_far(n):
    distances, rows = covering_distances(np.ones((n, 3), np.float32), np.ones((0, 3), np.float32))

    assert len(distances) == len(rows) == n
    assert (distances == np.inf).all()
    assert (rows == -1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("large_terms", [0, 1 << 60])
def test_tiles_and_numpy_agree_to_the_last_bit(kind, large_terms, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(products, "LARGE_TERMS", large_terms)
    monkeypatch.setattr(products, "CENTRES_AT_ONCE", 70)
    monkeypatch.setattr(products, "CHUNK_BYTES", 1 << 10)
    vectors = dataset(kind, 2000, 5, seed=3)
    plain = covering_distances(vectors, vectors[::3][:400])

    monkeypatch.setattr(nearest, "is_small", lambda *_: False)
    tiled = covering_distances(vectors, vectors[::3][:400])

    for one, other in zip(plain, tiled, strict=True):
        np.testing.assert_array_equal(one, other)
