"""Runs with a datapool that was moved, damaged, or meets another input or configuration."""

import json
import logging
import shutil

import pytest

from lightly_fs import pipeline
from lightly_fs.artifacts import read_list
from lightly_fs.config import load_config
from lightly_fs.datapool.exporting import export_pool
from lightly_fs.datapool.importing import import_embeddings
from lightly_fs.datapool.opening import open_pool, read_pool
from lightly_fs.errors import ArtifactError, ConfigError, DatasourceError
from lightly_fs.types import ModelInfo, Stage
from tests.clips import write_clip
from tests.images import jpeg, scene

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=8", "batch_size=8", "n_example_images=0")


class Place:
    """An input with images and a video, an output, and a datapool beside them."""

    def __init__(self, top) -> None:
        self.top, self.input, self.output = top, top / "in", top / "out"
        self.input.mkdir()
        self.output.mkdir()
        for number in range(3):
            (self.input / f"{number}.jpg").write_bytes(jpeg(scene(number, 96, 72)))
        write_clip(self.input / "v.mp4", range(12))

    def run(self, *words, progress=lambda *_: None):
        folders = (f"input_dir={self.input}", f"output_dir={self.output}", f"shared_dir={self.top}")
        config = load_config([*folders, *QUICK, "stopping_condition.n_samples=6", *words])
        return pipeline.run(config, {}, progress=progress)

    def pool(self, name="pool"):
        return read_pool(str(self.top / name), {})


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def samples(pool):
    rows = pool.rows(["filename", "video", "frame_index", "selected"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_a_pool_that_was_exported_and_imported_is_not_processed_again(place):
    """A frame is of its video: as a file of its own it would come twice with the next run."""
    first = place.run("datapool.name=pool", "run_directory=first")
    model = ModelInfo(**json.loads((first.directory / "config/model.json").read_text()))
    with place.pool() as pool:
        before = samples(pool)
        export_pool(pool, place.top / "pool.csv", "csv", selected_only=False)
    with open_pool(str(place.top / "other"), {}, owner="test") as pool:
        import_embeddings(pool, place.top / "pool.csv", model)
    again = place.run("datapool.name=other")
    write_clip(place.input / "w.mp4", range(20, 30), seed=3)
    more = place.run("datapool.name=other", "run_directory=more")

    assert again.nothing_new
    assert (again.datapool.known, again.datapool.deleted) == (4, 0)
    assert (more.datapool.new, more.datapool.known) == (1, 4)
    with place.pool("other") as pool:
        after = samples(pool)
        assert pool.state.counts.files == 5
    assert [one for one in after if one[1] != "w.mp4"] == before
    assert len(after) == len(before) + 10


def test_from_scratch_imported_videos_are_read_again(place):
    first = place.run("datapool.name=pool", "run_directory=first")
    model = ModelInfo(**json.loads((first.directory / "config/model.json").read_text()))
    with place.pool() as pool:
        export_pool(pool, place.top / "pool.csv", "csv", selected_only=True)
    with open_pool(str(place.top / "other"), {}, owner="test") as pool:
        import_embeddings(pool, place.top / "pool.csv", model)

    place.run("datapool.name=other", "datasource.process_all=True", "run_directory=again")

    with place.pool() as one, place.pool("other") as two:
        assert samples(one) == samples(two)


def test_a_run_does_not_begin_again_beside_lost_states(place):
    place.run("datapool.name=pool", "run_directory=first")
    (state,) = (place.top / "pool/states").glob("*.json")
    state.write_bytes(state.read_bytes()[:200])

    for words in ((), ("datasource.enable_datapool_update=False",)):
        with pytest.raises(ArtifactError, match=f"states/{state.name} is not as it was") as caught:
            place.run("datapool.name=pool", "run_directory=second", *words)
        assert caught.value.exit_code == 6
        assert "datapool reset" in caught.value.hint
    assert [path.name for path in place.output.iterdir()] == ["first"]


def test_videos_that_were_sampled_otherwise_are_told(place, caplog):
    place.run("datapool.name=pool", "run_directory=first", "video.every_nth=2")

    def told(*words):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "lightly_fs.datapool"):
            place.run("datapool.name=pool", *words)
        return [record.message for record in caplog.records]

    (warning,) = told()
    assert "frames of 1 of them were taken with other `video.*` settings" in warning
    assert "datasource.process_all=True" in warning
    assert told("video.every_nth=2") == []
    assert told("datasource.process_all=True") == []
    assert told() == []


@pytest.mark.parametrize(("how", "pool"), [("change", ("datapool.name=pool",)), ("delete", ())])
def test_an_input_that_changes_while_it_is_copied_needs_a_new_run(place, how, pool):
    """What the hint says has to work: the inventory of the run is not the input any more."""
    words = ("dump_dataset=True", "run_directory=first", *pool)
    shutil.copy(place.input / "v.mp4", place.input / "w.mp4")

    def change(stage, _done, _total, note=""):
        # Before the report's pictures: what was read for these is still held.
        if stage is Stage.REPORT and note == "writing tables":
            (place.input / "v.mp4").unlink()
            if how == "change":
                write_clip(place.input / "v.mp4", range(40, 60), seed=5)

    lost = r"could not be copied; `v-\d+-mp4\.png`: (changed|deleted) during the run"
    with pytest.raises(DatasourceError, match=lost) as caught:
        place.run(*words, progress=change)
    assert caught.value.hint == "choose another `run_directory`, or leave it empty for a new one"
    assert not hasattr(caught.value, "__notes__")  # nothing else is said to go on
    with pytest.raises(ArtifactError, match="another inventory"):
        place.run(*words)

    second = place.run("dump_dataset=True", "run_directory=second", *pool)

    chosen = read_list(second.directory / "filenames/sampled_filenames_excluding_datapool.txt")
    copies = {path.stem for path in (second.directory / "data/sampled").iterdir()}
    assert copies == {name.rpartition(".")[0] for name in chosen}
    assert len(copies) == 6


def test_an_image_and_a_frame_of_the_same_name_never_meet_in_a_pool(place):
    name = "v-00-mp4.png"
    images = place.top / "images"
    images.mkdir()
    (images / name).write_bytes(jpeg(scene(1)))
    videos = place.input / "v.mp4"

    place.run("datapool.name=videos", "run_directory=first")
    with place.pool("videos") as pool:
        before = samples(pool)
    shutil.move(videos, place.top / "v.mp4")
    shutil.copy(images / name, place.input / name)
    place.run("datapool.name=videos", "run_directory=second")
    with place.pool("videos") as pool:
        assert samples(pool) == before  # the image is refused, as beside the video itself

    place.run("datapool.name=images", "run_directory=third")
    (place.input / name).unlink()
    shutil.move(place.top / "v.mp4", videos)
    with pytest.raises(ConfigError, match=f"holds the image `{name}`"):
        place.run("datapool.name=images", "run_directory=fourth")
    assert not (place.output / "fourth").exists()
    place.run("datapool.name=images", "run_directory=fifth", "datasource.process_all=True")
    with place.pool("images") as pool:
        names = [one[0] for one in samples(pool)]
    assert len(names) == len(set(names))


def test_what_states_leave_behind_is_neither_deleted_nor_taken_for_nothing(place):
    place.run("datapool.name=pool", "run_directory=first")
    parts = sorted(path.name for path in place.top.glob("pool/samples/*"))
    (state,) = (place.top / "pool/states").glob("*.json")
    state.rename(place.top / state.name)

    with pytest.raises(ArtifactError, match="there is none in states/"):
        place.run("datapool.name=pool", "run_directory=second")
    assert sorted(path.name for path in place.top.glob("pool/samples/*")) == parts

    shutil.move(place.top / state.name, state)
    assert place.run("datapool.name=pool").nothing_new
