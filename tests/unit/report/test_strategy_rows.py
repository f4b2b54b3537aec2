"""Strategies in words: every kind of input and of strategy that a configuration may have."""

import pytest

from lightly_fs.config.selection import parse_selection
from lightly_fs.report.strategy_rows import strategy_row

EMBEDDINGS = {"type": "EMBEDDINGS"}
CLASSES = {"type": "PREDICTIONS", "task": "cars", "name": "CLASS_DISTRIBUTION"}
COUNT = {"type": "PREDICTIONS", "task": "cars", "name": "CATEGORY_COUNT", "categories": ["a", "b"]}


def row(given: dict, **strategy):
    entry = {"input": given, "strategy": strategy}
    return strategy_row(parse_selection({"n_samples": 5, "strategies": [entry]}).strategies[0])


@pytest.mark.parametrize(
    ("given", "strategy", "words"),
    [
        (EMBEDDINGS, {"type": "DIVERSITY"}, ("Diversity", "embeddings", "", "", 1)),
        (
            {**EMBEDDINGS, "task": "cars"},
            {"type": "DIVERSITY", "strength": 0.5, "stopping_condition_minimum_distance": 0.3},
            ("Diversity", "embeddings of crops of", "cars", "at least 0.3 apart", 0.5),
        ),
        (
            {**EMBEDDINGS, "query": "my/data.csv"},
            {"type": "SIMILARITY", "strength": -2},
            ("Similarity", "embeddings", "", "to my/data.csv", -2),
        ),
        (
            EMBEDDINGS,
            {"type": "TYPICALITY", "stopping_condition_minimum_typicality": 0.4},
            ("Typicality", "embeddings", "", "20 neighbours, at least 0.4", 1),
        ),
        (
            EMBEDDINGS,
            {"type": "REPRESENTATIVENESS"},
            ("Representativeness", "embeddings", "", "", 1),
        ),
        (
            {"type": "METADATA", "key": "lightly.sharpness"},
            {"type": "THRESHOLD", "threshold": 20, "operation": "BIGGER_EQUAL"},
            ("Threshold", "metadata", "lightly.sharpness", "≥ 20", None),
        ),
        (
            {"type": "SCORES", "task": "cars", "score": "margin"},
            {"type": "WEIGHTS", "target_range": {"min_sum": 1, "max_sum": 2.5}},
            ("Weights", "score", "margin of cars", "sum between 1 and 2.5", 1),
        ),
        (
            COUNT,
            {"type": "WEIGHTS", "stopping_condition_max_sum": 100},
            ("Weights", "number of objects", "a, b of cars", "ends at a sum of 100", 1),
        ),
        (
            {"type": "RANDOM", "random_seed": 7},
            {"type": "WEIGHTS"},
            ("Weights", "random numbers", "seed 7", "", 1),
        ),
        (
            CLASSES,
            {"type": "BALANCE", "target": {"a": 0.5, "b": 0.25}},
            ("Balance", "classes of", "cars", "a 50 %, b 25 %, others 25 %", 1),
        ),
        (
            CLASSES,
            {"type": "BALANCE", "distribution": "UNIFORM"},
            ("Balance", "classes of", "cars", "all classes alike", 1),
        ),
        (
            CLASSES,
            {"type": "BALANCE", "distribution": "INPUT"},
            ("Balance", "classes of", "cars", "as in the input", 1),
        ),
    ],
)
def test_a_strategy_is_said_with_its_input_parameters_and_strength(given, strategy, words):
    made = row(given, **strategy)
    assert (made.name, made.looks_at, made.of, made.parameters, made.strength) == words
    assert made.title == f"{words[0]}: {words[1]} {words[2]}".rstrip()


def test_many_ratios_and_long_names_stay_short():
    target = {f"class {i} {'long ' * 30}": 0.01 for i in range(50)}
    words = row(CLASSES, type="BALANCE", target=target).parameters
    assert words.endswith("42 more, others 50 %")
    assert len(words) < 350
