"""What torch computes on a device leaves every result as it is, to the last bit."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightly_fs.selection import device, distances, gain_bounds, kernels, lazy, typicality
from lightly_fs.selection.choose import choose
from lightly_fs.selection.device import DeviceComparison
from lightly_fs.selection.distances import squared_lengths
from lightly_fs.selection.near_duplicates import find_near_duplicates
from lightly_fs.selection.pool import Embeddings, Pool
from lightly_fs.selection.strategies import Diversity, Limits, Representativeness, Typicality
from lightly_fs.types import silent

from .brute_force import KINDS, dataset, datasets, names
from .questions import compiled, pools
from .reference import Reference
from .test_near_duplicates import cells_and_blocks, check, radii

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@contextmanager
def products_on(where, tile=None):
    """Let torch make the products there, also on the CPU; in tiles of about so many."""
    with ExitStack() as stack:
        found = torch.device(where)
        for module in (device, gain_bounds):
            stack.enter_context(patch.object(module, "find_device", lambda _: found))
        sizes = {"ROWS_AT_ONCE": tile, "COLUMNS_AT_ONCE": tile, "FEWEST_COLUMNS": 2}
        for name, value in {**sizes, "VECTOR_BYTES": 0, "PAIRS_AT_ONCE": 3 * (tile or 0)}.items():
            if tile is not None:
                stack.enter_context(patch.object(device, name, value))
        yield


@contextmanager
def tiles_of_at_most(columns):
    """Let products of more columns not fit into memory; yield the numbers that were asked for."""
    asked, multiply = [], torch.mm

    def mm(rows, others, **more):
        asked.append(others.shape[1])
        if others.shape[1] > columns:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return multiply(rows, others, **more)

    with patch.object(torch, "mm", mm):
        yield asked


@pytest.mark.parametrize("where", DEVICES)
@settings(max_examples=50, deadline=None)
@given(
    vectors=datasets,
    max_distance=radii,
    seed=st.integers(0, 1000),
    block=st.integers(1, 9),
    tile=st.integers(3, 40),
)
def test_near_duplicates_are_those_of_the_definition(
    where, vectors, max_distance, seed, block, tile
):
    rng = np.random.default_rng(seed)
    filenames = list(rng.permutation(names(len(vectors))))
    first = np.flatnonzero(rng.random(len(vectors)) < 0.2)
    with ExitStack() as stack:
        cells_and_blocks(stack, 3, block)
        stack.enter_context(products_on(where, tile))
        found = find_near_duplicates(
            vectors, filenames, max_distance=max_distance, keep_first=first
        )
    check(found, vectors, filenames, max_distance, first)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_distance", [0.0, 0.3, 1.2])
def test_near_duplicates_agree_with_numpy_to_the_last_bit(where, kind, max_distance, monkeypatch):
    vectors = dataset(kind, 1200, 20, seed=4)
    vectors[7::7] = vectors[3::7] + np.float32(0.01)
    plain = find_near_duplicates(vectors, names(1200), max_distance=max_distance)
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    for tile in (None, 300):
        with products_on(where, tile):
            found = find_near_duplicates(vectors, names(1200), max_distance=max_distance)
        np.testing.assert_array_equal(found.removed, plain.removed)
        np.testing.assert_array_equal(found.original, plain.original)
        assert found.distance.tobytes() == plain.distance.tobytes()


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e9])
def test_typicalities_agree_with_numpy_to_the_last_bit(where, kind, scale, monkeypatch):
    vectors = dataset(kind, 700, 13, seed=2) * np.float32(scale)
    plain = typicality.objectives(vectors, 9, silent)
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    on_threads = typicality.objectives(vectors, 9, silent, "cpu")
    with products_on(where, 200):
        found = typicality.objectives(vectors, 9, silent)

    assert on_threads.tobytes() == plain.tobytes()
    assert found.tobytes() == plain.tobytes()


all_pairs = st.lists(
    st.one_of(
        st.builds(Representativeness, st.sampled_from("ef"), st.sampled_from([1.0, -1.0, 0.5])),
        st.builds(Typicality, st.sampled_from("efo"), st.integers(2, 5), st.just(0.0)),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("where", DEVICES)
@settings(max_examples=50)
@given(pool=pools(), strategies=all_pairs, n_samples=st.integers(0, 14), tile=st.integers(1, 9))
def test_what_is_picked_is_what_the_definition_picks(where, pool, strategies, n_samples, tile):
    expected = Reference(pool, strategies, n_samples)
    with compiled(), products_on(where, tile):
        chosen = choose(pool, strategies, Limits(n_samples))

    assert [pool.filenames[row] for row in chosen.indices] == expected.picks
    assert chosen.objectives.tolist() == expected.objectives


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_gains_stay_above_the_gains(where, kind, monkeypatch):
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    vectors = dataset(kind, 1200, 16, seed=3)
    pool = Pool(names(1200), {"e": Embeddings(vectors)})
    strategies = [Representativeness("e")]
    with products_on("cpu", 5000), tiles_of_at_most(0):  # falls back to the CPU at once
        plain = choose(pool, strategies, Limits(12))
    with products_on(where, 1000):
        found = choose(pool, strategies, Limits(12))

    assert found.indices.tolist() == plain.indices.tolist()
    assert found.objectives.tolist() == plain.objectives.tolist()


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_nearest_centres_agree_with_threads_to_the_last_bit(where, kind):
    vectors = dataset(kind, 900, 24, seed=5)
    centres = kernels.Centres(vectors[:300], squared_lengths(vectors[:300]), 40)
    mine, norms = vectors[300:], squared_lengths(vectors[300:])
    expected = kernels.Rows(mine, norms, np.full(600, 0.3), np.full(600, -1))
    products = mine @ centres.vectors.T
    kernels.see(expected, centres, products, distances.slack(24))
    found = kernels.Rows(mine, norms, np.full(600, 0.3), np.full(600, -1))
    comparison = DeviceComparison(24, torch.device(where))
    comparison.see(found, comparison.factors(centres))

    assert found.best.tobytes() == expected.best.tobytes()
    np.testing.assert_array_equal(found.nearest, expected.nearest)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preselected", [0, 30])
def test_farthest_first_agrees_with_numpy_to_the_last_bit(where, kind, preselected, monkeypatch):
    vectors = dataset(kind, 900, 16, seed=6)
    earlier = dataset(kind, preselected, 16, seed=7)
    pool = Pool(names(900), {"e": Embeddings(vectors, preselected=earlier)})
    plain = choose(pool, [Diversity("e")], Limits(80), device="cpu")
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    monkeypatch.setattr(lazy, "PICKS_AT_ONCE", 10)
    monkeypatch.setattr(lazy, "CENTRES_AT_ONCE", 16)
    monkeypatch.setattr(lazy, "block_rows", lambda *_: 150)
    with products_on(where, 100):
        found = choose(pool, [Diversity("e")], Limits(80), device=where)
    with products_on(where), tiles_of_at_most(0) as asked:  # falls back to the CPU at once
        fallen = choose(pool, [Diversity("e")], Limits(80), device=where)

    assert asked
    assert found.indices.tolist() == fallen.indices.tolist() == plain.indices.tolist()
    assert found.distances.tobytes() == fallen.distances.tobytes() == plain.distances.tobytes()


def test_tiles_are_halved_until_they_fit(monkeypatch, caplog):
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    monkeypatch.setattr(device, "FEWEST_COLUMNS", 16)
    vectors = dataset("clustered", 500, 8, seed=1)
    expected = find_near_duplicates(vectors, names(500), max_distance=0.1, device="cpu")
    with products_on("cpu"), tiles_of_at_most(100) as asked:
        found = find_near_duplicates(vectors, names(500), max_distance=0.1)

    assert max(asked) == 500
    assert asked[-1] <= 100
    assert found.removed.tolist() == expected.removed.tolist()
    assert len(found.removed)
    assert not caplog.records


@pytest.mark.parametrize("strategy", [Typicality("e", 5), Representativeness("e")])
def test_without_memory_on_the_device_the_cpu_selects_and_says_so_once(
    strategy, monkeypatch, caplog
):
    monkeypatch.setattr(distances, "SMALL_TERMS", -1)
    pool = Pool(names(400), {"e": Embeddings(dataset("random", 400, 8, seed=1))})
    expected = choose(pool, [strategy], Limits(7), device="cpu")
    with products_on("cpu"), tiles_of_at_most(0), caplog.at_level(logging.WARNING):
        found = choose(pool, [strategy], Limits(7))

    assert found.indices.tolist() == expected.indices.tolist()
    assert [record.message for record in caplog.records] == [
        "cpu has no memory left to select with; the CPU selects instead"
    ]


@pytest.fixture
def _precision():
    matmul = torch.backends.cuda.matmul
    newer = matmul.fp32_precision
    yield
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = newer


@pytest.mark.usefixtures("_precision")
def test_products_are_exact_float32_only_meanwhile():
    torch.set_float32_matmul_precision("high")
    with device.exact_products():
        assert not torch.backends.cuda.matmul.allow_tf32

    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.usefixtures("_precision")
def test_a_precision_that_was_set_in_the_newer_way_is_restored():
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32"
    with device.exact_products():
        assert matmul.fp32_precision == "ieee"

    assert matmul.fp32_precision == "tf32"


def test_the_device_is_a_gpu_that_torch_sees_or_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.find_device("auto") == torch.device("cuda")
    assert device.find_device("cuda:1") == torch.device("cuda:1")
    assert device.find_device("cuda:2") is None
    assert device.find_device("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.find_device("auto") is None


def test_torch_is_not_loaded_to_look_for_a_device(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert device.find_device("auto") is None
    assert "torch" not in sys.modules
