"""The whole run on a plain directory: the sums, resuming, refusing, and what is left."""

import hashlib
import json
from pathlib import Path

import pytest

from lightly_fs import pipeline
from lightly_fs.artifacts import read_list
from lightly_fs.config import load_config
from lightly_fs.errors import (
    ArtifactError,
    DatasourceError,
    ModelError,
    NoUsableSampleError,
    TooManyFailuresError,
)
from lightly_fs.types import Stage

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=8", "batch_size=8")


def run_on(images: Path, output: Path, *words: str, until: Stage = Stage.REPORT):
    output.mkdir(exist_ok=True)
    config = load_config([f"input_dir={images}", f"output_dir={output}", *QUICK, *words])
    return pipeline.run(config, {}, until=until)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """One finished run that several tests look at."""
    output = tmp_path_factory.mktemp("finished")
    return run_on(images, output, "run_directory=r", "stopping_condition.n_samples=0.5")


def listed(result, name: str) -> list[str]:
    return read_list(result.directory / "filenames" / f"{name}_filenames.txt")


def test_the_sums_hold_and_every_image_is_in_one_list(images, finished):
    selected = read_list(
        finished.directory / "filenames" / "sampled_filenames_excluding_datapool.txt"
    )
    names = ("corrupt", "gone", "failed", "unreadable", "duplicate", "removed")
    ended = [name for kind in names for name in listed(finished, kind)] + selected
    there = [
        path.relative_to(images).as_posix()
        for path in images.rglob("*")
        if path.is_file() and path.suffix != ".txt"
    ]

    assert sorted(there) == sorted(ended)
    assert finished.counts.check() is None
    assert (29, 26, 3, 2, 12) == (
        finished.counts.inventory,
        finished.counts.embedded,
        finished.counts.corrupt,
        finished.counts.duplicate,
        finished.counts.selected,
    )


def test_what_is_corrupt_or_double_is_named_with_its_reason(finished):
    failures = (finished.directory / "data" / "failures.csv").read_text()

    assert ["corrupt_empty.png", "corrupt_text.webp", "corrupt_truncated.jpg"] == listed(
        finished, "corrupt"
    )
    assert ["zz_copy_2_of_000.JPG", "zz_copy_of_000.jpg"] == listed(finished, "duplicate")
    assert all(word in failures for word in ("empty", "truncated", "not an image"))


def test_the_documented_tree_is_there(finished):
    names = {
        path.relative_to(finished.directory).as_posix()
        for path in finished.directory.rglob("*")
        if path.is_file()
    }

    assert {
        "config/config.yaml",
        "config/hydra.yaml",
        "config/overrides.yaml",
        "data/embeddings.csv",
        "data/embeddings.parquet",
        "data/selected_embeddings.csv",
        "filenames/corrupt_filenames.txt",
        "filenames/duplicate_filenames.txt",
        "filenames/removed_filenames.txt",
        "filenames/sampled_filenames_excluding_datapool.txt",
        "plots/distance_distr_before.png",
        "plots/distance_distr_after.png",
        "plots/scatter_pca.png",
        "log.txt",
        "memlog.txt",
        "report.pdf",
        "report.html",
        "report_v2.json",
        "corruptness_check_information.json",
        "manifest.json",
    } <= names
    assert not [name for name in names if name.startswith("parts/") or name.endswith(".lock.json")]


def test_a_finished_run_is_left_alone(images, finished):
    before = (finished.directory / "manifest.json").stat().st_mtime_ns

    again = run_on(
        images, finished.directory.parent, "run_directory=r", "stopping_condition.n_samples=0.5"
    )

    assert again.was_complete
    assert again.counts == finished.counts
    assert (finished.directory / "manifest.json").stat().st_mtime_ns == before


def test_another_configuration_is_refused_and_named(images, finished):
    with pytest.raises(ArtifactError, match=r"stopping_condition\.n_samples") as caught:
        run_on(images, finished.directory.parent, "run_directory=r")

    assert caught.value.exit_code == 6


def test_a_changed_inventory_is_refused(images, finished, tmp_path):
    other = tmp_path / "images"
    other.mkdir()
    (other / "one.jpg").write_bytes((images / "folder_0" / "scene_000.jpg").read_bytes())

    with pytest.raises(ArtifactError, match="inventory"):
        run_on(
            other, finished.directory.parent, "run_directory=r", "stopping_condition.n_samples=0.5"
        )


def digests(directory: Path) -> dict[str, str]:
    """Hash what must not depend on interruptions: data, lists and the report's analysis."""
    found = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "filenames")
        for path in (directory / folder).rglob("*")
        if path.is_file()
    }
    report = json.loads((directory / "report_v2.json").read_text())
    found["datasetAnalysis"] = json.dumps(report["datasetAnalysis"])
    return found


@pytest.mark.parametrize("stage", [Stage.LIST, Stage.EMBED, Stage.SELECT])
def test_stopping_after_a_stage_and_going_on_ends_the_same(images, finished, tmp_path, stage):
    words = ("run_directory=r", "stopping_condition.n_samples=0.5")
    first = run_on(images, tmp_path / "out", *words, until=stage)
    assert not (first.directory / "manifest.json").exists()

    second = run_on(images, tmp_path / "out", *words)

    assert digests(finished.directory) == digests(second.directory)


def test_the_select_stage_gives_the_filenames_best_first(images, finished, tmp_path):
    result = run_on(
        images, tmp_path / "out", "stopping_condition.n_samples=0.5", until=Stage.SELECT
    )

    assert list(finished.selected) == list(result.selected)


def test_neither_shards_nor_batches_change_an_embedding(images, finished, tmp_path):
    config = load_config(
        [
            f"input_dir={images}",
            f"output_dir={tmp_path}",
            *QUICK[:2],
            "shard_size=29",
            "run_directory=r",
            "stopping_condition.n_samples=0.5",
            "batch_size=5",
            "num_threads=1",
        ]
    )

    result = pipeline.run(config, {})

    assert (finished.directory / "data/embeddings.csv").read_bytes() == (
        result.directory / "data/embeddings.csv"
    ).read_bytes()


def test_too_many_failures_stop_the_run_and_raising_the_limit_resumes_it(images, tmp_path):
    words = ("run_directory=r", "stopping_condition.n_samples=3")
    with pytest.raises(TooManyFailuresError, match="max_failures=1"):
        run_on(images, tmp_path / "out", *words, "max_failures=1")

    result = run_on(images, tmp_path / "out", *words, "max_failures=3", until=Stage.SELECT)

    assert len(result.selected) == 3


def test_nothing_usable_is_an_error_with_the_reasons(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"no")

    with pytest.raises(NoUsableSampleError, match="not an image"):
        run_on(tmp_path / "in", tmp_path / "out", "run_directory=r")


def test_no_images_is_an_error_that_names_the_directory(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")

    with pytest.raises(DatasourceError, match=str(tmp_path / "in")):
        run_on(tmp_path / "in", tmp_path / "out", "run_directory=r")


@pytest.mark.parametrize(
    "words", [("run_directory=day/hour",), (), ("model=colour-gird", "run_directory=r")]
)
def test_a_run_that_cannot_begin_leaves_nothing(images, tmp_path, words):
    (tmp_path / "in").mkdir()
    images = images if len(words) == 2 else tmp_path / "in"

    with pytest.raises((DatasourceError, ModelError)):
        run_on(images, tmp_path / "out", *words)

    assert list((tmp_path / "out").iterdir()) == []


def test_what_lay_in_the_output_stays_when_a_run_cannot_begin(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out" / "day" / "other").mkdir(parents=True)

    with pytest.raises(DatasourceError):
        run_on(tmp_path / "in", tmp_path / "out", "run_directory=day/hour")

    assert [path.name for path in (tmp_path / "out" / "day").iterdir()] == ["other"]


def test_loading_the_model_is_no_part_of_listing(images, tmp_path):
    result = run_on(images, tmp_path / "out", until=Stage.EMBED)
    assert list(result.timings) == [Stage.LIST, Stage.MODEL, Stage.EMBED]
    assert result.timings[Stage.LIST].samples == 29


@pytest.mark.parametrize(("form", "suffix"), [("original", ".jpg"), ("png", ".png")])
def test_selected_images_are_copied(images, tmp_path, form, suffix):
    result = run_on(
        images,
        tmp_path / "out",
        "run_directory=r",
        "stopping_condition.n_samples=2",
        "dump_dataset=True",
        f"output_image_format={form}",
    )

    copies = [path for path in (result.directory / "data/sampled").rglob("*") if path.is_file()]
    assert [suffix, suffix] == [path.suffix.lower() for path in copies]
    if form == "original":
        for copy in copies:
            source = images / copy.relative_to(result.directory / "data/sampled")
            assert source.read_bytes() == copy.read_bytes()


def test_input_and_output_may_be_the_same_directory(images, tmp_path):
    shared = tmp_path / "both"
    shared.mkdir()
    for index in range(3):
        name = f"scene_{index:03d}.jpg"
        (shared / name).write_bytes((images / f"folder_{index}" / name).read_bytes())
    words = ("run_directory=r", "dump_dataset=True", "output_image_format=original")
    first = run_on(shared, shared, *words)

    again = run_on(shared, shared, *words)
    second = run_on(shared, shared, "run_directory=s", "dump_dataset=True")

    assert (3, 3) == (first.counts.inventory, second.counts.inventory)
    assert again.was_complete


def test_failures_of_an_interrupted_run_count_when_it_is_resumed(images, tmp_path):
    run_on(images, tmp_path, "run_directory=r", until=Stage.EMBED)

    with pytest.raises(TooManyFailuresError, match="max_failures=2"):
        run_on(images, tmp_path, "run_directory=r", "max_failures=2")
