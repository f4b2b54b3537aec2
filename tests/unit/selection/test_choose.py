"""Every way of choosing picks exactly what the plain definition picks."""

from __future__ import annotations

import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightly_fs.selection import distances
from lightly_fs.selection.choose import choose, engine_for
from lightly_fs.selection.pool import Categorical, Embeddings, Numeric, Pool
from lightly_fs.selection.scan import Scan
from lightly_fs.selection.score import build
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Goal,
    Limits,
    Weights,
    canonical_order,
)
from lightly_fs.types import silent

from .brute_force import dataset, names
from .questions import combinations, compiled, lazy_combinations, pools
from .reference import Reference

limits = st.one_of(st.none(), st.integers(0, 14))


def shuffled(pool, seed):
    return pool.rows(np.random.default_rng(seed).permutation(len(pool.filenames)))


def picks(pool, chosen):
    return [pool.filenames[row] for row in chosen.indices]


@settings(max_examples=400)
@given(pools(), combinations, limits)
def test_numpy_picks_what_the_definition_picks(pool, strategies, n_samples):
    expected = Reference(pool, strategies, n_samples)
    chosen = choose(pool, strategies, Limits(n_samples))

    assert picks(pool, chosen) == expected.picks
    assert chosen.stopped_by == expected.stopped_by
    assert chosen.objectives.tolist() == expected.objectives


@settings(max_examples=400)
@given(pools(), st.one_of(combinations, lazy_combinations), limits, st.integers(1, 6))
def test_compiled_picks_what_the_definition_picks(pool, strategies, n_samples, block):
    expected = Reference(pool, strategies, n_samples)
    with compiled(block):
        chosen = choose(pool, strategies, Limits(n_samples))

    assert picks(pool, chosen) == expected.picks
    assert chosen.stopped_by == expected.stopped_by
    assert chosen.objectives.tolist() == expected.objectives


@settings(max_examples=60)
@given(pools(max_count=400), lazy_combinations, st.sampled_from([1, 20, 300]))
def test_lazy_blocks_pick_what_a_scan_picks_over_many_blocks(pool, strategies, block):
    pool = pool.rows(np.argsort(pool.filenames))
    order = canonical_order(strategies)
    score = build(pool, strategies, order, len(pool.filenames), silent)
    assume(len(score.spreads[0].vectors))
    scan = Scan(score, compiled=False)
    while scan.advance():
        pass
    with compiled(block):
        from lightly_fs.selection.blocks import Blocks

        lazy = Blocks(score)
        while len(lazy.rows) < score.limit and lazy.advance():
            pass

    assert lazy.rows == scan.rows
    assert lazy.squared == scan.squared


@pytest.mark.parametrize("block", [40, 1000])
@pytest.mark.parametrize("strengths", [(1, 1), (5, 0.1), (0.2, 20)])
def test_rows_that_wait_for_hundreds_of_picks_are_picked_when_they_are_due(strengths, block):
    count = 2000
    rng = np.random.default_rng(7)
    inputs = {
        "e": Embeddings(dataset("lattice", count, 4, seed=1)),
        "w": Numeric(rng.integers(0, 40, count) / 4),
        "k": Categorical([str(label) for label in rng.integers(0, 7, count)]),
    }
    asked = [
        Diversity("e"),
        Weights("w", strengths[0]),
        Balance("k", Goal.UNIFORM, {}, strengths[1]),
    ]
    score = build(Pool(names(count), inputs), asked, canonical_order(asked), 500, silent)
    scan = Scan(score, compiled=False)
    while len(scan.rows) < 500:
        scan.advance()
    with patch.object(distances, "SMALL_TERMS", -1):
        lazy = engine_for(score)
    lazy.block = block
    while len(lazy.rows) < 500:
        lazy.advance()

    assert type(lazy).__name__ == "Blocks"
    assert lazy.rows == scan.rows
    assert lazy.squared == scan.squared


@settings(max_examples=100)
@given(pools(), combinations, limits, st.integers(0, 1000), st.randoms())
def test_neither_the_order_of_samples_nor_of_strategies_changes_anything(
    pool, strategies, n_samples, seed, random
):
    other_pool = shuffled(pool, seed)
    places = list(range(len(strategies)))
    random.shuffle(places)
    one = choose(pool, strategies, Limits(n_samples))
    other = choose(other_pool, [strategies[place] for place in places], Limits(n_samples))

    assert picks(pool, one) == picks(other_pool, other)
    assert one.stopped_by == other.stopped_by
    assert one.objectives[:, places].tolist() == other.objectives.tolist()


@settings(max_examples=60)
@given(pools(), combinations, st.integers(0, 14))
def test_a_smaller_selection_is_the_beginning_of_a_larger_one(pool, strategies, n_samples):
    strategies = [s for s in strategies if not getattr(s, "target_range", None)]
    whole = picks(pool, choose(pool, strategies, Limits()))

    assert picks(pool, choose(pool, strategies, Limits(n_samples))) == whole[:n_samples]


def test_the_engine_is_the_fastest_that_is_exact():
    pool = Pool(names(50), {"e": Embeddings(dataset("random", 50, 4, seed=0))})

    def engine(*strategies):
        order = canonical_order(list(strategies))
        return type(engine_for(build(pool, strategies, order, 10, silent))).__name__

    with compiled():
        assert engine(Diversity("e")) == "FarthestFirst"
        assert engine(Diversity("e", strength=3)) == "FarthestFirst"
        assert engine(Diversity("e", strength=0)) == "Blocks"
        assert engine(Diversity("e", strength=-1)) == "Scan"
        assert engine() == "Ranked"
    assert engine(Diversity("e", strength=0)) == "Scan"


def test_numba_is_not_loaded_for_a_small_dataset():
    code = (
        "import sys, numpy as np\n"
        "from lightly_fs.selection.choose import choose\n"
        "from lightly_fs.selection.pool import Embeddings, Numeric, Pool\n"
        "from lightly_fs.selection.strategies import *\n"
        "x = np.random.default_rng(0).standard_normal((128, 256)).astype('f4')\n"
        "names = [f'{i:03d}' for i in range(128)]\n"
        "pool = Pool(names, {'e': Embeddings(x), 'w': Numeric(x[:, 0].astype('f8'))})\n"
        "asked = [Diversity('e'), Weights('w'), Typicality('e'), Representativeness('e')]\n"
        "choose(pool, asked, Limits(50))\n"
        "assert 'numba' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
