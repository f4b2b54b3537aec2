import re
from pathlib import Path

import pytest

from lightly_fs.config import RunConfig
from lightly_fs.errors import ConfigError
from lightly_fs.pretagging.config import PretaggingConfig, read_pretagging_config

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "pretagging.md"


def read(folder: Path, text: str | bytes) -> PretaggingConfig:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "pretag.yaml").write_bytes(data)
    return read_pretagging_config(RunConfig(shared_dir=str(folder)), "pretag.yaml")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modl: x", "there is no `modl`, did you mean `model`?; allowed: model, weights", None),
        ("min_score: 2", "min_score`: '2': should be less than or equal to 1", "0 to 1"),
        ("min_score: nan", "min_score`: 'nan': should be", "0 to 1"),
        ("min_score: high", "min_score`: 'high': should be a valid number", "0 to 1"),
        ("batch_size: 0", "batch_size`: '0': should be greater than or equal to 1", "per forward"),
        ("batch_size: [8]", "batch_size`: a list: should be a valid integer", "per forward"),
        ("max_boxes: 1.5", "max_boxes`: '1.5': should be a valid integer", "at most"),
        ("categories: car", "categories`: a list is expected, not 'car'", "none: all"),
        ("categories: [car, car]", "`car` is there 2 times", "none: all"),
        ("category_names: [a, '']", "a category without a name", "own weights"),
        ("model: {name: x}", "model`: a mapping: should be a valid string", "torchvision"),
        ("[a, b]", "must hold keys and values, not a list", "its keys: model, weights"),
        ("min_score", "must hold keys and values, not a str", "its keys: model, weights"),
        ("model: [", "is no valid YAML: while parsing", None),
        (b"model: \xff", "is no valid YAML: 'utf-8' codec", None),
        ("min_score: 0.1\nmin_score: 0.2", "sets `min_score` twice", "keep one"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(tmp_path, text, message, hint):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert str(tmp_path / "pretag.yaml") in caught.value.message
    assert hint in caught.value.hint if hint else True


def test_several_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "min_score: 2\nbatch_size: 0\nclasses: [car]")
    assert len(caught.value.message.splitlines()) == 3


@pytest.mark.parametrize(("name", "problem"), [("other.yaml", "is not there"), (".", "is no file")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        read_pretagging_config(RunConfig(shared_dir=str(tmp_path)), name)
    assert "relative to shared_dir" in caught.value.hint


def test_without_a_file_everything_has_its_default(tmp_path):
    assert read_pretagging_config(RunConfig(), "") == PretaggingConfig()
    assert read(tmp_path, "# nothing\n") == PretaggingConfig()
    assert read(tmp_path, "weights: null\nmodel:\n") == PretaggingConfig()


def test_yaml_and_json_say_the_same(tmp_path):
    yaml = "model: ssd300_vgg16\nmin_score: 0.25\ncategories:\n- person\n- car\nmax_boxes: 7\n"
    json = '{"model": "ssd300_vgg16", "min_score": 0.25, "categories": ["person", "car"], '
    expected = PretaggingConfig(
        model="ssd300_vgg16", min_score=0.25, categories=("person", "car"), max_boxes=7
    )
    assert read(tmp_path, yaml) == expected
    assert read(tmp_path, json + '"max_boxes": 7}') == expected


def test_a_category_may_be_called_like_a_boolean_or_a_number(tmp_path):
    assert read(tmp_path, "categories: [off, no, 1, null]").categories == ("off", "no", "1", "null")


def test_the_guide_lists_every_key_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", GUIDE.read_text(), re.MULTILINE))
    for key, value in PretaggingConfig():
        default = rows[key].strip().strip("`")
        assert default == ("none" if value in ("", ()) else str(value)), key
