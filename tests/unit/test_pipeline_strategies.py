"""A run with `selection_config`: every input of the bucket reaches the strategies."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.csv as pv
import pytest

from lightly_fs import pipeline
from lightly_fs.artifacts import read_list
from lightly_fs.config import load_config
from lightly_fs.errors import (
    ArtifactError,
    ConfigError,
    DatasourceError,
    LightlyFSError,
    ModelError,
)
from lightly_fs.types import Stage
from tests.unit.annotated import N, cars, draw, filename, temperature
from tests.unit.cli.command import lightly_fs

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=8", "batch_size=8")
EMBEDDINGS = {"type": "EMBEDDINGS"}
COUNT = {"type": "PREDICTIONS", "task": "boxes", "name": "CATEGORY_COUNT", "categories": ["car"]}
DIVERSITY = {"input": EMBEDDINGS, "strategy": {"type": "DIVERSITY"}}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("bucket"))


def words(bucket: Path, output: Path, *entries: dict, **keys: object) -> list[str]:
    given = {"n_samples": 6, "strategies": list(entries), **keys}
    if "proportion_samples" in given:
        del given["n_samples"]
    return [
        f"input_dir={bucket}",
        f"output_dir={output}",
        "run_directory=r",
        f"selection_config={json.dumps(given)}",
        *QUICK,
    ]


def select(bucket: Path, output: Path, *entries: dict, more: tuple[str, ...] = (), **keys: object):
    config = load_config([*words(bucket, output, *entries, **keys), *more])
    return pipeline.run(config, {}, until=Stage.SELECT)


def index_of(name: str) -> int:
    return int(name[-7:-4])


def entry(given: dict, **strategy: object) -> dict:
    return {"input": given, "strategy": strategy}


def metadata(key: str) -> dict:
    return {"type": "METADATA", "key": key}


def test_diversity_alone_is_what_coreset_is(bucket, tmp_path):
    strategies = select(bucket, tmp_path / "a", DIVERSITY)
    config = load_config(
        [
            f"input_dir={bucket}",
            f"output_dir={tmp_path / 'b'}",
            "stopping_condition.n_samples=6",
            *QUICK,
        ]
    )
    assert list(strategies.selected) == list(pipeline.run(config, {}, until=Stage.SELECT).selected)


def test_numbers_of_the_metadata_weigh_and_limit(bucket, tmp_path):
    warm = entry(metadata("weather.temperature"), type="WEIGHTS")
    cold = entry(
        metadata("weather.temperature"), type="THRESHOLD", threshold=20, operation="SMALLER"
    )
    found = select(bucket, tmp_path, warm, cold)
    expected = sorted((t for t in map(temperature, range(N)) if t < 20), reverse=True)[:6]
    assert [temperature(index_of(name)) for name in found.selected] == expected


def test_labels_of_the_metadata_are_balanced(bucket, tmp_path):
    weather = entry(metadata("weather.kind"), type="BALANCE", distribution="UNIFORM")
    kinds = Counter(_weather(name) for name in select(bucket, tmp_path, weather).selected)
    assert kinds == {"rain": 2, "sun": 2, "snow": 2}


def _weather(name: str) -> str:
    index = index_of(name)
    return ("rain", "sun", "snow")[index % 3 if index < 6 else 0]


def test_measured_properties_are_metadata_too(bucket, tmp_path):
    sharp = entry(metadata("lightly.sharpness"), type="WEIGHTS")
    result = select(bucket, tmp_path, sharp, n_samples=-1)
    config = load_config(words(bucket, tmp_path, sharp, n_samples=-1))
    pipeline.run(config, {})
    table = _parquet(tmp_path / "r/data/embeddings.parquet")
    by_sharpness = sorted(table, key=lambda row: -row["sharpness"])
    assert list(result.selected) == [row["filename"] for row in by_sharpness]


def _parquet(path: Path) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_categories_are_counted(bucket, tmp_path):
    count = {
        "type": "PREDICTIONS",
        "task": "boxes",
        "name": "CATEGORY_COUNT",
        "categories": ["car"],
    }
    found = select(bucket, tmp_path, entry(count, type="WEIGHTS"))
    assert [cars(index_of(name)) for name in found.selected] == [3] * 6


def test_classes_are_balanced_to_a_target(bucket, tmp_path):
    classes = {"type": "PREDICTIONS", "task": "boxes", "name": "CLASS_DISTRIBUTION"}
    found = select(
        bucket, tmp_path, entry(classes, type="BALANCE", target={"person": 0.5, "car": 0.5})
    )
    objects = [(index % 2, cars(index)) for index in map(index_of, found.selected)]
    persons, vehicles = map(sum, zip(*objects, strict=True))
    assert abs(persons - vehicles) <= 2  # an image brings several at once


def test_scores_weigh_and_are_written(bucket, tmp_path):
    score = {"type": "SCORES", "task": "kind", "score": "uncertainty_margin"}
    config = load_config(words(bucket, tmp_path, entry(score, type="WEIGHTS")))
    pipeline.run(config, {})
    selected = read_list(tmp_path / "r/filenames/sampled_filenames_excluding_datapool.txt")
    assert [index_of(name) for name in selected] == list(range(6))  # the least certain ones
    table = pv.read_csv(tmp_path / "r/data/al_score_embeddings.csv")
    assert table.column_names[0] == "filenames"
    assert table.column_names[-2:] == ["al_score", "labels"]
    assert len(table) == N
    assert np.all(np.diff(table["al_score"].to_numpy()) < 0)


def test_random_numbers_are_those_of_their_seed(bucket, tmp_path):
    def drawn(name: str, seed: int) -> list[str]:
        given = entry({"type": "RANDOM", "random_seed": seed}, type="WEIGHTS")
        return list(select(bucket, tmp_path / name, given).selected)

    assert drawn("a", 1) == drawn("b", 1) != drawn("c", 2)


def test_objects_and_tiles_are_embedded_and_written(bucket, tmp_path):
    objects = entry({"type": "EMBEDDINGS", "task": "boxes"}, type="DIVERSITY")
    tiles = entry({"type": "EMBEDDINGS", "task": "tiles"}, type="TYPICALITY")
    tiling = [{"type": "TILING", "name": "tiles", "num_rows": 1, "num_cols": 2}]
    config = load_config(words(bucket, tmp_path, objects, tiles, auto_tasks=tiling))
    pipeline.run(config, {})
    selected = read_list(tmp_path / "r/filenames/sampled_filenames_excluding_datapool.txt")
    there = {path.name for path in (tmp_path / "r/data/crops/boxes/street").iterdir()}
    expected = sum(cars(i) + i % 2 for i in map(index_of, selected))
    assert len(there) == expected
    assert len(list((tmp_path / "r/data/crops/tiles/street").iterdir())) == 2 * len(selected)
    names = {p.relative_to(tmp_path / "r").parts[0] for p in (tmp_path / "r").rglob("*")}
    assert not {name for name in names if "parts" in name}


def test_similarity_follows_the_embeddings_of_another_run(bucket, tmp_path):
    first = words(bucket, tmp_path / "a", DIVERSITY, n_samples=2)
    pipeline.run(load_config(first), {})
    query = "a/r/data/selected_embeddings.csv"
    like = entry({**EMBEDDINGS, "query": query}, type="SIMILARITY")
    found = select(bucket, tmp_path / "b", like, more=(f"shared_dir={tmp_path}",), n_samples=2)
    selected = read_list(tmp_path / "a/r/filenames/sampled_filenames_excluding_datapool.txt")
    assert sorted(found.selected) == sorted(selected)
    (tmp_path / "short.csv").write_text("filenames,embedding_0,labels\na,1,0\n")
    short = entry({**EMBEDDINGS, "query": "short.csv"}, type="SIMILARITY")
    with pytest.raises(ModelError, match="embeddings of 1 values"):
        select(bucket, tmp_path / "c", short, more=(f"shared_dir={tmp_path}",))


def test_near_duplicates_are_removed_and_named(bucket, tmp_path):
    result = select(bucket, tmp_path, DIVERSITY, n_samples=-1)
    assert len(result.selected) == N
    most = float(np.sort(result.why.distances)[1])  # so that some pair is as near as this
    given = words(bucket, tmp_path / "b", DIVERSITY, n_samples=-1)
    config = load_config([*given, f"near_duplicates.max_distance={most}"])
    done = pipeline.run(config, {})
    table = pv.read_csv(tmp_path / "b/r/data/near_duplicates.csv").to_pylist()
    assert table
    assert all(row["distance"] <= most for row in table)
    assert all(row["original"] < row["filename"] for row in table)
    assert done.counts.selected == N - len(table)
    assert done.counts.check() is None


def test_sequences_are_selected_whole(bucket, tmp_path):
    config = load_config(
        [*words(bucket, tmp_path, DIVERSITY, n_samples=8), "selected_sequence_length=4"]
    )
    done = pipeline.run(config, {})
    found = json.loads((tmp_path / "r/data/sequence_information.json").read_text())
    assert [len(one["filenames"]) for one in found] == [4, 4]
    for one in found:
        first = index_of(one["filenames"][0])
        assert one["filenames"] == [filename(first + step) for step in range(4)]
    assert done.counts.selected == 8
    assert done.counts.check() is None


def test_typicality_of_sequences_reaches_the_report(bucket, tmp_path):
    typical = entry(EMBEDDINGS, type="TYPICALITY", num_nearest_neighbors=2)
    config = load_config([*words(bucket, tmp_path, typical), "selected_sequence_length=3"])
    assert pipeline.run(config, {}).counts.selected == 6


def test_strategies_that_read_the_same_keep_a_column_each(bucket, tmp_path):
    apart = entry(EMBEDDINGS, type="DIVERSITY", stopping_condition_minimum_distance=0.01)
    config = load_config(words(bucket, tmp_path, DIVERSITY, apart))
    pipeline.run(config, {})
    table = pv.read_csv(tmp_path / "r/data/selection_objectives.csv")
    lines = ["DIVERSITY of EMBEDDINGS", "DIVERSITY of EMBEDDINGS (2)"]
    assert table.column_names == ["filename", "distance", *lines, "product"]
    assert pipeline.run(config, {}, until=Stage.SELECT).why.strategies == lines


def test_every_pick_is_explained(bucket, tmp_path):
    warm = entry(metadata("weather.temperature"), type="WEIGHTS", strength=0.5)
    given = words(bucket, tmp_path, DIVERSITY, warm)
    why = pipeline.run(load_config(given), {}, until=Stage.SELECT).why
    assert why.strategies == (
        ["DIVERSITY of EMBEDDINGS", "WEIGHTS of METADATA weather.temperature, strength 0.5"]
    )
    np.testing.assert_allclose(why.product, why.objectives[:, 0] * why.objectives[:, 1] ** 0.5)
    finished = pipeline.run(load_config(given), {})
    again = pipeline.run(load_config(given), {}, until=Stage.SELECT)
    assert finished.counts.selected == 6
    assert again.was_complete
    assert list(again.selected) == list(why.filenames)
    np.testing.assert_allclose(again.why.objectives, why.objectives)
    np.testing.assert_allclose(again.why.product, why.product)
    name = why.filenames[2]
    shown = lightly_fs("select", *given, "--explain", name)
    assert shown.returncode == 0, shown.stderr
    assert f"{name}: pick 3 of 6" in shown.stdout
    assert "WEIGHTS of METADATA weather.temperature, strength 0.5" in shown.stdout
    (told,) = json.loads(lightly_fs("select", *given, "--json", "--explain", name).stdout)
    assert told["objectives"]["DIVERSITY of EMBEDDINGS"] == pytest.approx(why.objectives[2, 0])
    refused = lightly_fs("select", *given, "--explain", "street/none.png")
    assert refused.returncode == 2
    assert "the run has no image `street/none.png`" in refused.stderr


MISTAKES = [
    (entry(metadata("weather.temperatur"), type="WEIGHTS"), "did you mean `weather.temperature`?"),
    (entry(metadata("lightly.sharpnes"), type="WEIGHTS"), "did you mean `lightly.sharpness`?"),
    (entry(metadata("weather.kind"), type="WEIGHTS"), "WEIGHTS needs a number"),
    (entry(metadata("weather.temperature"), type="BALANCE", distribution="INPUT"),
     "BALANCE needs"),
    (entry({"type": "EMBEDDINGS", "task": "kind"}, type="DIVERSITY"), "no objects to cut out"),
    (entry({"type": "EMBEDDINGS", "task": "boxs"}, type="DIVERSITY"), "only `boxes`, `kind`"),
    (entry({"type": "EMBEDDINGS", "task": "lightly_pretagging"}, type="DIVERSITY"),
     "no pretagging"),
    (entry({"type": "SCORES", "task": "kind", "score": "margin"}, type="WEIGHTS"), "no score"),
    (entry({**COUNT, "categories": ["carr"]}, type="WEIGHTS"), "did you mean `car`?"),
    (entry({"type": "PREDICTIONS", "task": "boxes", "name": "CLASS_DISTRIBUTION"},
           type="BALANCE", target={"bike": 0.5}), "there is no category of `boxes` `bike`"),
    (entry({**EMBEDDINGS, "query": "nope.csv"}, type="SIMILARITY"), "to be similar to"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words_"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_mistake_in_an_input_shows_before_an_image_is_read(bucket, tmp_path, given, words_):
    with pytest.raises((ConfigError, DatasourceError)) as caught:
        select(bucket, tmp_path, given)
    assert words_ in f"{caught.value.message} {caught.value.hint}"
    assert not list(tmp_path.rglob("*.parquet")), "something was written"


def test_a_score_that_the_predictions_do_not_give_is_refused(bucket, tmp_path):
    score = {"type": "SCORES", "task": "boxes", "score": "uncertainty_margin"}
    with pytest.raises(ConfigError, match="have no `probabilities`"):
        select(bucket, tmp_path, entry(score, type="WEIGHTS"))


@pytest.mark.parametrize("content", ["filenames,embedding_0,labels\n", "x\n", "\0\1"])
def test_a_query_that_is_none_shows_before_an_image_is_read(bucket, tmp_path, content):
    (tmp_path / "q.csv").write_text(content)
    like = entry({**EMBEDDINGS, "query": "q.csv"}, type="SIMILARITY")
    with pytest.raises(ModelError, match=r"q\.csv"):
        select(bucket, tmp_path / "o", like, more=(f"shared_dir={tmp_path}",))
    assert not list((tmp_path / "o").rglob("*.parquet"))


def test_sequences_longer_than_everything_show_before_an_image_is_read(bucket, tmp_path):
    with pytest.raises(ConfigError, match="25"):
        select(bucket, tmp_path, DIVERSITY, more=("selected_sequence_length=25",), n_samples=25)
    assert not list(tmp_path.rglob("*.parquet"))


def test_objects_need_a_model(bucket, tmp_path):
    (tmp_path / "e.csv").write_text("filenames,embedding_0,labels\nstreet/000.png,1,0\n")
    objects = entry({"type": "EMBEDDINGS", "task": "boxes"}, type="DIVERSITY")
    with pytest.raises(LightlyFSError, match="cannot be embedded by a CSV"):
        select(bucket, tmp_path / "o", objects, more=("embeddings=e.csv", f"shared_dir={tmp_path}"))


def test_invalid_annotation_files_are_named_and_the_run_goes_on(tmp_path):
    bucket = draw(tmp_path / "bucket")
    (bucket / ".lightly/predictions/boxes/street/003.json").write_text('{"predictions": [5]}')
    (bucket / ".lightly/metadata/street/004.json").write_text("{")
    classes = {"type": "PREDICTIONS", "task": "boxes", "name": "CLASS_DISTRIBUTION"}
    given = words(
        bucket,
        tmp_path / "out",
        entry(classes, type="BALANCE", distribution="UNIFORM"),
        entry(metadata("weather.temperature"), type="WEIGHTS"),
    )
    pipeline.run(load_config(given), {})
    invalid = pv.read_csv(tmp_path / "out/r/data/invalid_annotations.csv").to_pylist()
    assert [row["path"] for row in invalid] == [
        ".lightly/metadata/street/004.json",
        ".lightly/predictions/boxes/street/003.json",
    ]
    assert all(row["reason"] for row in invalid)


def warned(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]


def test_annotations_of_nothing_are_counted_and_the_first_is_named(tmp_path, caplog):
    bucket = draw(tmp_path / "bucket")
    source = (bucket / ".lightly/predictions/boxes/street/003.json").read_text()
    for name in ("predictions/boxes/streets/003", "predictions/boxes/street/0003", "metadata/x"):
        path = bucket / f".lightly/{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source.replace("street/003.png", f"{name}.png"))
    # A duplicate has no vote, and its files are not lost.
    shutil.copy(bucket / "street/003.png", bucket / "street/copy.png")
    shutil.copy(
        bucket / ".lightly/metadata/street/003.json", bucket / ".lightly/metadata/street/copy.json"
    )
    count = len([*(bucket / ".lightly/predictions/boxes").rglob("*.json")]) - 1
    described = len([*(bucket / ".lightly/metadata").rglob("*.json")]) - 1
    entries = (
        entry(COUNT, type="WEIGHTS"),
        entry(metadata("weather.temperature"), type="WEIGHTS"),
    )

    select(bucket, tmp_path / "out", *entries)

    told = [line for line in warned(caplog) if "of this run" in line]
    assert told == [
        f"2 of {count} prediction files of `boxes` name no image or frame of this run, "
        "the first is `.lightly/predictions/boxes/street/0003.json`",
        f"1 of {described} metadata files names no image or frame of this run, "
        "the first is `.lightly/metadata/x.json`",
    ]
    caplog.clear()
    (tmp_path / "r.txt").write_text("street/00*\n")
    more = ("relevant_filenames_file=r.txt", f"shared_dir={tmp_path}")
    select(bucket, tmp_path / "relevant", *entries, more=more)
    assert not [line for line in warned(caplog) if "of this run" in line]


def test_a_fraction_that_rounds_to_nothing_is_named(bucket, tmp_path, caplog):
    select(bucket, tmp_path / "out", DIVERSITY, proportion_samples=0.01)

    (told,) = [line for line in warned(caplog) if line.startswith("nothing was selected")]
    assert f"selection_config.proportion_samples=0.01 of {N} rounds down to 0; give a whole" in told


def test_another_selection_is_named_first(bucket, tmp_path):
    select(bucket, tmp_path / "out", DIVERSITY)
    words_ = [f"input_dir={bucket}", f"output_dir={tmp_path / 'out'}", "run_directory=r", *QUICK]
    pipeline.run(load_config(words(bucket, tmp_path / "out", DIVERSITY)), {})

    with pytest.raises(ArtifactError, match=r"selection: `selection_config` is {.* there and None"):
        pipeline.run(load_config([*words_, "stopping_condition.n_samples=3"]), {})
