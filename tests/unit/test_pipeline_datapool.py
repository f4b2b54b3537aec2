"""Runs with a datapool: what is new is added to what is selected already, and nothing else."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from lightly_fs import pipeline
from lightly_fs.artifacts import read_list
from lightly_fs.config import load_config
from lightly_fs.datapool.opening import read_pool
from lightly_fs.errors import ArtifactError, ConfigError, DatasourceError, ModelError
from lightly_fs.types import Stage, frame_of
from tests.clips import write_clip
from tests.images import jpeg, scene

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=8", "batch_size=8", "n_example_images=0")
WITHOUT_HISTORY, FROM_SCRATCH = "datapool.keep_history=False", "datasource.process_all=True"
SELECTED = "sampled_filenames_excluding_datapool.txt"


class Place:
    """An input with images, an output, and a datapool beside it."""

    def __init__(self, top: Path, scenes=()) -> None:
        self.top, self.input, self.output = top, top / "in", top / "out"
        for folder in (self.input, self.output):
            folder.mkdir(parents=True)
        self.add(scenes)

    def add(self, scenes) -> None:
        for number in scenes:
            (self.input / f"{number:03d}.jpg").write_bytes(jpeg(scene(number, 96, 72)))

    def words(self, run: str, *words: str) -> list[str]:
        folders = (f"input_dir={self.input}", f"output_dir={self.output}", f"shared_dir={self.top}")
        return [*folders, *QUICK, "datapool.name=pool", f"run_directory={run}", *words]

    def run(self, run: str, *words: str, until=Stage.REPORT, progress=lambda *_: None):
        config = load_config(self.words(run, *words))
        return pipeline.run(config, {}, until=until, progress=progress)

    def pool(self):
        return read_pool(str(self.top / "pool"), {})


def selected(result) -> list[str]:
    return read_list(result.directory / "filenames" / SELECTED)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def embedded(result) -> dict[str, np.ndarray]:
    table = pq.read_table(result.directory / "data/embeddings.parquet")
    return dict(zip(table["filename"].to_pylist(), table["embedding"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A first run, and a second one after files came, changed and went."""
    place = Place(tmp_path_factory.mktemp("grown"), range(16))
    first = place.run("first", "stopping_condition.n_samples=5")
    chosen = selected(first)
    kept = sorted({f"{n:03d}.jpg" for n in range(16)} - set(chosen))
    place.add(range(20, 26))
    (place.input / "corrupt.jpg").write_bytes(b"this is no image")
    shutil.copy(place.input / chosen[0], place.input / "copy.jpg")
    (place.input / kept[0]).unlink()
    (place.input / kept[1]).write_bytes(jpeg(scene(99, 96, 72)))
    notes = []
    second = place.run(
        "second",
        "stopping_condition.n_samples=3",
        progress=lambda stage, done, total, note="": notes.append((stage, note)),
    )
    return place, first, second, kept, notes


def test_only_what_is_new_or_changed_is_processed(grown):
    _, first, second, kept, notes = grown
    new = [f"{n:03d}.jpg" for n in range(20, 26)]

    assert first.counts.inventory == 16
    assert second.counts.inventory == 9
    assert set(embedded(second)) == {kept[1], *new}
    assert (Stage.LIST, "8 new, 1 changed of 23 images (14 in the datapool, 1 deleted)") in notes
    assert (Stage.DATAPOOL, "state 2: 8 selected (+3)") in notes


def test_the_pool_holds_both_runs(grown):
    place, first, second, kept, _ = grown
    with place.pool() as pool:
        counts = pool.state.counts
        names = pool.selected().table.filenames

    assert sorted(names) == sorted(selected(first) + selected(second))
    # A file that is gone stays; the one that changed is there once.
    assert (counts.files, counts.deleted, counts.corrupt) == (24, 1, 1)
    assert (counts.samples, counts.selected, counts.duplicate) == (23, 8, 1)
    assert kept[0] not in selected(second)


def test_what_the_pool_holds_is_a_duplicate_of_it(grown):
    _, first, second, _, _ = grown
    assert rows_of(second.directory / "data/duplicates.csv") == [
        {"filename": "copy.jpg", "original": selected(first)[0], "reason": "content"}
    ]


def test_what_is_added_is_far_from_what_was_selected(grown):
    place, first, second, _, _ = grown
    with place.pool() as pool:
        table = pool.samples().table
    vectors = dict(zip(table.filenames, table.vectors, strict=True))
    earlier = np.stack([vectors[name] for name in selected(first)])
    rows = rows_of(second.directory / "data/datapool_added.csv")
    left = [name for name in embedded(second) if name not in selected(second)]

    def apart(name):
        return float(np.linalg.norm(earlier - vectors[name], axis=1).min())

    assert [row["filename"] for row in rows] == selected(second)
    for row in rows:
        assert float(row["distance"]) == pytest.approx(apart(row["filename"]), abs=1e-6)
        nearest = vectors[row["nearest_in_datapool"]]
        assert np.linalg.norm(nearest - vectors[row["filename"]]) == pytest.approx(
            float(row["distance"]), abs=1e-6
        )
    # The first pick is the new image that is farthest from everything that was selected.
    assert apart(selected(second)[0]) == max(map(apart, embedded(second)))
    removed = rows_of(second.directory / "data/removed_samples.csv")
    assert [row["filename"] for row in removed] == sorted(left)
    both = [*selected(first), *selected(second)]
    for row in removed:
        distances = [np.linalg.norm(vectors[row["filename"]] - vectors[name]) for name in both]
        assert float(row["distance"]) == pytest.approx(min(distances), abs=1e-6)
        assert row["nearest_selected"] == both[int(np.argmin(distances))]


def test_the_tables_tell_of_the_pool(grown):
    place, first, second, kept, _ = grown
    told = json.loads((second.directory / "data/datapool.json").read_text())
    table = pv.read_csv(second.directory / "data/selected_embeddings_including_datapool.csv")
    report = json.loads((second.directory / "report_v2.json").read_text())
    sizes = report["generalInformation"]["datasetInformation"]["datasetSizes"]
    measured = report["datasetAnalysis"]["metadataInformation"]["lightlyNumeric"]

    assert told == {
        "location": str(place.top / "pool"),
        "base": 1,
        "state": 2,
        "process_all": False,
        "listed": 23,
        "known": 14,
        "new": 8,
        "changed": 1,
        "deleted": 1,
        "selected_before": 5,
        "selected": 8,
        "added": 3,
        "changed_filenames": [kept[1]],
        "deleted_filenames": [kept[0]],
    }
    assert sorted(table["filenames"].to_pylist()) == sorted(selected(first) + selected(second))
    assert sizes["nPreselectedDatapool"] == 5
    assert sizes["nSelectedWithDatapool"] == 8
    assert sum(measured["sharpness"]["preselectedDatapool"]["counts"]) == 5
    assert sum(measured["sharpness"]["selectedWithDatapool"]["counts"]) == 8
    assert second.as_json()["datapool"] == {
        key: value for key, value in told.items() if not key.endswith("_filenames")
    }


def test_nothing_new_leaves_nothing_behind(grown):
    place, _, _, _, _ = grown
    third = place.run("third", "stopping_condition.n_samples=3")

    assert third.nothing_new
    assert third.datapool.told_nothing_new() == (
        "nothing new: 23 files are in the datapool already (1 deleted since)"
    )
    assert third.as_json()["run_directory"] is None
    assert sorted(path.name for path in place.output.iterdir()) == ["first", "second"]
    with place.pool() as pool:
        assert pool.state.number == 2


def test_a_complete_run_is_left_alone(grown):
    place, _, second, _, _ = grown
    again = place.run("second", "stopping_condition.n_samples=3")

    assert again.was_complete
    assert again.counts == second.counts


def test_new_files_that_hold_nothing_new_are_remembered(tmp_path):
    place = Place(tmp_path, range(6))
    place.run("first", "stopping_condition.n_samples=2")
    shutil.copy(place.input / "001.jpg", place.input / "copy.jpg")
    (place.input / "bad.jpg").write_bytes(b"bad")
    second = place.run("second", "stopping_condition.n_samples=2")
    (place.input / "worse.jpg").write_bytes(b"worse")
    third = place.run("third", "stopping_condition.n_samples=2")

    assert (second.counts.selected, second.counts.duplicate, second.counts.corrupt) == (0, 1, 1)
    assert (third.counts.embedded, third.counts.corrupt) == (0, 1)
    assert place.run("fourth").nothing_new


def test_a_fraction_of_one_new_image_is_none_and_said(tmp_path, caplog):
    place = Place(tmp_path, range(6))
    place.run("first", "stopping_condition.n_samples=0.5")
    place.add([20])
    second = place.run("second", "stopping_condition.n_samples=0.5")

    assert second.counts.selected == 0
    (told,) = [line for line in caplog.messages if line.startswith("nothing was selected")]
    assert told == (
        "nothing was selected of 1 image, 0 duplicates: stopping_condition.n_samples=0.5 of 1 "
        "rounds down to 0; give a whole number as stopping_condition.n_samples, or a larger "
        "fraction"
    )


def test_the_same_budget_adds_again_unless_it_counts_all(tmp_path):
    place = Place(tmp_path, range(10))
    place.run("first", "stopping_condition.n_samples=0.4")
    place.add(range(20, 30))

    def count(run, *words):
        return len(place.run(run, *words, until=Stage.SELECT).selected)

    assert count("a", "stopping_condition.n_samples=0.4") == 4
    assert count("b", "stopping_condition.n_samples=4") == 4
    assert count("c", "stopping_condition.n_samples=6", "datapool.count_selected=True") == 2
    assert count("d", "stopping_condition.n_samples=3", "datapool.count_selected=True") == 0
    assert count("e", "stopping_condition.n_samples=0.5", "datapool.count_selected=True") == 6


def test_distances_are_kept_to_what_was_selected(tmp_path):
    place, least = Place(tmp_path, range(12)), "stopping_condition.min_distance=1.1"
    place.run("first", least)
    place.add(range(20, 40))
    place.run("second", least)
    with place.pool() as pool:
        vectors = pool.selected_vectors()[1].astype(np.float64)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    apart[np.diag_indices(len(vectors))] = np.inf

    assert len(vectors) > 4
    assert apart.min() >= 1.1


def test_near_duplicates_of_what_was_selected_are_removed(tmp_path):
    place = Place(tmp_path, range(8))
    first = place.run("first", "stopping_condition.n_samples=4")
    name = selected(first)[0]
    (place.input / "near.jpg").write_bytes(jpeg(scene(int(name[:3]), 96, 72), quality=60))
    place.add(range(20, 23))
    second = place.run("second", "near_duplicates.max_distance=0.05")

    (row,) = rows_of(second.directory / "data/near_duplicates.csv")
    assert (row["filename"], row["original"]) == ("near.jpg", name)
    assert 0 < float(row["distance"]) <= 0.05
    assert sorted(selected(second)) == ["020.jpg", "021.jpg", "022.jpg"]


def test_a_balance_counts_what_was_selected(tmp_path):
    place = Place(tmp_path, range(10))
    labels = place.input / ".lightly/metadata"
    labels.mkdir(parents=True)
    schema = {"name": "Weather", "path": "weather", "defaultValue": ""}
    schema["valueDataType"] = "CATEGORICAL_STRING"
    (labels / "schema.json").write_text(json.dumps([schema]))

    def label(number, weather):
        (labels / f"{number:03d}.json").write_text(json.dumps({"metadata": {"weather": weather}}))

    for number in range(10):
        label(number, "sun")
    place.run("first", "stopping_condition.n_samples=4")
    place.add(range(20, 32))
    for number in range(20, 32):
        label(number, "rain" if number % 2 else "sun")
    target = "{type: BALANCE, target: {sun: 0.5, rain: 0.5}}"
    entry = f"{{input: {{type: METADATA, key: weather}}, strategy: {target}}}"
    words = f"selection_config={{n_samples: 4, strategies: [{entry}]}}"
    chosen = place.run("second", words, until=Stage.SELECT).selected

    # Four of the sun are selected already: the balance is even with four of the rain.
    assert all(int(name[:3]) % 2 for name in chosen)


def test_the_pool_may_be_read_alone(tmp_path):
    place, only_read = Place(tmp_path, range(6)), "datasource.enable_datapool_update=False"
    with pytest.raises(DatasourceError, match="there is no datapool"):
        place.run("early", only_read)
    place.run("first", "stopping_condition.n_samples=2")
    place.add([20, 21])
    second = place.run("second", only_read, "stopping_condition.n_samples=1")

    assert len(selected(second)) == 1
    assert second.datapool.state is None
    with place.pool() as pool:
        assert pool.state.number == 1


def test_another_model_is_refused_before_anything_is_read(tmp_path):
    place = Place(tmp_path, range(4))
    place.run("first")
    with pytest.raises(ModelError, match="another model"):
        place.run("nothing-new", "model=bundled")
    place.add([20])
    with pytest.raises(ModelError, match="another model") as caught:
        place.run("second", "model=bundled")
    assert "datapool reset" in caught.value.hint
    with pytest.raises(ConfigError, match="training gives a new model") as caught:
        place.run("second", "enable_training=True", "model=resnet18")
    assert "checkpoint" in caught.value.hint
    with pytest.raises(ModelError, match="scaled to unit length"):
        place.run("third", "normalize_embeddings=False")
    assert sorted(path.name for path in place.output.iterdir()) == ["first", "third"]


def overwrite(folder: Path) -> None:
    """Replace what files hold, so that a listing does not tell."""
    for path in filter(Path.is_file, folder.rglob("*")):
        facts = path.stat()
        path.write_bytes(bytes(facts.st_size))
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_processing_all_reads_nothing_that_is_known(tmp_path):
    place = Place(tmp_path, range(20))
    (place.input / "010b.jpg").write_bytes(b"no image")
    (place.input / "u.mkv").write_bytes(b"no video")
    write_clip(place.input / "v.mp4", range(30))
    torn = write_clip(place.input / "w.avi", range(24), seed=1)
    data = bytearray(torn.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    torn.write_bytes(data)
    words = ("stopping_condition.n_samples=7", "datasource.process_all=True")
    first = place.run("first", *words)
    overwrite(place.input)
    place.add([30])
    again = place.run("again", *words)
    (place.input / "030.jpg").unlink()
    other = place.run("other", *words, "video.every_nth=2")

    assert len(embedded(first)) > 65
    assert {"030.jpg", *embedded(first)} == set(embedded(again))
    assert all(embedded(again)[name] == vector for name, vector in embedded(first).items())
    for name in ("data/videos.csv", "data/failures.csv"):
        ours, theirs = (rows_of(one.directory / name) for one in (first, again))
        for row in (*ours, *theirs):
            row.pop("selected", None)
        assert ours == theirs
    assert again.counts.corrupt == first.counts.corrupt > 2
    # Other frames than the datapool has have to be decoded.
    assert (other.counts.videos, other.counts.embedded) == (0, 20)
    with place.pool() as pool:
        assert [state.kind for state in pool.store.states()] == ["fresh"] * 3
        assert pool.state.counts.selected == 7


def test_processing_all_embeds_again_for_another_model(tmp_path):
    place = Place(tmp_path, range(4))
    place.run("first")
    second = place.run("second", "datasource.process_all=True", "normalize_embeddings=False")
    third = place.run("third", "datasource.process_all=True", "normalize_embeddings=False")

    lengths = [np.linalg.norm(list(embedded(one).values()), axis=1) for one in (second, third)]
    assert (lengths[0] > 1.01).all()
    assert (lengths[0] == lengths[1]).all()


def test_frames_are_added_like_images(tmp_path):
    place = Place(tmp_path, range(3))
    write_clip(place.input / "a.mp4", range(24))
    first = place.run("first", "stopping_condition.n_samples=6")
    shutil.copy(place.input / "a.mp4", place.input / "again.mp4")
    write_clip(place.input / "b.mp4", range(40, 52), seed=3)
    second = place.run("second", "stopping_condition.n_samples=6")
    rows = rows_of(second.directory / "data/duplicates.csv")

    assert (second.counts.inventory, second.counts.frames) == (2, 36)
    assert [row["filename"] for row in rows] == [f"again-{n:02d}-mp4.png" for n in range(24)]
    assert [row["original"] for row in rows] == [f"a-{n:02d}-mp4.png" for n in range(24)]
    assert {row["reason"] for row in rows} == {"pixels"}
    assert {frame_of(name)[0] for name in selected(second)} == {"b.mp4"}
    with place.pool() as pool:
        frames = pool.selected().frames.to_pylist()
    assert sum(one["video"] == "b.mp4" for one in frames) == 6
    assert len(frames) == len(selected(first)) + 6


def test_a_run_that_is_resumed_needs_the_state_that_it_began_with(tmp_path):
    place, words = Place(tmp_path, range(6)), ("stopping_condition.n_samples=2",)
    place.run("first", *words)
    place.add(range(20, 24))
    place.run("second", *words, until=Stage.EMBED)
    place.run("third", *words)
    with pytest.raises(ArtifactError, match=r"began with state 1 .* is in state 2") as caught:
        place.run("second", *words)

    assert "start a new run" in caught.value.hint
    assert place.run("third", *words, until=Stage.LIST).was_complete


def digests(place: Place, run: str) -> dict[str, str]:
    top = place.output / run
    files = [path for folder in ("data", "filenames") for path in (top / folder).rglob("*.*")]
    whole = [path for path in files if not path.name.startswith(".")]  # what was torn may stay
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in whole}


def content(place: Place) -> tuple[int, list[str], list[str]]:
    with place.pool() as pool:
        assert pool.store.first_broken(pool.state) is None
        names = sorted(pool.samples().table.filenames), sorted(pool.selected().table.filenames)
        return pool.state.number, *names


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), (WITHOUT_HISTORY,), (WITHOUT_HISTORY, FROM_SCRATCH)])
def test_a_run_that_is_killed_in_the_update_leaves_the_old_or_the_new_state(tmp_path, how):
    place = Place(tmp_path / "start", range(6))
    place.run("first", "stopping_condition.n_samples=2", "datapool.keep_history=False")
    place.add(range(20, 24))
    old, words = content(place), ("stopping_condition.n_samples=2", *how)
    place.run("second", *words, until=Stage.EMBED)
    saved = shutil.copytree(place.top, tmp_path / "saved")
    place.run("second", *words)
    new, expected = content(place), digests(place, "second")
    seen = []
    for allowed in range(30):
        shutil.rmtree(place.top)
        shutil.copytree(saved, place.top)
        child = subprocess.run(
            [
                *(sys.executable, str(Path(__file__).with_name("run_until.py")), str(allowed)),
                *place.words("second", *words),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        found = content(place)
        assert found in (old, new)
        seen.append(found == new)
        if child.returncode == 0:
            break
        assert child.returncode == -9, child.stderr
        assert not (place.output / "second/manifest.json").exists()
        place.run("second", *words)
        assert content(place) == new
        assert digests(place, "second") == expected

    assert child.returncode == 0
    assert seen == sorted(seen)
    assert seen.count(False) == 3  # samples, files, state
    assert len(seen) > 8
