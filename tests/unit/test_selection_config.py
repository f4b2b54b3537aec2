"""`selection_config`: the documented spelling is accepted, every mistake is named with its path."""

import json

import pytest
import yaml

from lightly_fs.config import load_config
from lightly_fs.config.selection import SelectionConfig, floor_of, parse_selection
from lightly_fs.errors import ConfigError

EMBEDDINGS = {"type": "EMBEDDINGS"}
DIVERSITY = {"input": EMBEDDINGS, "strategy": {"type": "DIVERSITY"}}
SCORES = {"type": "SCORES", "task": "t", "score": "uncertainty_margin"}
COUNT = {"type": "PREDICTIONS", "task": "t", "name": "CATEGORY_COUNT", "categories": ["car"]}
CLASSES = {"type": "PREDICTIONS", "task": "t", "name": "CLASS_DISTRIBUTION"}
NUMBER = {"type": "METADATA", "key": "lightly.sharpness"}


def entry(given: dict, **strategy: object) -> dict:
    return {"input": given, "strategy": strategy}


def config(*entries: dict, **keys: object) -> dict:
    return {"n_samples": 5, "strategies": list(entries), **keys}


DOCUMENTED = [
    DIVERSITY,
    entry(EMBEDDINGS, type="DIVERSITY", stopping_condition_minimum_distance=0.1, strength=-0.5),
    entry({"type": "EMBEDDINGS", "task": "t"}, type="DIVERSITY"),
    entry({"type": "EMBEDDINGS", "task": "t"}, type="TYPICALITY", num_nearest_neighbors=5),
    entry({"type": "EMBEDDINGS", "query": "q.csv"}, type="SIMILARITY"),
    entry(EMBEDDINGS, type="TYPICALITY", stopping_condition_minimum_typicality=0.2),
    entry(EMBEDDINGS, type="REPRESENTATIVENESS"),
    entry(SCORES, type="WEIGHTS", stopping_condition_max_sum=12),
    entry(SCORES, type="THRESHOLD", threshold=0.2, operation="BIGGER_EQUAL"),
    entry(CLASSES, type="BALANCE", target={"car": 0.1, "bus": 0.5}),
    entry(CLASSES, type="BALANCE", distribution="UNIFORM"),
    entry({"type": "METADATA", "key": "weather"}, type="BALANCE", distribution="INPUT"),
    entry(COUNT, type="WEIGHTS", target_range={"min_sum": 5, "max_sum": 9}),
    entry(NUMBER, type="THRESHOLD", threshold=20, operation="SMALLER"),
    entry({"type": "RANDOM", "random_seed": 42}, type="WEIGHTS"),
]

BROKEN = [
    (config(entry({"type": "EMBEDINGS"}, type="DIVERSITY")), "[0].input.type`: `EMBEDINGS` is"),
    (config(entry({"type": "embeddings"}, type="DIVERSITY")), "did you mean `EMBEDDINGS`?"),
    (config(entry({}, type="DIVERSITY")), "[0].input.type` is missing"),
    (config({"strategy": {"type": "DIVERSITY"}}), "[0].input` is missing"),
    (config({"input": EMBEDDINGS}), "[0].strategy` is missing"),
    (config(entry(EMBEDDINGS, type="DIVERSE")), "did you mean `DIVERSITY`?"),
    (config(entry(EMBEDDINGS, type="DIVERSITY", strenght=2)), "no `strenght`, did you mean `stren"),
    (config(entry(EMBEDDINGS, type="DIVERSITY", strength="high")), ".strategy.strength`: 'high'"),
    (config(entry(EMBEDDINGS, type="DIVERSITY", strength=1e10)), "less than or equal to 10000000"),
    (config(entry(EMBEDDINGS, type="DIVERSITY", strength=True)), ".strength`: a number or a text"),
    (
        config(entry(EMBEDDINGS, type="DIVERSITY", stopping_condition_minimum_distance=-1)),
        ".stopping_condition_minimum_distance`: -1: should be greater",
    ),
    (config(entry(EMBEDDINGS, type="TYPICALITY", num_nearest_neighbors=1)), "equal to 2"),
    (config(entry(EMBEDDINGS, type="SIMILARITY")), "`query` belongs to SIMILARITY"),
    (
        config(entry({**EMBEDDINGS, "dataset_id": "a", "tag_name": "b"}, type="SIMILARITY")),
        "need the platform",
    ),
    (config(entry(SCORES, type="DIVERSITY")), "DIVERSITY cannot use SCORES, which is for WEIGHTS"),
    (config(entry({"type": "SCORES", "task": "t"}, type="WEIGHTS")), ".input.score` is missing"),
    (config(entry(NUMBER, type="THRESHOLD", threshold=1, operation="=")), "allowed: SMALLER, SMAL"),
    (config(entry(NUMBER, type="THRESHOLD", operation="SMALLER")), ".strategy.threshold` is miss"),
    (config(entry(CLASSES, type="BALANCE")), ".strategy.target`: ratios by class are expected"),
    (config(entry(CLASSES, type="BALANCE", target={"a": 0.7, "b": 0.4})), "sum to 1.1, more than"),
    (config(entry(CLASSES, type="BALANCE", target={"a": 7})), ".target.a`: 7: should be less than"),
    (
        config(entry(CLASSES, type="BALANCE", target={"a": 1}, distribution="UNIFORM")),
        "UNIFORM has no ratios",
    ),
    (config(entry({**CLASSES, "categories": ["a"]}, type="BALANCE")), "belongs to CATEGORY_COUNT"),
    (config(entry({**COUNT, "categories": ["a", "a"]}, type="WEIGHTS")), "`a` is there twice"),
    (
        config(entry(COUNT, type="WEIGHTS", target_range={"min_sum": 3, "max_sum": 1})),
        ".target_range`: min_sum=3 is above max_sum=1",
    ),
    (config(entry({"type": "RANDOM", "random_seed": -4}, type="WEIGHTS")), ".random_seed`: -4"),
    (config(), "strategies`: at least one is expected"),
    (config(5), "strategies[0]`: a mapping is expected, not 5"),
    ({"strategies": [DIVERSITY]}, "exactly one of `n_samples` and `proportion_samples`"),
    (config(DIVERSITY, proportion_samples=0.5), "exactly one of `n_samples` and"),
    ({"proportion_samples": 1.5, "strategies": [DIVERSITY]}, "proportion_samples`: 1.5: should be"),
    (config(DIVERSITY, n_samples=-3), "selection_config.n_samples`: -3"),
    (config(DIVERSITY, nsamples=3), "no `nsamples`, did you mean `n_samples`?"),
    (
        config(
            DIVERSITY, auto_tasks=[{"type": "TILING", "name": "t", "num_rows": 0, "num_cols": 2}]
        ),
        "auto_tasks[0].num_rows`: 0",
    ),
    (
        config(DIVERSITY, auto_tasks=[{"type": "CROP", "name": "t", "num_rows": 1, "num_cols": 2}]),
        "auto_tasks[0].type`: `CROP` is unknown; allowed: TILING",
    ),
    ([], "must hold n_samples and strategies, not a list"),
]


@pytest.mark.parametrize("given", DOCUMENTED, ids=json.dumps)
def test_the_documented_spelling_is_accepted(given):
    parsed = parse_selection(config(given))
    dumped = parsed.model_dump(mode="json", exclude_none=True)["strategies"][0]
    for part in ("input", "strategy"):
        assert given[part].items() <= dumped[part].items()
    assert SelectionConfig.model_validate(parsed.model_dump(mode="json")) == parsed


@pytest.mark.parametrize(("given", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(given, words):
    with pytest.raises(ConfigError) as caught:
        parse_selection(given)
    assert words in caught.value.message
    assert "selection_config" in caught.value.message
    assert "tuple" not in caught.value.message
    assert caught.value.hint


def test_all_mistakes_are_told_at_once():
    given = config(entry({"type": "X"}, type="Y"), entry(EMBEDDINGS, type="DIVERSITY", z=1), n=1)
    with pytest.raises(ConfigError) as caught:
        parse_selection(given)
    assert len(caught.value.message.splitlines()) == 4


def test_a_file_gives_the_same_as_the_words(tmp_path):
    given = config(DIVERSITY)
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({"selection_config": given}))
    whole = tmp_path / "run.yaml"
    whole.write_text(json.dumps({"selection_config": given}))
    parsed = [
        load_config([f"selection_config={json.dumps(given)}"]),
        load_config([f"selection_config={file}"]),
        load_config(["selection_config=selection.json", f"shared_dir={tmp_path}"]),
        load_config([], file=whole),
    ]
    assert all(one.selection_config == parsed[0].selection_config for one in parsed)
    assert {one.digest() for one in parsed} == {parsed[0].digest()}


def test_a_file_that_is_not_there_or_wrong_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nope\.yaml`: there is no such file"):
        load_config(["selection_config=nope.yaml", f"shared_dir={tmp_path}"])
    file = tmp_path / "bad.yaml"
    file.write_text("n_samples: 5\nstrategies: [{input: {type: X}, strategy: {type: DIVERSITY}}]")
    with pytest.raises(ConfigError, match=r"bad\.yaml: strategies\[0\]\.input\.type`: `X`"):
        load_config([f"selection_config={file}"])
    file.write_text("n_samples: [5\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml` is not valid YAML"):
        load_config([f"selection_config={file}"])


def test_a_json_file_means_what_the_same_yaml_means(tmp_path):
    balance = {"type": "BALANCE", "target": {"café \U0001f600": 1e-07, "1": 0.5}}
    classes = {"type": "PREDICTIONS", "task": "t", "name": "CLASS_DISTRIBUTION"}
    given = {"n_samples": 5, "strategies": [{"input": classes, "strategy": balance}]}
    (tmp_path / "s.json").write_text(json.dumps(given))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "braces.json").write_text(
        "{n_samples: 5, strategies: [{input: {type: PREDICTIONS, task: t, name: CLASS_DISTRIBUTION}"
        ', strategy: {type: BALANCE, target: {"café \\U0001F600": 0.0000001, 1: 0.5}}}]}'
    )

    parsed = [
        load_config([f"selection_config={tmp_path / name}"])
        for name in ("s.json", "s.yaml", "braces.json")
    ]

    assert parsed[0].selection_config == parsed[1].selection_config == parsed[2].selection_config
    for text, said in (
        ('{"n_samples": 5, "n_samples": 6}', "it sets `n_samples` twice"),
        ('{"n_samples": NaN, "strategies": []}', "n_samples`: 'NaN'"),
        ("{" * 5000, "is not valid YAML"),
    ):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_config([f"selection_config={tmp_path / 's.json'}"])


def test_method_and_stopping_condition_do_not_go_with_strategies():
    word = f"selection_config={json.dumps(config(DIVERSITY))}"
    for other in ("method=random", "stopping_condition.n_samples=5"):
        with pytest.raises(ConfigError, match="does not go with `selection_config`"):
            load_config([word, other])
    assert load_config([word, "method=coreset"]).selection_config is not None


def test_a_run_without_strategies_has_the_digest_that_it_always_had():
    assert (
        load_config([]).digest()
        == load_config(["pretagging=False", "selected_sequence_length=1"]).digest()
    )
    assert load_config([]).digest() != load_config(["pretagging=True"]).digest()


def test_proportions_are_of_the_decimal_that_was_written():
    assert floor_of(0.3, 10) == 3
    parsed = parse_selection({"proportion_samples": 0.3, "strategies": [DIVERSITY]})
    assert parsed.count(10) == 3
    assert parse_selection(config(DIVERSITY, n_samples=-1)).count(10) is None


def test_a_count_is_a_multiple_of_the_sequence_length():
    word = f"selection_config={json.dumps(config(DIVERSITY))}"
    with pytest.raises(ConfigError, match=r"n_samples=5 is no multiple .* nearest are 4 and 8"):
        load_config([word, "selected_sequence_length=4"])
    with pytest.raises(ConfigError, match="would tear sequences"):
        load_config(["selected_sequence_length=4", "near_duplicates.max_distance=0.1"])


def test_labels_that_yaml_takes_for_other_values_are_labels():
    given = config(entry(CLASSES, type="BALANCE", target={True: 0.5, 2: 0.2}))
    assert parse_selection(given).strategies[0].strategy.target == {"true": 0.5, "2": 0.2}
