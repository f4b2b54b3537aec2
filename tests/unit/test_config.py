"""Keys, values and mistakes of the configuration."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.config import CoresetMethod, RunConfig, StoppingCondition, load_config
from lightly_fs.errors import ConfigError


def test_words_become_nested_typed_values():
    config = load_config(["method=random", "stopping_condition.n_samples=0.25", "seed=7"])

    assert (CoresetMethod.RANDOM, 0.25, 7) == (
        config.method,
        config.stopping_condition.n_samples,
        config.seed,
    )


def test_words_override_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("method: random\nstopping_condition:\n  n_samples: 5\ns3.url: http://a\n")

    config = load_config(["stopping_condition.n_samples=7"], file=file)

    assert (CoresetMethod.RANDOM, 7, "http://a") == (
        config.method,
        config.stopping_condition.n_samples,
        config.s3.url,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("1.0", 10), ("0.3", 3), ("0.29", 2), ("-1", None), ("-1.", None), ("50", 10)],
)
def test_a_count_has_no_decimal_point_and_a_fraction_has_one(text, expected):
    config = load_config([f"stopping_condition.n_samples={text}"])

    assert expected == config.stopping_condition.count(10)


@given(st.integers(1, 10**6), st.integers(0, 1000))
def test_a_fraction_is_the_floor_of_the_decimal_that_was_written(n, thousandths):
    condition = StoppingCondition(n_samples=thousandths / 1000)

    assert n * thousandths // 1000 == condition.count(n)


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("n_samples=3", "unknown key `n_samples`", "stopping_condition.n_samples"),
        ("metod=random", "unknown key `metod`", "did you mean `method`?"),
        ("nonsense=1", "unknown key `nonsense`", "--help-keys"),
        ("dataset=1", "unknown key `dataset`", "--help-keys"),
        ("stoping_condition.n_samples=1", "unknown key", "`stopping_condition.n_samples`?"),
        ("n_sample=1", "unknown key", "`stopping_condition.n_samples`?"),
        ("stopping_condition=1", "unknown key", "`stopping_condition.n_samples`?"),
        ("method=kmeans", "`method=kmeans`", "`coreset` or `random`"),
        ("stopping_condition.n_samples=1.5", "between 0.0 and 1.0", "fraction"),
        ("stopping_condition.n_samples=ten", "a count like 100", "fraction"),
        ("stopping_condition.min_distance=nan", "a distance is 0 or more", "L2"),
        ("n_example_images=3", "must be even", "must be even"),
        ("lightly.loader.batch_size=0", "greater than or equal to 1", "training step"),
        ("lightly.loader.num_workers=-2", "greater than or equal to -1", "augment"),
        ("lightly.model.name=resnet-20", "`lightly.model.name=resnet-20`", "ResNet"),
        ("lightly.criterion.temperature=0", "greater than", "Temperature"),
        ("lightly.optimizer.lr=0", "greater than 0", "Learning rate"),
        ("lightly.optimizer.weight_decay=2", "less than or equal to 1", "decay"),
        ("lightly.trainer.max_epochs=-1", "greater than or equal to 0", "Passes"),
        ("lightly.trainer.precision=8", "16 or 32", "mixed"),
        ("lightly.collate.cj_hue=1.5", "less than or equal to 1", "hue"),
        ("lightly.collate.min_scale=0", "greater than 0", "crop"),
        ("lightly.collate.sigmas=[2,1]", "the smaller one first", "blur"),
        ("lightly.collate.rr_degrees=[10,-10]", "[from,to]", "Rotate"),
        ("lightly.collate.cj_prob=true", "a number is expected", "jittered"),
        ("lightly.checkpoint_callback.save_top_k=-2", "greater than or equal to -1", "lowest"),
        ("lightly.optimizer.lr=inf", "finite number is expected, above 0, at most 1000", "rate"),
        ("lightly.optimizer.lr=1e30", "less than or equal to 1000", "Learning rate"),
        ("lightly.optimizer.weight_decay=nan", "at least 0, at most 1", "decay"),
        ("lightly.criterion.temperature=.inf", "at least 0.001, at most 1000", "Temperature"),
        ("lightly.criterion.memory_bank_size=99999999999999", "or equal to 1048576", "negatives"),
        ("lightly.seed=99999999999999999999999", "equal to 9223372036854775807", "Seed"),
        ("lightly.model.out_dim=99999999999", "less than or equal to 65536", "projection"),
        ("lightly.model.num_ftrs=999999999999", "less than or equal to 65536", "dimensions"),
        ("lightly.model.width=100000", "less than or equal to 16", "channels"),
        ("lightly.loader.batch_size=99999999", "less than or equal to 65536", "step"),
        ("lightly.loader.num_workers=99999", "less than or equal to 1024", "augment"),
        ("lightly.trainer.gpus=1000", "less than or equal to 128", "GPUs"),
        ("lightly.trainer.max_epochs=99999999999", "less than or equal to 1000000", "Passes"),
        ("lightly.collate.input_size=99999", "less than or equal to 4096", "pixels"),
        ("lightly.collate.sigmas=[1,1e30]", "positive numbers up to 100", "blur"),
        ("lightly.collate.sigmas=[1,nan]", "a finite number is expected", "blur"),
        ("lightly.collate.rr_degrees=nan", "a finite number is expected", "Rotate"),
        ("lightly.collate.rr_degrees=[0,.nan]", "a finite number is expected", "Rotate"),
        ("lightly.collate.rr_degrees=1e30", "from 0 to 360", "Rotate"),
        ("lightly.collate.cj_prob=nan", "at least 0, at most 1", "jittered"),
        ("lightly.collate.kernel_size=inf", "a finite number is expected", "blur"),
        ("lightly.trainer.max_epoch=3", "unknown key", "lightly.trainer.max_epochs"),
        ("datasource.dataset_id=5f", "needs the platform", "leave"),
        ("datasource.id=5f", "needs the platform", "leave"),
        ("run_directory=../x", "below the output", "Sub-folder"),
        ("run_directory=/out/x", "relative to output_dir", "Sub-folder"),
        ("input_dir", "not of the form key=value", "method=coreset"),
        ("output_image_size=[0,5]", "shortest edge", "shortest edge"),
        ("batch_size=0", "greater than or equal to 1", "forward pass"),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(word, message, hint):
    with pytest.raises(ConfigError) as caught:
        load_config([word])

    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "word",
    [
        "token=abc",
        "enable_corruptness_check=True",
        "remove_exact_duplicates=True",
        "pretagging=False",
        "lightly.upload=",
        "datapool.name=",
        "worker.worker_id=",
    ],
)
def test_keys_of_existing_commands_that_ask_for_nothing_are_accepted(word):
    assert load_config([word]) == RunConfig()


def test_a_datapool_is_below_the_shared_directory_or_where_its_path_says():
    config = load_config(["datapool.name=street", "datapool.count_selected=True"])

    assert config.datapool.location("/data") == "/data/street"
    assert config.datapool.count_selected
    assert load_config(["datapool.name=/mnt/p"]).datapool.location("/data") == "/mnt/p"
    assert load_config(["datapool.name=s3://b/p"]).datapool.location("/data") == "s3://b/p"
    assert load_config([]).datapool.location("/data") == ""
    assert config.digest() != load_config([]).digest()


def test_the_digest_ignores_where_and_how_fast():
    one = load_config(["input_dir=/a", "read_through=mount", "num_threads=3"])
    other = load_config(["method=random"])

    assert RunConfig().digest() == one.digest()
    assert RunConfig().digest() != other.digest()


@pytest.mark.parametrize("text", ["properties: off", "properties: 'off'"])
def test_off_is_a_word_and_no_boolean(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)

    from_file = load_config([], file=tmp_path / "run.yaml")

    assert "off" == from_file.properties == load_config(["properties=off"]).properties


def test_numbers_stay_text_where_text_is_expected():
    assert load_config(["run_directory=2026-11-20"]).run_directory == "2026-11-20"
    assert load_config(["run_directory=007"]).run_directory == "007"


@pytest.mark.parametrize(
    ("content", "message"), [("[1, 2]", "keys and values"), ("a: [", "not valid YAML")]
)
def test_a_broken_file_is_named(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_text(content)

    with pytest.raises(ConfigError, match=message) as caught:
        load_config([], file=file)

    assert str(file) in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config([], file=tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["/data/a #1", "a: b", "[x]", "007", "2026-11-20", "true", "*a"])
def test_a_path_or_name_stands_as_it_was_written(text, tmp_path):
    assert load_config([f"input_dir={text}"]).input_dir == text
    assert load_config([f"input_dir='{text}'"]).input_dir == text


@pytest.mark.parametrize("text", ["007", "2026-11-20", "10:30:00", "true", "1.0"])
def test_a_name_in_a_file_needs_no_quotes(text, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"run_directory: {text}\ns3:\n  aws_profile: {text}\n  region: null\n")
    config = load_config(file=file)
    assert (text, text, None) == (config.run_directory, config.s3.aws_profile, config.s3.region)


@pytest.mark.parametrize("text", ["!!int x", "!!float x", "!!timestamp x", "[" * 3000, "&a [*a]"])
def test_a_value_that_yaml_chokes_on_names_its_key(text):
    with pytest.raises(ConfigError, match="`batch_size"):
        load_config([f"batch_size={text}"])


@pytest.mark.parametrize(
    "content",
    [
        "method: random\nmethod: coreset\n",
        "stopping_condition: {n_samples: 3}\nstopping_condition.n_samples: 4\n",
        "s3: &a\n  url: *a\n",
        "a: " + "[" * 3000,
    ],
)
def test_a_file_that_contradicts_itself_is_refused_by_name(tmp_path, content):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(file=file)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("batch_size=true", "a number is expected"),
        ("stopping_condition.min_distance=true", "a number is expected"),
        ("output_image_size=true", "a number is expected"),
        ("output_image_size=65535", "at most 16383"),
        ("input_dir=", "a directory is expected"),
        ("output_dir=", "a directory is expected"),
        ("run_directory=" + "x" * 256, "longer than 255 bytes"),
        ("run_directory=a\tb", "printable"),
        ("s3.url=localhost", "https://host"),
        ("sanity_check=maybe", "no key of a run"),
    ],
)
def test_a_value_that_can_mean_nothing_is_refused(word, problem):
    with pytest.raises(ConfigError, match=problem):
        load_config([word])


def test_the_keys_of_training_have_the_defaults_of_the_container():
    training = load_config([]).lightly

    assert (training.loader.batch_size, training.loader.num_workers) == (16, -1)
    assert training.loader.shuffle
    assert training.loader.drop_last
    assert (training.model.out_dim, training.model.num_ftrs, training.model.width) == (128, 32, 1)
    assert (training.criterion.temperature, training.criterion.memory_bank_size) == (0.5, 0)
    assert (training.optimizer.lr, training.optimizer.weight_decay) == (1.0, 1e-5)
    assert (training.trainer.gpus, training.trainer.max_epochs) == (1, 100)
    assert training.trainer.precision == 32
    assert training.collate.model_dump(exclude={"input_size"}) == {
        "cj_prob": 0.8,
        "cj_bright": 0.7,
        "cj_contrast": 0.7,
        "cj_sat": 0.7,
        "cj_hue": 0.2,
        "min_scale": 0.15,
        "random_gray_scale": 0.2,
        "gaussian_blur": 0.5,
        "kernel_size": None,
        "sigmas": (0.2, 2.0),
        "vf_prob": 0.0,
        "hf_prob": 0.5,
        "rr_prob": 0.0,
        "rr_degrees": None,
    }
    assert (training.seed, training.pre_trained) == (1, True)
    assert training.checkpoint_callback.save_top_k == 1


def test_keys_of_training_count_only_with_training():
    assert load_config(["lightly.seed=2"]).digest() == load_config([]).digest()
    on = load_config(["enable_training=True"])
    assert on.digest() != load_config([]).digest()
    assert on.digest() != load_config(["enable_training=True", "lightly.seed=2"]).digest()
    workers = ["enable_training=True", "lightly.loader.num_workers=3"]
    assert on.digest() == load_config(workers).digest()


def test_values_of_training_are_read_from_words():
    words = ["lightly.optimizer.weight_decay=1e-4", "lightly.collate.sigmas=[0.1,1]"]
    training = load_config([*words, "lightly.collate.rr_degrees=15", "lightly.trainer.gpus=-1"])

    assert training.lightly.optimizer.weight_decay == 1e-4
    assert training.lightly.collate.sigmas == (0.1, 1.0)
    assert training.lightly.collate.rr_degrees == 15
    assert training.lightly.trainer.gpus == -1


def test_two_keys_that_do_not_go_together_are_named_alone():
    with pytest.raises(ConfigError) as caught:
        load_config(["video.fps=2", "video.every_nth=3"])

    assert caught.value.message == (
        "`video.fps` and `video.every_nth` do not go together; keep one of them"
    )


PLACES = ("input_dir=/data/in", "output_dir=/data/in/out/", "shared_dir=/data/in")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("datapool.name=pool",), "lies in input_dir `/data/in`"),
        (("datapool.name=/data//in/a/../pool",), "`..`"),
        (("datapool.name=/data/./in",), "lies in input_dir"),
        (("datapool.name=out",), "is output_dir itself"),
        (("datapool.name=s3://b/in/pool", "input_dir=s3://b/in/"), "lies in input_dir"),
    ],
)
def test_a_datapool_has_a_place_of_its_own(words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config([*PLACES, *words])


@pytest.mark.parametrize(
    "words",
    [
        ("datapool.name=out/pool",),
        ("datapool.name=/data/in2/pool",),
        ("datapool.name=s3://b/inside", "input_dir=s3://b/in"),
        ("datapool.name=/s3/b/in", "input_dir=s3://b/in"),
    ],
)
def test_places_that_a_datapool_may_have(words):
    assert load_config([*PLACES, *words]).datapool.name == words[0].partition("=")[2]
