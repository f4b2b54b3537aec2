"""What `select --explain` tells of images that were selected, and of those that were not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightly_fs import pipeline
from lightly_fs.cli.explaining import print_reasons
from lightly_fs.config import load_config
from lightly_fs.errors import ArtifactError, ConfigError
from lightly_fs.pipeline.last_pick import objectives_at_last
from lightly_fs.pipeline.recorded import recorded_config
from lightly_fs.selection import strategies as engine
from lightly_fs.selection.choose import choose
from lightly_fs.selection.pool import Distributions, Embeddings, Numeric, ObjectEmbeddings, Pool
from lightly_fs.types import Stage
from tests.unit.annotated import draw, filename
from tests.unit.cli.command import lightly_fs
from tests.unit.test_pipeline_strategies import DIVERSITY, entry, metadata, words

WARM = entry(metadata("weather.temperature"), type="WEIGHTS", strength=0.5)
VARIED = entry(metadata("lightly.contrast"), type="THRESHOLD", threshold=1, operation="BIGGER")
OBJECTS = entry({"type": "EMBEDDINGS", "task": "boxes"}, type="DIVERSITY", strength=0.5)
LINE = "THRESHOLD of METADATA lightly.contrast > 1"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Path:
    """Images; of three of them a copy, a part and almost the same; one of a single colour."""
    folder = draw(tmp_path_factory.mktemp("bucket"))
    shutil.copy(folder / filename(3), folder / "zz-copy.png")
    (folder / "zz-broken.png").write_bytes((folder / filename(4)).read_bytes()[:60])
    Image.new("RGB", (40, 40), (90, 120, 40)).save(folder / "zz-flat.png")
    with Image.open(folder / filename(5)) as picture:
        picture.putpixel((0, 0), (0, 0, 0))
        picture.save(folder / "zz-near.png")
    return folder


@pytest.fixture(scope="module")
def keys(bucket, tmp_path_factory) -> list[str]:
    return words(bucket, tmp_path_factory.mktemp("out"), DIVERSITY, WARM, VARIED, OBJECTS)


@pytest.fixture(scope="module")
def both(keys):
    """The explanation of the process that selected, and that of the finished run."""
    live = pipeline.run(load_config(keys), {}, until=Stage.SELECT).why
    pipeline.run(load_config(keys), {})
    again = pipeline.run(load_config(keys), {}, until=Stage.SELECT)
    assert again.was_complete
    return live, again.why


def test_a_finished_run_tells_of_every_image_what_the_process_told(both):
    live, finished = both
    names = [*live.ends.embedded, *live.ends.failures]
    assert len(names) == len(set(names)) > 20
    for name in names:
        told, read = live.of(name), finished.of(name)
        assert told["outcome"] == read["outcome"]
        assert told.keys() == read.keys()
        for key in (key for key in ("distance", "product", "value") if key in told):
            assert (read[key] is None) == (told[key] is None)
            assert read[key] is None or read[key] == pytest.approx(told[key], rel=1e-6)
        assert read.get("nearest_selected") == told.get("nearest_selected")
        if told.get("objectives"):
            assert read["objectives"] == pytest.approx(told["objectives"], rel=1e-9)


def test_every_way_to_end_is_told_with_its_reason(both):
    why = both[1]
    copy = why.of("zz-copy.png")
    assert (copy["outcome"], copy["original"]) == ("exact_duplicate", filename(3))
    assert copy["original_outcome"] == why.of(filename(3))["outcome"]
    assert why.of("zz-broken.png")["outcome"] == "corrupt"
    assert "truncated" in why.of("zz-broken.png")["reason"]
    flat = why.of("zz-flat.png")
    assert (flat["outcome"], flat["removed_by"], flat["value"]) == (
        "removed_by_threshold", LINE, pytest.approx(0, abs=0.5),
    )  # fmt: skip
    assert why.of("nothing.png") is None
    assert why.closest(filename(3).rpartition("/")[2]) == [filename(3)]
    assert filename(3) in why.closest(filename(3).replace("0", "O", 1))


def test_no_image_that_was_not_chosen_beats_the_last_pick(both):
    for why in both:
        rest = [why.of(name) for name in why.ends.embedded]
        rest = [one for one in rest if one["outcome"] == "not_chosen"]
        assert len(rest) > 5
        for one in rest:
            assert LINE not in one["objectives"]
            assert len(one["objectives"]) == 3
            assert one["product"] <= one["last_pick"]["product"] * (1 + 1e-9)
            assert one["last_pick"]["filename"] == why.filenames[-1]
            assert one["nearest_selected"] in why.filenames


def test_near_duplicates_name_what_stands_for_them(bucket, tmp_path):
    given = [*words(bucket, tmp_path, DIVERSITY), "near_duplicates.max_distance=0.05"]
    why = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    pipeline.run(load_config(given), {})
    read = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    assert why.ends.near["zz-near.png"][0] == filename(5)
    for name, (original, distance) in why.ends.near.items():
        for told in (why.of(name), read.of(name)):
            assert (told["outcome"], told["original"]) == ("near_duplicate", original)
            assert told["distance"] == pytest.approx(distance, rel=1e-6)
            assert told["original_outcome"] in ("selected", "not_chosen")


def test_sequences_tell_what_was_left_over_and_what_lost(bucket, tmp_path):
    given = [*words(bucket, tmp_path, DIVERSITY, n_samples=8), "selected_sequence_length=4"]
    live = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    pipeline.run(load_config(given), {})
    read = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    outcomes = {name: live.of(name)["outcome"] for name in live.ends.embedded}
    assert outcomes == {name: read.of(name)["outcome"] for name in read.ends.embedded}
    assert set(outcomes.values()) == {"selected", "not_chosen", "left_over"}
    for name in (name for name, outcome in outcomes.items() if outcome == "not_chosen"):
        assert live.of(name)["product"] <= live.product[-1] * (1 + 1e-9)


def test_a_method_tells_of_distances_alone(bucket, tmp_path):
    given = [f"input_dir={bucket}", f"output_dir={tmp_path}", "run_directory=r",
             "model=colour-grid", "runtime=torch", "stopping_condition.n_samples=5"]  # fmt: skip
    why = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    rest = [why.of(name) for name in why.ends.embedded]
    rest = [one for one in rest if one["outcome"] == "not_chosen"]
    assert rest
    for one in rest:
        assert "objectives" not in one
        # Farthest first: nothing that is left is farther than the last pick was.
        assert one["distance"] <= one["last_pick"]["distance"] + 1e-6


def test_the_command_takes_the_configuration_that_the_run_recorded(both, keys):
    places = [word for word in keys if word.startswith(("output_dir", "run_directory"))]
    name = both[0].filenames[2]
    shown = lightly_fs("select", *places, "--explain", name, "--explain", "zz-flat.png")
    assert shown.returncode == 0, shown.stderr
    assert "with the configuration that the run recorded" in shown.stderr
    assert f"{name}: pick 3 of 6" in shown.stdout
    assert f"zz-flat.png: removed by {LINE}, and it is 0" in shown.stdout
    lost = next(n for n in both[0].ends.embedded if both[0].of(n)["outcome"] == "not_chosen")
    told = lightly_fs("select", *places, "-q", "--explain", lost)
    assert "this one  the last pick" in told.stdout
    assert told.stderr == ""
    (one,) = json.loads(lightly_fs("select", *places, "--json", "--explain", lost).stdout)
    assert one["outcome"] == "not_chosen"
    assert one["product"] == pytest.approx(both[0].of(lost)["product"])
    unknown = lightly_fs("select", *places, "-q", "--explain", filename(3).rpartition("/")[2])
    assert unknown.returncode == 2
    assert f"did you mean `{filename(3)}`?" in unknown.stderr


def test_a_key_that_decides_results_is_never_replaced_by_a_recorded_one(both, keys, tmp_path):
    places = [word for word in keys if word.startswith(("output_dir", "run_directory"))]
    found = recorded_config(load_config(places), {})
    assert found.digest() == load_config(keys).digest()
    assert found.input_dir == load_config(keys).input_dir
    moved = recorded_config(load_config([*places, "input_dir=/elsewhere", "s3.region=x"]), {})
    assert (moved.input_dir, moved.s3.region) == ("/elsewhere", "x")
    for more in ("seed=1", "model=bundled", "stopping_condition.n_samples=5"):
        assert recorded_config(load_config([*places, more]), {}) is None
    assert recorded_config(load_config(places[:1]), {}) is None
    assert recorded_config(load_config([f"output_dir={tmp_path}", "run_directory=no"]), {}) is None
    differs = lightly_fs("select", *keys, "seed=7", "-q", "--explain", filename(3))
    assert "`seed` is 1 there and 7 now" in differs.stderr


@pytest.mark.parametrize("text", ["- a\n- b\n", "unknown_key: 1\n", "a: [\n"])
def test_a_record_that_this_version_does_not_know_is_named(tmp_path, text):
    file = tmp_path / "r/config/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ArtifactError, match=r"r/config/config.yaml is no configuration"):
        recorded_config(load_config([f"output_dir={tmp_path}", "run_directory=r"]), {})


def pool_of(rng: np.random.Generator, n: int) -> Pool:
    def unit(count: int) -> np.ndarray:
        made = rng.normal(size=(count, 4))
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, n))]).astype(np.int64)
    given = {
        "images": Embeddings(unit(n)),
        "objects": ObjectEmbeddings(unit(int(offsets[-1])), offsets),
        "number": Numeric(rng.uniform(size=n)),
        "classes": Distributions(("a", "b", "c"), rng.integers(0, 3, (n, 3)).astype(float)),
    }
    return Pool([f"{i:03d}" for i in range(n)], given)


CHOICES = (
    engine.Diversity("images"),
    engine.Diversity("objects", 0.5),
    engine.Weights("number", 0.7),
    engine.Weights("number", 1.0, None, (1.0, 3.0)),
    engine.Balance("classes", engine.Goal.UNIFORM, {}, 1.0),
    engine.Typicality("images", 3),
    engine.Representativeness("images", 0.5),
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 30),
    st.integers(1, 8),
    st.sets(st.integers(0, len(CHOICES) - 1), min_size=1, max_size=4),
)
def test_objectives_at_the_last_pick_are_those_that_the_engine_saw(seed, n, k, places):
    pool = pool_of(np.random.default_rng(seed), n)
    given_ = [CHOICES[place] for place in sorted(places)]
    chosen = choose(pool, given_, engine.Limits(min(k, n)))
    if len(chosen.indices) < min(k, n):
        return  # a range of sums ended it
    found = objectives_at_last(pool, given_, chosen.indices)
    assert found.shape == (n, len(given_))
    last = found[chosen.indices[-1]]
    np.testing.assert_allclose(last, chosen.objectives[-1], rtol=1e-6)
    strengths = np.array([one.strength for one in given_])
    products = np.prod(found**strengths, axis=1)
    rest = np.setdiff1d(np.arange(n), chosen.indices)
    if not any(isinstance(one, engine.Weights) and one.target_range for one in given_):
        assert (products[rest] <= products[chosen.indices[-1]] * (1 + 1e-6)).all()


def test_images_of_another_run_are_refused_with_their_names_after_the_others_are_told(both, capsys):
    result = pipeline.RunResult(Path("r"), "r", why=both[0])
    known = both[0].filenames[0]
    with pytest.raises(ConfigError, match=r"no image `street/none\.png`.*\n.*no image `x`"):
        print_reasons(result, ["street/none.png", known, "x"], as_json=False)
    assert capsys.readouterr().out.startswith(f"{known}: pick 1 of ")
