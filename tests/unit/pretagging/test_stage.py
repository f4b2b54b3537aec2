"""The pretag stage on a plain directory: what it leaves, what it resumes, what it refuses."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightly_fs.annotations.predictions import category_count, class_distribution
from lightly_fs.annotations.scores import active_learning_scores
from lightly_fs.artifacts import RunDir
from lightly_fs.config import load_config
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.lock import locked
from lightly_fs.datasource.output import Output
from lightly_fs.datasource.source import open_source
from lightly_fs.errors import ConfigError, ModelError, NoUsableSampleError, TooManyFailuresError
from lightly_fs.pipeline import pretagging
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.pretagging import check_pretagging, forget_parts, pretag
from lightly_fs.types import Stage, silent
from tests.images import jpeg, scene
from tests.unit.pretagging.detectors import SSDLITE

CONFIG = {"model": SSDLITE, "weights": "ssdlite.pth", "min_score": 0.6, "max_boxes": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    for number in range(10):
        path = folder / f"{'ab'[number % 2]}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(scene(number, 400, 300)))
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(pretagging, "SAMPLES_PER_PART", 4)


@contextmanager
def opened(folder: Path, shared: Path, root: Path, *words: str, progress=silent, **pretags):
    """One process of a run: everything that comes before the stage."""
    (shared / "pretag.json").write_text(json.dumps({**CONFIG, **pretags}))
    staging, out = root / "staging", root / "out"
    shutil.rmtree(staging, ignore_errors=True)
    for directory in (staging, out):
        directory.mkdir(parents=True, exist_ok=True)
    keys = [f"input_dir={folder}", f"output_dir={out}", f"shared_dir={shared}", "run_directory=r"]
    own = ["pretagging=True", "pretagging_config=pretag.json", "device=cpu"]
    config = load_config([*keys, *own, *words])
    output = Output(out, None)
    with open_source(config, {}) as source:
        run_dir = RunDir.open(output, config, staging)
        with locked(output, run_dir.folder) as lease:
            inventory = freeze(source, output=output.location)
            run_dir.freeze(inventory)
            reader = DirectoryReader(folder)
            yield RunContext(
                *(config, {}, staging, source, run_dir, lease, reader, inventory, progress)
            )
            reader.close()
    output.close()


def names_of(this: RunContext) -> list[str]:
    return this.inventory.table["filename"].to_pylist()


def kept_parts(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "out" / "r" / "pretags").glob("*"))


@pytest.fixture(scope="module")
def finished(folder, shared, tmp_path_factory):
    """A stage that ran to its end, with pictures."""
    root = tmp_path_factory.mktemp("finished")
    told = []
    before = pretagging.SAMPLES_PER_PART
    pretagging.SAMPLES_PER_PART = 4
    words = ("pretagging_debug=True",)
    progress = lambda *call: told.append(call)  # noqa: E731
    with opened(folder, shared, root, *words, progress=progress) as this:
        predictions = pretag(this, names_of(this))
        timing = this.timings[Stage.PRETAG]
    pretagging.SAMPLES_PER_PART = before
    return root, predictions, told, timing


def test_the_predictions_are_a_task_that_a_selection_can_use(finished):
    _, predictions, _, timing = finished
    assert predictions.schema.name == "lightly_pretagging"
    assert predictions.predicted.all()
    assert len(predictions) == timing.samples == 10
    assert len(predictions.scores) > 10
    assert np.diff(predictions.offsets).max() <= 5
    assert ((predictions.scores >= 0.6) & (predictions.scores <= 1)).all()
    assert (predictions.boxes >= 0).all()
    assert (predictions.boxes[:, :2] + predictions.boxes[:, 2:] <= [400, 300]).all()
    counts = class_distribution(predictions).sum(axis=1)
    assert np.array_equal(counts, np.diff(predictions.offsets))
    names = predictions.schema.category_names
    assert category_count(predictions, names).sum() == len(predictions.scores)


def test_no_probabilities_are_made_up(finished):
    _, predictions, _, _ = finished
    assert not len(predictions.probability_rows)
    scores = active_learning_scores(predictions)
    assert set(scores) == {"objectness_least_confidence", "object_frequency"}


def test_the_boxes_are_written_as_documented(finished):
    root, predictions, _, _ = finished
    boxes = json.loads((root / "staging" / "data" / "bounding_boxes.json").read_text())
    assert [one["filename"] for one in boxes] == predictions.filenames
    for row, one in enumerate(boxes):
        assert set(one) == {"filename", "boxes", "labels", "scores"}
        places = predictions.categories[predictions.of(row)]
        assert one["labels"] == [predictions.schema.category_names[place] for place in places]
        assert one["scores"] == predictions.scores[predictions.of(row)].tolist()
        given = predictions.boxes[predictions.of(row)]
        corners = np.array(one["boxes"]).reshape(-1, 4) * [400, 300, 400, 300]
        np.testing.assert_allclose(corners[:, :2], given[:, :2], atol=1e-9)
        np.testing.assert_allclose(corners[:, 2:] - corners[:, :2], given[:, 2:], atol=1e-9)


def test_the_detector_is_recorded_and_nothing_failed(finished):
    root, _, _, _ = finished
    record = json.loads((root / "staging" / "config" / "pretagging.json").read_text())
    assert (record["model"], record["min_score"]) == (f"torchvision/{SSDLITE}", 0.6)
    failures = (root / "staging" / "data" / "pretagging_failures.csv").read_text()
    assert failures == "filename,outcome,reason\n"


def test_debug_draws_the_boxes(finished):
    root, predictions, _, _ = finished
    pictures = root / "staging" / "data" / "bounding_boxes_examples"
    found = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.jpg"))
    some = np.diff(predictions.offsets) > 0
    assert found == [name for name, any_ in zip(predictions.filenames, some, strict=True) if any_]
    for name in found:
        with Image.open(pictures / name) as picture:
            assert picture.size == (400, 300)


def test_the_progress_ends_with_all_samples_and_says_what_was_found(finished):
    _, predictions, told, _ = finished
    assert {call[0] for call in told} == {Stage.PRETAG}
    done = [call[1] for call in told]
    assert done == sorted(done)
    assert told[-1][1:] == (10, 10, f"{len(predictions.scores):,} objects")


def test_without_debug_nothing_is_drawn(folder, shared, tmp_path):
    with opened(folder, shared, tmp_path) as this:
        pretag(this, names_of(this)[:2])
    assert not (tmp_path / "staging" / "data" / "bounding_boxes_examples").exists()


def same(root: Path, other: Path, predictions, others) -> None:
    for name in ("data/bounding_boxes.json", "config/pretagging.json"):
        assert (root / "staging" / name).read_bytes() == (other / "staging" / name).read_bytes()
    for column in ("offsets", "categories", "scores", "boxes", "predicted"):
        assert np.array_equal(getattr(predictions, column), getattr(others, column))


def test_a_killed_stage_goes_on_where_it_was(finished, folder, shared, tmp_path):
    whole, expected, _, _ = finished

    def killed(stage, done, total, note=""):
        if done > 4:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        opened(folder, shared, tmp_path, "pretagging_debug=True", progress=killed) as this,
    ):
        pretag(this, names_of(this))
    (first,) = kept_parts(tmp_path)
    with opened(folder, shared, tmp_path, "pretagging_debug=True") as this:
        predictions = pretag(this, names_of(this))
        assert this.timings[Stage.PRETAG].samples == 6
    assert kept_parts(tmp_path)[0] == first
    assert len(kept_parts(tmp_path)) == 3
    same(whole, tmp_path, expected, predictions)
    with opened(folder, shared, tmp_path, "pretagging_debug=True") as this:
        forget_parts(this.run_dir)
    assert not kept_parts(tmp_path)


def test_a_torn_part_is_made_again(finished, folder, shared, tmp_path):
    whole, expected, _, _ = finished
    with opened(folder, shared, tmp_path) as this:
        pretag(this, names_of(this))
    before = kept_parts(tmp_path)
    part = tmp_path / "out" / "r" / "pretags" / before[1]
    part.write_bytes(part.read_bytes()[:100])
    with opened(folder, shared, tmp_path) as this:
        predictions = pretag(this, names_of(this))
        assert this.timings[Stage.PRETAG].samples == 4
    assert kept_parts(tmp_path) == before
    same(whole, tmp_path, expected, predictions)


def test_what_another_detector_found_is_not_used(folder, shared, tmp_path):
    with opened(folder, shared, tmp_path) as this:
        pretag(this, names_of(this))
    before = kept_parts(tmp_path)
    with opened(folder, shared, tmp_path, min_score=0.7) as this:
        predictions = pretag(this, names_of(this))
        assert this.timings[Stage.PRETAG].samples == 10
    assert not set(before) & set(kept_parts(tmp_path))
    assert (predictions.scores >= 0.7).all()


def test_parts_about_other_images_are_not_used(folder, shared, tmp_path):
    with opened(folder, shared, tmp_path) as this:
        pretag(this, names_of(this)[:7])
        predictions = pretag(this, names_of(this))
        assert this.timings[Stage.PRETAG].samples == 6
    assert predictions.predicted.all()
    assert len(kept_parts(tmp_path)) == 3


def test_an_image_that_cannot_be_read_is_listed_and_not_empty(folder, shared, tmp_path):
    copy = tmp_path / "input"
    shutil.copytree(folder, copy)
    with opened(copy, shared, tmp_path, "pretagging_debug=True") as this:
        (copy / "a" / "4.jpg").unlink()
        predictions = pretag(this, names_of(this))
    row = predictions.filenames.index("a/4.jpg")
    assert not predictions.predicted[row]
    assert predictions.predicted.sum() == 9
    assert [one.path for one in predictions.invalid] == ["a/4.jpg"]
    boxes = json.loads((tmp_path / "staging" / "data" / "bounding_boxes.json").read_text())
    assert [one["filename"] for one in boxes] == [n for n in predictions.filenames if "4" not in n]
    failures = (tmp_path / "staging" / "data" / "pretagging_failures.csv").read_text()
    assert failures.splitlines()[1].startswith("a/4.jpg,gone,")


def test_more_failures_than_are_allowed_stop_the_run(folder, shared, tmp_path):
    copy = tmp_path / "input"
    shutil.copytree(folder, copy)
    with opened(copy, shared, tmp_path, "max_failures=0") as this:
        (copy / "a" / "4.jpg").unlink()
        with pytest.raises(TooManyFailuresError):
            pretag(this, names_of(this))


def test_when_nothing_can_be_read_the_reason_is_told(folder, shared, tmp_path):
    copy = tmp_path / "input"
    shutil.copytree(folder, copy)
    with opened(copy, shared, tmp_path) as this:
        shutil.rmtree(copy)
        with pytest.raises(
            NoUsableSampleError, match="not one of the 10 images could be pretagged"
        ):
            pretag(this, names_of(this))


def test_mistakes_show_before_an_image_is_read(folder, shared, tmp_path):
    with opened(folder, shared, tmp_path, model="no such") as this:
        with pytest.raises(ConfigError, match="torchvision has no detector `no such`"):
            check_pretagging(this.config)
        assert this.reader.statistics().bytes_read == 0
    with (
        opened(folder, shared, tmp_path, weights="none.pth") as this,
        pytest.raises(ModelError, match=r"no weights file .*none\.pth"),
    ):
        check_pretagging(this.config)
    with opened(folder, shared, tmp_path) as this:
        check_pretagging(this.config)
