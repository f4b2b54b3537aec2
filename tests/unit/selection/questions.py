"""Random questions: pools with ties and duplicates, and combinations of strategies."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

from lightly_fs.selection import distances
from lightly_fs.selection.pool import (
    Categorical,
    Distributions,
    Embeddings,
    Numeric,
    ObjectEmbeddings,
    Pool,
)
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Goal,
    Operation,
    Representativeness,
    Similarity,
    Threshold,
    Typicality,
    Weights,
)

from .brute_force import KINDS, dataset

strengths = st.one_of(
    st.just(1.0), st.sampled_from([0.5, 2.0, 0.0, -1.0, -0.3, 1e9, -1e9]), st.floats(-3, 3)
)
targets = st.sampled_from([{"a": 0.5, "b": 0.25}, {"a": 1.0}, {"b": 0.125, "missing": 0.25}])
balances = st.one_of(
    st.builds(Balance, st.sampled_from("kd"), st.just(Goal.TARGET), targets, strengths),
    st.builds(
        Balance,
        st.sampled_from("kd"),
        st.sampled_from([Goal.UNIFORM, Goal.INPUT]),
        st.just({}),
        strengths,
    ),
)
label_balances = balances.filter(lambda balance: balance.input == "k")
diversities = st.builds(
    Diversity, st.sampled_from("efo"), strengths, st.sampled_from([0.0, 0.0, 0.3, 1.0])
)
weights = st.one_of(
    st.builds(
        Weights, st.sampled_from("wx"), strengths, st.sampled_from([None, None, 0.0, 2.0, 5])
    ),
    st.builds(
        Weights, st.just("w"), strengths, st.none(), st.sampled_from([(0, 2), (1.5, 3), (-1, 0)])
    ),
)
plain_weights = st.builds(Weights, st.sampled_from("wx"), strengths)
others = st.one_of(
    st.builds(Similarity, st.sampled_from("efo"), st.just("q"), strengths),
    st.builds(
        Typicality,
        st.sampled_from("efo"),
        st.integers(2, 5),
        st.sampled_from([0.0, 0.0, 0.5]),
        strengths,
    ),
    st.builds(Representativeness, st.sampled_from("ef"), strengths),
    st.builds(Threshold, st.just("w"), st.sampled_from(Operation), st.sampled_from([0.25, 0.5])),
)
combinations = st.lists(st.one_of(diversities, weights, balances, others), max_size=4)
lazy_combinations = st.tuples(
    st.builds(
        Diversity,
        st.sampled_from("eo"),
        st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        st.sampled_from([0, 0, 0.4]),
    ),
    st.lists(plain_weights, max_size=2),
    st.lists(label_balances, max_size=2),
).map(lambda parts: [parts[0], *parts[1], *parts[2]])


def objects(rng, kind, count, n_given, dimensions):
    """Return up to three objects per sample; one time in five, next to none has any."""
    counts = rng.integers(0, 4, count) if rng.random() < 0.8 else rng.random(count) < 0.1
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    vectors = dataset(kind, int(offsets[-1]) + 3, dimensions, int(rng.integers(1000)))
    given = vectors[int(offsets[-1]) :] if n_given and rng.random() < 0.8 else None
    return ObjectEmbeddings(vectors[: int(offsets[-1])], offsets, given)


@st.composite
def pools(draw, max_count=14, kinds=KINDS):
    """Return a pool to choose from.

    It has embeddings e and f, those of objects o, numbers w and x, classes k, amounts of classes d,
    and queries q.
    """
    count = draw(st.integers(0 if max_count < 50 else max_count // 2, max_count))
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    n_given = draw(st.sampled_from([0, 0, 3]))
    e = dataset(draw(st.sampled_from(kinds)), count + 8, draw(st.integers(1, 6)), seed)
    f = dataset(draw(st.sampled_from(kinds)), count + 8, e.shape[1], seed + 1)
    filenames = [f"{row:03d}.jpg" for row in range(count)]
    rng.shuffle(filenames)
    return Pool(
        filenames,
        {
            "e": Embeddings(e[:count], e[count : count + n_given] if n_given else None),
            "f": Embeddings(f[:count], f[count : count + n_given] if n_given else None),
            "o": objects(rng, draw(st.sampled_from(kinds)), count, n_given, e.shape[1]),
            "w": Numeric(rng.integers(0, 5, count) / 4),
            "x": Numeric(rng.standard_normal(count)),
            "k": Categorical(
                [str(label) for label in rng.choice(["a", "b", "c"], count)],
                [str(label) for label in rng.choice(["a", "b", "z"], n_given)],
            ),
            "d": Distributions(
                ["b", "c", "a"],
                rng.integers(0, 3, (count, 3)) / 2,
                rng.integers(0, 3, (n_given, 3)) / 2,
            ),
        },
        {"q": e[count + 3 :]},
    )


@contextmanager
def compiled(block=3):
    """Let small inputs take the ways of large ones, in blocks of so many rows."""
    from lightly_fs.selection import blocks, gain_bounds, lazy, products, scan, typicality

    with (
        patch.object(distances, "SMALL_TERMS", -1),
        patch.object(blocks, "block_rows", lambda *_: block),
        patch.object(blocks, "CENTRES_AT_ONCE", 4),
        patch.object(blocks, "PICKS_AT_ONCE", 5),
        patch.object(lazy, "block_rows", lambda *_: block),
        patch.object(scan, "REFRESHED_AT_ONCE", 2),
        patch.object(gain_bounds, "ROWS_AT_ONCE", 6),
        patch.object(gain_bounds, "COLUMNS_AT_ONCE", 5),
        patch.object(gain_bounds, "COLUMNS_OF_A_THREAD", 4),
        patch.object(gain_bounds, "TILE_ROWS", 4),
        patch.object(gain_bounds, "TILE_COLUMNS", 3),
        patch.object(gain_bounds, "PAIRS_PER_THREAD", 60),
        patch.object(products, "CENTRES_AT_ONCE", 2),
        patch.object(typicality, "ROWS_AT_ONCE", 4),
        patch.object(typicality, "OTHERS_AT_ONCE", 3),
        patch.object(typicality, "cell_count", lambda count: min(count, 3)),
    ):
        yield
