"""Products in bfloat16 stay within their bound, and are given up when they do not help."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightly_fs import workers
from lightly_fs.selection import kernels, lazy, products
from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.distances import rounded_slack, slack, squared_lengths
from lightly_fs.selection.kcenter import scan
from lightly_fs.selection.products import Comparison, Factors
from lightly_fs.types import silent

from .brute_force import dataset, names


def rounded_products(rows, centres):
    product = torch.from_numpy(rows).bfloat16() @ torch.from_numpy(centres).bfloat16().T
    return product.view(torch.uint16).numpy()


def as_float32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rows_of(vectors):
    best = np.full(len(vectors), np.inf)
    return kernels.Rows(vectors, squared_lengths(vectors), best, np.full(len(vectors), -1))


def centres_of(vectors):
    return kernels.Centres(vectors, squared_lengths(vectors), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(1, 1), (3, 70), (64, 64), (300, 256)]),
    st.sampled_from([1, 2, 7, 128, 1536]),
    st.sampled_from([1e-39, 1e-20, 1e-10, 1.0, 1e10]),
    st.sampled_from([1e-39, 1.0, 1e8]),
    st.booleans(),
    st.integers(0, 1000),
)
@example((64, 64), 1, 1.0, 1.0, True, 0)
def test_estimates_from_rounded_products_are_within_their_bound(
    shape, dimensions, scale, other_scale, worst, seed
):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((sum(shape), dimensions))
    if worst:  # just below the middle between two bfloat16, and all of one sign: errors add up
        vectors = np.sign(vectors[:1]) * (1 + 2.0**-8 - 2.0**-20 * rng.random(vectors.shape))
    rows = (vectors[: shape[0]] * scale).astype(np.float32)
    centres = (vectors[shape[0] :] * other_scale).astype(np.float32)

    found = as_float32(rounded_products(rows, centres)).astype(np.float64)
    error = 2 * np.abs(found - rows.astype(np.float64) @ centres.T.astype(np.float64))
    total = np.square(rows, dtype=np.float64).sum(1)[:, None]
    total = total + np.square(centres, dtype=np.float64).sum(1)
    assert (error <= rounded_slack(dimensions) * total + kernels.VANISHING).all()


def test_the_bound_of_rounded_products_is_not_much_wider_than_needed():
    vectors = np.full((64, 1), 1 + 2.0**-8 - 2.0**-20, np.float32)

    found = as_float32(rounded_products(vectors, vectors))
    error = 2 * np.abs(found - np.square(vectors.astype(np.float64))).max()
    assert error > 0.6 * rounded_slack(1) * 2 * np.square(vectors, dtype=np.float64).max()


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=70), st.integers(0, 99)
)
def test_the_smallest_estimate_is_found_in_both_kinds_of_products(values, seed):
    found = np.array(values, np.float32)
    norms = np.random.default_rng(seed).random(len(found), np.float32)
    bits = (found.view(np.uint32) >> 16).astype(np.uint16)

    assert kernels.smallest(found, norms) == (norms - 2 * found).min()
    assert kernels.smallest(bits, norms) == (norms - 2 * as_float32(bits)).min()


@pytest.mark.parametrize("n_centres", [1, 63, 64, 65, 256])
@pytest.mark.parametrize("n_rows", [1, 200, 256])
def test_both_precisions_find_the_same_nearest_centres_to_the_last_bit(n_rows, n_centres):
    vectors = dataset("clustered", n_rows + n_centres, 600, seed=4)
    centres = centres_of(vectors[:n_centres].copy())
    found = []
    for rounding in (False, True):
        rows = rows_of(vectors[n_centres:].copy())
        Comparison(600, 256, rounding=rounding).see(rows, Factors.of(centres, rounding=rounding))
        found.append((rows.best.tobytes(), rows.nearest.tobytes()))

    assert found[0] == found[1]
    difference = rows.vectors[:, None].astype(np.float64) - centres.vectors
    np.testing.assert_allclose(rows.best, np.square(difference).sum(2).min(1), rtol=1e-12)


def test_a_few_centres_are_multiplied_in_float32():
    vectors = dataset("random", 100, 8, seed=0)

    assert Factors.of(centres_of(vectors[:63]), rounding=True).rounded is None
    assert Factors.of(centres_of(vectors[:64]), rounding=True).rounded is not None


def search_near_duplicates(spread, rounding):
    """Search among few samples of which there are many near duplicates each."""
    rng = np.random.default_rng(1)
    vectors = dataset("random", 40, 32, seed=1)[rng.integers(0, 40, 6000)]
    vectors = vectors + np.float32(spread) * rng.standard_normal(vectors.shape, np.float32)
    no_vectors = np.empty((0, 32), np.float32)
    search = lazy.Search(Candidates(vectors, names(6000), no_vectors, 3000, 0.0))
    search.comparisons = [Comparison(32, lazy.CENTRES_AT_ONCE, rounding=rounding)] * 1
    return search, search.run(silent)


def test_rounding_is_given_up_before_near_duplicates_cost_more_than_it_saved(monkeypatch):
    monkeypatch.setattr(products, "PAIRS_ON_CREDIT", 1 << 17)
    search, picks = search_near_duplicates(1e-3, rounding=True)
    (comparison,) = search.comparisons
    expected = scan(search.candidates)

    assert not comparison.rounding
    one_call = comparison.rows_at_once * lazy.CENTRES_AT_ONCE
    spent = (comparison.close - one_call) * products.PAIRS_PER_CLOSE
    assert spent <= comparison.pairs + products.PAIRS_ON_CREDIT
    np.testing.assert_array_equal(picks.rows, expected.rows)
    assert picks.squared.tobytes() == expected.squared.tobytes()


def test_rounding_goes_on_while_it_tells_samples_apart():
    search, picks = search_near_duplicates(0.2, rounding=True)
    (comparison,) = search.comparisons

    assert comparison.rounding
    assert comparison.pairs > 1_000_000
    assert picks.rows.tolist() == search_near_duplicates(0.2, rounding=False)[1].rows.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 vme\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16x\n", False),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", False),
        ("", False),
    ],
)
def test_the_processor_says_whether_it_multiplies_bfloat16(tmp_path, text, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)

    assert products.multiplies_bfloat16(cpuinfo) is expected


def test_without_an_answer_of_the_system_products_are_in_float32(tmp_path):
    assert not products.multiplies_bfloat16(tmp_path / "missing")


def test_rounding_begins_with_large_inputs_of_ordinary_lengths_alone(monkeypatch):
    import torch

    monkeypatch.setitem(sys.modules, "torch", torch)
    fast = products.multiplies_bfloat16(Path("/proc/cpuinfo"))

    assert products.rounding_pays(products.LARGE_TERMS, 1.0) == fast
    assert not products.rounding_pays(products.LARGE_TERMS - 1, 1.0)
    assert not products.rounding_pays(products.LARGE_TERMS, 1e37)
    assert not products.rounding_pays(products.LARGE_TERMS, np.inf)
    assert not products.rounding_pays(products.LARGE_TERMS, np.nan)
    monkeypatch.delitem(sys.modules, "torch")
    assert not products.rounding_pays(products.LARGE_TERMS, 1.0)


def test_a_thread_that_makes_its_own_products_starts_no_others():
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=workers.one_thread) as pool:
        inside = pool.submit(torch.get_num_threads).result()

    assert inside == 1
    assert torch.get_num_threads() == before


def test_rounding_is_coarser_than_float32():
    assert slack(128) < rounded_slack(128) < 0.012
