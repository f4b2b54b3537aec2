"""Each strategy does what its name says, on examples small enough to follow."""

from __future__ import annotations

import contextlib
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.config.run import CoresetMethod
from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.selection import select
from lightly_fs.selection.choose import choose
from lightly_fs.selection.objective import logarithm, rounded
from lightly_fs.selection.pool import (
    Categorical,
    Distributions,
    Embeddings,
    Numeric,
    ObjectEmbeddings,
    Pool,
)
from lightly_fs.selection.random import random_numbers
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Goal,
    Limits,
    Operation,
    Representativeness,
    Similarity,
    Threshold,
    Typicality,
    Weights,
)

from .brute_force import dataset, names
from .questions import compiled


def on_circle(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def ask(*strategies, n_samples=None, queries=None, **inputs):
    inputs = {name: wrap(value) for name, value in inputs.items()}
    given = next(iter(inputs.values()))
    count = len(next(iter(vars(given).values())))
    if isinstance(given, Distributions):
        count = len(given.amounts)
    return choose(Pool(names(count), inputs, queries or {}), strategies, Limits(n_samples))


def wrap(value):
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return Embeddings(value)
    if isinstance(value, list) and isinstance(value[0], str):
        return Categorical(value)
    return Numeric(np.array(value, np.float64)) if isinstance(value, list) else value


@given(st.lists(st.floats(1e-6, 1.0), min_size=1))
def test_the_logarithm_is_the_logarithm(values):
    expected = [math.log(value) for value in values]

    np.testing.assert_allclose(logarithm(np.array(values)), expected, rtol=4e-15, atol=1e-16)


@given(st.integers(0, 1000))
def test_neighbouring_float32_objectives_keep_their_order(seed):
    start = np.float32(np.random.default_rng(seed).uniform(2e-6, 1))
    values = [start]
    for _ in range(50):
        values.append(np.nextafter(values[-1], np.float32(0)))
    assert (np.diff(logarithm(rounded(np.array(values, np.float64)))) < 0).all()


def test_compiled_and_numpy_logarithms_agree_to_the_last_bit():
    from lightly_fs.selection.group_kernels import logarithm as one_logarithm

    values = np.concatenate([np.geomspace(1e-6, 1, 5000), 0.5 ** np.arange(20)])
    assert [one_logarithm(value) for value in values] == logarithm(values).tolist()


@pytest.mark.parametrize("strength", [1.0, 0.1, 1e9])
def test_diversity_alone_is_the_coreset(strength):
    vectors = dataset("lattice", 200, 3, seed=0)
    coreset = select(
        vectors,
        method=CoresetMethod.CORESET,
        n_samples=50,
        min_distance=None,
        seed=0,
        filenames=names(200),
    )
    chosen = ask(Diversity("e", strength), n_samples=50, e=vectors)

    assert chosen.indices.tolist() == coreset.indices.tolist()
    assert chosen.distances.tolist() == coreset.distances.tolist()


def test_diversity_is_half_the_distance_to_the_nearest_selected():
    chosen = ask(Diversity("e"), e=on_circle(0, 180, 90, 10), n_samples=3)

    assert chosen.indices.tolist() == [1, 0, 2]
    np.testing.assert_allclose(chosen.objectives[1:, 0], [1, math.sqrt(2) / 2], rtol=1e-6)
    np.testing.assert_allclose(chosen.distances, [np.inf, 2, math.sqrt(2)], rtol=1e-6)


def test_diversity_turned_round_stays_where_it_is():
    chosen = ask(Diversity("e", strength=-1), e=on_circle(0, 5, 90, 180, 190), n_samples=2)

    assert chosen.indices.tolist() == [2, 1]  # nearest to the mean, then nearest to that


def in_images(*images):
    """Objects of images, each a list of angles."""
    offsets = np.concatenate([[0], np.cumsum([len(image) for image in images])]).astype(np.int64)
    return ObjectEmbeddings(on_circle(*[angle for image in images for angle in image]), offsets)


@pytest.mark.parametrize("way", [contextlib.nullcontext, compiled])
def test_an_image_is_as_diverse_as_its_most_novel_object(way):
    objects = in_images([0, 10], [20], [], [5, 200], [0, 20, 90])
    pool = Pool(names(5), {"o": objects})
    with way():
        every = choose(pool, [Diversity("o")], Limits())
        apart = choose(pool, [Diversity("o", minimum_distance=0.5)], Limits())

    # 200 is alone; then 90 with its 0 and 20, which leaves 10; 1 and 2 have nothing new.
    assert every.indices.tolist() == [3, 4, 0, 1, 2]
    spans = [2 * math.sin(math.radians(angle) / 2) for angle in (85, 5)]
    np.testing.assert_allclose(every.distances, [np.inf, *spans, 0, 0], rtol=1e-6)
    assert every.objectives[3:, 0].tolist() == [1e-6, 1e-6]
    assert (apart.indices.tolist(), apart.stopped_by) == ([3, 4], "minimum_distance")


def test_objects_that_do_not_fit_the_samples_are_refused_by_name():
    objects = in_images([0], [1, 2])
    with pytest.raises(ConfigError, match="offsets of 'o' do not divide its 3 objects"):
        ask(
            Diversity("o"),
            e=on_circle(0, 1),
            o=ObjectEmbeddings(objects.vectors, np.array([0, 1, 2])),
        )
    with pytest.raises(ConfigError, match="'o' has 2 values for 3 samples"):
        ask(Diversity("o"), e=on_circle(0, 1, 2), o=objects)
    objects.vectors[2] = np.nan
    with pytest.raises(ModelError, match=r"object 1 of '000001\.jpg'"):
        ask(Diversity("o"), e=on_circle(0, 1), o=objects)
    with pytest.raises(ConfigError, match="should be embeddings and is embeddings of objects"):
        ask(Representativeness("o"), e=on_circle(0, 1), o=in_images([0], [1]))


def test_nothing_nearer_than_the_minimum_distance_is_chosen_however_heavy():
    chosen = ask(
        Diversity("e", minimum_distance=0.5),
        Weights("w", strength=100),
        e=on_circle(0, 1, 2, 90, 180),
        w=[10, 9, 8, 2, 1],
    )

    assert chosen.indices.tolist() == [0, 3, 4]
    assert chosen.stopped_by == "minimum_distance"


def test_objectives_multiply_as_in_the_worked_example():
    first, second = [21.0, 20.8, 20.5, 0.0], [10.3, 10.8, 10.9, 0.0]
    # A smallest value of 0 makes min-max scaling a factor, which the product does not feel.
    assert ask(Weights("a"), Weights("b"), a=first, b=second, n_samples=1).indices.tolist() == [1]


def test_weights_prefer_high_numbers_and_low_ones_when_negative():
    assert ask(Weights("w"), w=[1, 3, 2]).indices.tolist() == [1, 2, 0]
    assert ask(Weights("w", strength=-1), w=[1, 3, 2]).indices.tolist() == [0, 2, 1]


def test_the_sum_of_weights_stops_when_it_is_reached():
    chosen = ask(Weights("w", max_sum=5), w=[1, 3, 2, 2])

    assert (chosen.indices.tolist(), chosen.stopped_by) == ([1, 2], "max_sum")


def test_the_sum_of_weights_ends_within_its_range():
    rng = np.random.default_rng(0)
    numbers = rng.uniform(0, 10, 500)
    vectors = dataset("random", 500, 8, seed=0)
    for low, high in ((100, 110), (250, 255), (380, 400)):
        chosen = ask(
            Weights("w", target_range=(low, high)),
            Diversity("e"),
            w=numbers.tolist(),
            e=vectors,
            n_samples=50,
        )
        assert len(chosen.indices) == 50
        assert low <= numbers[chosen.indices].sum() <= high


def test_a_range_that_is_full_ends_the_selection():
    chosen = ask(Weights("w", target_range=(4, 5)), w=[2, 2, 2, 2])

    assert (len(chosen.indices), chosen.stopped_by) == (2, "target_range")


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        (Operation.SMALLER, [0]),
        (Operation.SMALLER_EQUAL, [0, 1]),
        (Operation.BIGGER, [2]),
        (Operation.BIGGER_EQUAL, [1, 2]),
    ],
)
def test_a_threshold_keeps_what_satisfies_it(operation, left):
    chosen = ask(Threshold("w", operation, 2), w=[1, 2, 3])

    assert chosen.indices.tolist() == left
    assert sorted([*chosen.indices, *chosen.removed]) == [0, 1, 2]
    assert chosen.stopped_by == "all"


def test_weights_are_scaled_over_what_thresholds_leave():
    chosen = ask(Threshold("w", Operation.SMALLER, 5), Weights("w"), w=[1, 2, 3, 1000])

    assert chosen.indices.tolist() == [2, 1, 0]
    assert chosen.objectives[:, 1].tolist() == [1.0, 0.5, 1e-6]


def test_nothing_left_by_a_threshold_is_an_empty_selection():
    chosen = ask(
        Threshold("w", Operation.BIGGER, 9),
        Balance("k", Goal.UNIFORM),
        Typicality("e"),
        Representativeness("e"),
        Diversity("e"),
        w=[1, 2],
        k=["a", "b"],
        e=on_circle(0, 1),
    )
    assert (len(chosen.indices), chosen.stopped_by) == (0, "all")
    assert chosen.removed.tolist() == [0, 1]


LABELS = ["person"] * 70 + ["car"] * 20 + ["dog"] * 8 + ["cat"] * 2


@pytest.mark.parametrize(
    ("balance", "counts"),
    [
        (Balance("k", target={"car": 0.5, "dog": 0.2}), {"car": 10, "dog": 4, "person": 6}),
        (Balance("k", target={"car": 1.0}), {"car": 20}),
        (Balance("k", Goal.INPUT), {"person": 14, "car": 4, "dog": 2}),
        (Balance("k", Goal.UNIFORM), {"person": 6, "car": 6, "dog": 6, "cat": 2}),
    ],
)
def test_classes_are_balanced_as_far_as_they_go(balance, counts):
    chosen = ask(balance, n_samples=20, k=LABELS)

    assert Counter(LABELS[row] for row in chosen.indices) == counts


def test_balance_minimises_the_chi_square_distance_at_every_size():
    target = {"person": 0.5, "car": 0.3, "dog": 0.2}
    labels = ["person", "car", "dog"] * 12
    chosen = ask(Balance("k", target=target), k=labels)

    def distance(counts, total):
        return sum((counts[c] - total * p) ** 2 / (total * p) for c, p in target.items())

    for size in range(1, 13):
        counts = Counter(labels[row] for row in chosen.indices[:size])
        best = min(
            distance({"person": a, "car": b, "dog": size - a - b}, size)
            for a in range(size + 1)
            for b in range(size + 1 - a)
        )
        assert distance(counts, size) == pytest.approx(best)


def test_balance_holds_against_diversity_and_yields_with_less_strength():
    rng = np.random.default_rng(0)
    vectors = dataset("random", 400, 8, seed=0)
    labels = np.array(["rare", *["often"] * 9])[rng.integers(0, 10, 400)]
    shares = []
    for strength in (0.0, 0.1, 1.0, 10.0):
        chosen = ask(
            Balance("k", Goal.UNIFORM, strength=strength),
            Diversity("e"),
            k=[str(label) for label in labels],
            e=vectors,
            n_samples=40,
        )
        shares.append(float((labels[chosen.indices] == "rare").mean()))

    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] == 0.5


def test_selected_classes_count_for_the_balance():
    pool = Pool(names(4), {"k": Categorical(["a", "a", "b", "b"], ["b", "b"])})
    chosen = choose(pool, [Balance("k", Goal.UNIFORM)], Limits(2))

    assert chosen.indices.tolist() == [0, 1]


def test_amounts_of_classes_are_balanced():
    amounts = np.array([[4, 0], [3, 1], [0, 1], [0, 0], [0, 3]], np.float64)
    chosen = ask(Balance("d", Goal.UNIFORM), d=Distributions(["car", "dog"], amounts), n_samples=3)

    # 4 cars; then dogs alone are lacked: 1 and 3 of them, whichever comes first by name.
    assert chosen.indices.tolist() == [0, 2, 4]
    assert chosen.objectives[:, 0].tolist() == [1, 1, 1]


def test_similarity_prefers_what_looks_like_a_query():
    chosen = ask(
        Similarity("e", "q"),
        e=on_circle(0, 60, 120, 180),
        queries={"q": on_circle(170, 55)},
    )

    assert chosen.indices.tolist() == [1, 3, 2, 0]
    expected = [(1 + math.cos(math.radians(angle))) / 2 for angle in (5, 10, 50, 55)]
    np.testing.assert_allclose(chosen.objectives[:, 0], expected, rtol=1e-6)


def test_typicality_prefers_dense_regions():
    vectors = on_circle(0, 1, 2, 90, 95, 180)
    chosen = ask(Typicality("e", 2), e=vectors)

    assert chosen.indices[0] == 1  # in the middle of the densest three
    assert chosen.indices[-1] == 5
    spans = [2 * math.sin(math.radians(1) / 2)] * 2
    assert chosen.objectives[0, 0] == pytest.approx(1 / (1 + np.mean(spans)), rel=1e-6)


def test_less_than_the_minimum_typicality_is_not_chosen():
    chosen = ask(
        Typicality("e", 2, minimum_typicality=0.9), Diversity("e"), e=on_circle(0, 1, 2, 90, 180)
    )

    assert sorted(chosen.indices) == [0, 1, 2]
    assert chosen.stopped_by == "minimum_typicality"


def test_representativeness_covers_most_first_where_diversity_takes_outliers():
    vectors = on_circle(*[0, 2, 4, 6, 8] * 4, *[90, 92, 94] * 4, 225)
    covering = ask(Representativeness("e"), e=vectors, n_samples=2).indices
    outlying = ask(Diversity("e"), e=vectors, n_samples=2).indices

    assert covering[0] < 20 <= covering[1] < 32
    assert 32 in outlying


def test_random_numbers_as_weights_pick_as_random_does():
    vectors = dataset("random", 300, 4, seed=0)
    filenames = names(300)
    drawn = select(
        vectors,
        method=CoresetMethod.RANDOM,
        n_samples=None,
        min_distance=None,
        seed=7,
        filenames=filenames,
    )
    numbers = random_numbers(filenames, 7)
    chosen = choose(Pool(filenames, {"r": Numeric(numbers)}), [Weights("r")], Limits())

    assert chosen.indices.tolist() == drawn.indices.tolist()
    assert 0 <= numbers.min() <= numbers.max() < 1


@pytest.mark.parametrize("strength", [1e9, -1e9])
def test_the_largest_strengths_overflow_nothing(strength):
    vectors = dataset("duplicated", 40, 4, seed=0)
    for way in (compiled, lambda: compiled(1000)):
        with way():
            chosen = ask(
                Diversity("e", strength), Weights("w", strength), e=vectors, w=list(range(40))
            )
        assert sorted(chosen.indices) == list(range(40))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Diversity("w"), "'w' should be embeddings and is numeric"),
        (Weights("nothing"), "'nothing' should be numeric and is missing"),
        (Similarity("e", "q"), "the query 'q' is missing"),
        (Balance("k"), "TARGET and 0 ratios"),
        (Balance("k", Goal.UNIFORM, {"a": 1.0}), "UNIFORM and 1 ratios"),
        (Balance("k", target={"a": 0.8, "b": 0.3}), "sum to 1.1"),
        (Balance("k", target={"a": 1.3}), "ratio of 'a'"),
        (Typicality("e", 1), "1 neighbours"),
        (Typicality("e", minimum_typicality=2), "minimum typicality"),
        (Weights("w", max_sum=-1), "max_sum"),
        (Weights("w", target_range=(3, 2)), "3 to 2"),
        (Weights("w", strength=2e9), "between ±1e9"),
        (Weights("w", strength=math.nan), "between ±1e9"),
        (Diversity("e", minimum_distance=-1), "minimum distance"),
        (Threshold("w", Operation.BIGGER, math.nan), "threshold"),
    ],
)
def test_what_means_nothing_is_refused_by_name(strategy, message):
    with pytest.raises(ConfigError, match=message):
        ask(strategy, e=on_circle(0, 1), w=[1, 2], k=["a", "b"])


def test_a_value_that_cannot_be_used_is_named_with_its_sample():
    with pytest.raises(ConfigError, match=r"'w' of '000001\.jpg' is nan"):
        ask(Weights("w"), w=[1, math.nan])
    with pytest.raises(ConfigError, match=r"'d' of '000001\.jpg' is -1"):
        ask(d=Distributions(["a"], np.array([[1.0], [-1.0]])))
    with pytest.raises(ModelError, match=r"000000\.jpg"):
        ask(e=np.array([[np.inf]], np.float32))
    with pytest.raises(ConfigError, match="1 values for 2 samples"):
        ask(e=on_circle(0, 1), w=[1])
