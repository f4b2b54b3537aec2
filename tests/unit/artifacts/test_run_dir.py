import itertools
import json
import os
import traceback

import numpy as np
import pytest
import yaml

from lightly_fs.artifacts import Manifest, RunDir, run_folder
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.output import Output
from lightly_fs.errors import ArtifactError, RunLockedError
from lightly_fs.types import Counts
from tests.unit.artifacts.conftest import (
    CORRUPT,
    FAILED,
    MODEL,
    NAMES,
    embed,
    finish,
    inventory_of,
    vector_of,
)

RUN_FILES = [
    "config/config.yaml",
    "config/hydra.yaml",
    "config/inventory.parquet",
    "config/model.json",
    "config/overrides.yaml",
    "config/run.json",
    "corruptness_check_information.json",
    "data/duplicates.csv",
    "data/embeddings.csv",
    "data/embeddings.parquet",
    "data/failures.csv",
    "data/selected_embeddings.csv",
    "filenames/corrupt_filenames.txt",
    "filenames/duplicate_filenames.txt",
    "filenames/embedded_filenames.txt",
    "filenames/failed_filenames.txt",
    "filenames/gone_filenames.txt",
    "filenames/removed_filenames.txt",
    "filenames/sampled_filenames_excluding_datapool.txt",
    "filenames/unreadable_filenames.txt",
    "log.txt",
]


def content_of(directory):
    """Return what a finished run is judged by: not its times and ids."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and path.name not in ("manifest.json", "run.json")
        and not path.name.startswith(".lightly-fs-")  # what a killed write leaves
    }


def test_a_run_leaves_the_documented_files_and_no_parts(tmp_path, output, config, inventory):
    run_dir = finish(output, config, tmp_path / "staging", inventory)

    assert output.names("run") == sorted([*RUN_FILES, "manifest.json"])
    assert not (run_dir.directory / "parts").exists()
    assert run_dir.complete


def test_the_manifest_names_every_file_and_what_the_run_was(tmp_path, output, config, inventory):
    run_dir = finish(output, config, tmp_path / "staging", inventory)

    manifest = Manifest.decode(output.read("run/manifest.json"))

    assert [entry.name for entry in manifest.entries] == RUN_FILES
    assert output.below("run").first_broken(manifest.entries) is None
    assert manifest.counts == Counts(10, 8, 1, 0, 1, 0, 1, 3, 4)
    assert manifest.inventory_digest == inventory.digest
    assert manifest.config_digest == config.digest()
    assert manifest.model == MODEL
    assert manifest.run_id == run_dir.run_id


def test_the_configuration_is_recorded(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path / "staging", overrides=["shard_size=4"])
    run_dir.freeze(inventory)

    recorded = yaml.safe_load((run_dir.directory / "config/config.yaml").read_text())
    assert RunConfig.model_validate(recorded) == config
    overrides = yaml.safe_load((run_dir.directory / "config/overrides.yaml").read_text())
    assert overrides == ["shard_size=4"]
    assert Inventory.read(run_dir.directory / "config/inventory.parquet").digest == inventory.digest


def test_a_complete_run_opens_as_complete_and_stays_as_it_is(tmp_path, output, config, inventory):
    finish(output, config, tmp_path / "staging", inventory)
    before = content_of(output.root)
    (output.root / "run/parts").mkdir()
    (output.root / "run/parts/left over").touch()

    run_dir = RunDir.open(output, config, tmp_path / "again")

    assert run_dir.complete
    assert run_dir.counts() == Counts(10, 8, 1, 0, 1, 0, 1, 3, 4)
    run_dir.freeze(inventory)
    assert content_of(output.root) == before


@pytest.mark.parametrize("damage", ["changed", "gone", "torn manifest"])
def test_a_damaged_run_is_not_complete_and_heals(tmp_path, output, config, inventory, damage):
    finish(output, config, tmp_path / "staging", inventory)
    before = content_of(output.root)
    broken = output.root / "run/filenames/embedded_filenames.txt"
    if damage == "changed":
        broken.write_bytes(broken.read_bytes().replace(b"d", b"e"))
    elif damage == "gone":
        broken.unlink()
    else:
        os.truncate(output.root / "run/manifest.json", 100)

    assert not RunDir.open(output, config, tmp_path / "other").complete

    assert finish(output, config, tmp_path / "again", inventory).complete
    assert content_of(output.root) == before


def test_another_configuration_is_refused_and_the_key_named(tmp_path, output, config, inventory):
    RunDir.open(output, config, tmp_path).freeze(inventory)

    same = config.model_copy(update={"num_threads": 3, "input_dir": "/elsewhere"})
    assert RunDir.open(output, same, tmp_path / "b").frozen

    other = config.model_copy(update={"num_threads": 3, "seed": 5, "batch_size": 7})
    with pytest.raises(ArtifactError, match="`batch_size` is 64 there and 7 now") as caught:
        RunDir.open(output, other, tmp_path / "c")
    assert caught.value.exit_code == 6


def embedded(output, config, staging, inventory):
    """Return a run directory in which nothing is selected yet."""
    run_dir = RunDir.open(output, config, staging)
    run_dir.freeze(inventory)
    run_dir.set_model(MODEL)
    for number in range(len(inventory.shards(config.shard_size))):
        run_dir.write_part(number, embed(inventory.shards(config.shard_size)[number].samples))
    return run_dir


def test_another_selection_is_made_of_the_same_embeddings(tmp_path, output, config, inventory):
    first = embedded(output, config, tmp_path / "a", inventory)
    fewer = RunConfig.model_validate(
        {**config.model_dump(), "stopping_condition": {"n_samples": 1}, "seed": 5}
    )

    second = RunDir.open(output, fewer, tmp_path / "b")
    second.freeze(inventory)

    assert second.run_id == first.run_id
    assert second.committed() == first.committed()
    assert len(second.committed()) == len(inventory.shards(config.shard_size))
    written = yaml.safe_load(output.read("run/config/config.yaml"))
    assert written["stopping_condition"]["n_samples"] == 1
    finish(output, fewer, tmp_path / "c", inventory)
    assert Manifest.decode(output.read("run/manifest.json")).config_digest == fewer.digest()


def test_results_that_are_being_written_keep_their_selection(tmp_path, output, config, inventory):
    embedded(output, config, tmp_path / "a", inventory)
    (output.root / "run/filenames").mkdir()
    (output.root / "run/filenames/removed_filenames.txt").write_text("")

    with pytest.raises(ArtifactError, match="results of another selection: `seed` is 1 there"):
        RunDir.open(output, config.model_copy(update={"seed": 5}), tmp_path / "b")


def test_a_finished_run_keeps_its_selection(tmp_path, output, config, inventory):
    finish(output, config, tmp_path / "a", inventory)
    condition = RunConfig.model_validate(
        {**config.model_dump(), "stopping_condition": {"n_samples": 7}}
    )
    with pytest.raises(
        ArtifactError,
        match=r"results of another selection: `stopping_condition.n_samples` is -1 there and 7 now",
    ):
        RunDir.open(output, condition, tmp_path / "d")


def test_another_inventory_is_refused_and_the_sample_named(tmp_path, output, config, inventory):
    RunDir.open(output, config, tmp_path / "a").freeze(inventory)
    run_dir = RunDir.open(output, config, tmp_path / "b")

    with pytest.raises(ArtifactError, match=r"10 samples there, 9 now; `d/3.jpg` is not there any"):
        run_dir.freeze(inventory_of([name for name in NAMES if name != "d/3.jpg"]))
    with pytest.raises(ArtifactError, match=r"10 samples there, 11 now; `new.jpg` is new"):
        run_dir.freeze(inventory_of([*NAMES, "new.jpg"]))
    table = inventory.table
    sizes = [99, *table["size"].to_pylist()[1:]]
    changed = Inventory(table.set_column(1, table.schema.field(1), [sizes]))
    with pytest.raises(ArtifactError, match=r"the size of `d/0.jpg` is 7 there, 99 now"):
        run_dir.freeze(changed)


def test_another_model_is_refused_and_the_difference_named(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)
    run_dir.set_model(MODEL)
    run_dir.set_model(MODEL)

    other = type(MODEL)("bundled", "11ff", 128, 3, "resize", "torch", "float32")
    with pytest.raises(ArtifactError, match="weights_sha256 is '00ff' there and '11ff' now"):
        run_dir.set_model(other)


def test_parts_without_a_model_are_refused(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)
    for number in range(3):
        run_dir.write_part(number, embed(inventory.shards(4)[number].samples))

    with pytest.raises(ArtifactError, match=r"config/model.json is missing"):
        run_dir.read_parts()


def test_committed_shards_are_known_to_the_next_process(tmp_path, output, config, inventory):
    first = RunDir.open(output, config, tmp_path / "a")
    first.freeze(inventory)
    first.set_model(MODEL)
    first.write_part(0, embed(inventory.shards(4)[0].samples))
    first.write_part(2, embed(inventory.shards(4)[2].samples))

    second = RunDir.open(output, config, tmp_path / "b")

    assert second.inventory().digest == inventory.digest
    assert second.committed() == first.committed()
    assert set(second.committed()) == {0, 2}
    with pytest.raises(ArtifactError, match=r"1 of 3 shards .* the first is 1"):
        second.read_parts()
    second.write_part(1, embed(inventory.shards(4)[1].samples))
    table = second.read_parts()
    assert table.filenames == [name for name in sorted(NAMES) if name not in (CORRUPT, FAILED)]
    assert np.array_equal(table.vectors, [vector_of(name) for name in table.filenames])
    assert [failure.filename for failure in table.failures] == [CORRUPT, FAILED]


def test_a_torn_part_is_deleted_and_its_shard_done_again(tmp_path, output, config, inventory):
    first = RunDir.open(output, config, tmp_path / "a")
    first.freeze(inventory)
    for number in range(3):
        first.write_part(number, embed(inventory.shards(4)[number].samples))
    folder = first.directory / "parts"
    torn, whole, _ = sorted(folder.iterdir())
    os.truncate(torn, 500)
    (folder / "embed-00001-0123456789abcdef.parquet").write_bytes(whole.read_bytes())
    (folder / "notes.txt").touch()

    second = RunDir.open(output, config, tmp_path / "b")

    assert set(second.committed()) == {1, 2}
    assert second.committed()[1] == (whole.name,)
    assert len(list(folder.iterdir())) == 2


def test_a_part_that_is_not_its_shard_is_refused(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)

    with pytest.raises(ArtifactError, match="shard 1 has 4 samples"):
        run_dir.write_part(1, embed(inventory.shards(4)[0].samples))
    assert run_dir.committed() == {}


def test_parts_have_the_same_bytes_every_time(tmp_path, config, inventory):
    names = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        run_dir = RunDir.open(Output(tmp_path / attempt, None), config, tmp_path / f"s{attempt}")
        run_dir.freeze(inventory)
        run_dir.write_part(1, embed(inventory.shards(4)[1].samples))
        names.append(run_dir.committed())

    assert names[0] == names[1]


def test_a_lost_lock_stops_every_write(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)
    before = output.names()

    def lost():
        raise RunLockedError("lost")

    run_dir.check = lost
    for write in (
        lambda: run_dir.write_part(0, embed(inventory.shards(4)[0].samples)),
        lambda: run_dir.publish_bytes("x", b"x"),
        lambda: run_dir.set_model(MODEL),
    ):
        with pytest.raises(RunLockedError):
            write()
    assert output.names() == before


def test_sums_that_do_not_hold_are_never_committed(tmp_path, output, config, inventory):
    run_dir = finish(output, config, tmp_path / "a", inventory)
    (run_dir.directory / "manifest.json").unlink()
    run_dir = RunDir.open(output, config, tmp_path / "a")

    with pytest.raises(ArtifactError, match="10 samples in the inventory, but 9 ended"):
        run_dir.commit(Counts(10, 8, 1, 0, 0, 0, 1, 3, 4), MODEL)
    (tmp_path / "a/filenames/gone_filenames.txt").write_text("d/0.jpg\n")
    with pytest.raises(ArtifactError, match="in two lists"):
        run_dir.commit(Counts(10, 8, 1, 0, 1, 0, 1, 3, 4), MODEL)
    assert output.read("run/manifest.json") is None


def test_damaged_state_is_an_artifact_error(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path / "a")
    run_dir.freeze(inventory)
    run_dir.write_part(0, embed(inventory.shards(4)[0].samples))
    (output.root / "run/config/run.json").write_text("{")

    with pytest.raises(ArtifactError, match=r"run/config/run.json is damaged"):
        RunDir.open(output, config, tmp_path / "b")


class Stops(Output):
    """An output whose process ends, without a word, at the n-th file: before it or half way."""

    def __init__(self, root, left, half):
        super().__init__(root, None)
        self.left = itertools.count(left, -1)
        self.half = half

    def put(self, relative, local):
        if next(self.left) == 0:
            path = self.root / relative
            if self.half and not (path.exists() and path.read_bytes() == local.read_bytes()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(local.read_bytes()[: local.stat().st_size // 2])
            os._exit(9)
        return super().put(relative, local)


def exit_code_of(action):
    """Run in a child process; return how it ended."""
    if (child := os.fork()) == 0:
        try:
            action()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child process reports everything
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("half", [False, True])
def test_killed_at_any_file_a_run_resumes_to_the_same_bytes(tmp_path, config, inventory, half):
    whole, root = tmp_path / "whole", tmp_path / "root"
    whole.mkdir()
    root.mkdir()
    finish(Output(whole, None), config, tmp_path / "staging", inventory)

    for kills in range(100):
        stops = Stops(root, kills, half)
        ended = exit_code_of(lambda: finish(stops, config, tmp_path / f"s{kills}", inventory))  # noqa: B023
        stops.close()
        if ended == 0:
            break
        assert ended == 9
        assert not RunDir.open(Output(root, None), config, tmp_path / "look").complete

    assert kills > len(RUN_FILES)
    assert content_of(root) == content_of(whole)
    assert json.loads((root / "run/manifest.json").read_text())["counts"]["selected"] == 3


def test_an_unnamed_run_directory_is_a_date_and_a_time(config):
    name = run_folder(config.model_copy(update={"run_directory": ""}))

    assert np.datetime64(name.replace("/", "T"), "s") <= np.datetime64("now")
    assert len(name) == len("2026-11-21/14:03:22")
    assert run_folder(config) == "run"


@pytest.mark.parametrize("name", ["run.json", "model.json"])
@pytest.mark.parametrize("content", ["{", "[1]", "null", '{"a": 1}'])
def test_a_damaged_record_is_refused(tmp_path, output, config, inventory, name, content):
    run_dir = RunDir.open(output, config, tmp_path)
    run_dir.freeze(inventory)
    run_dir.set_model(MODEL)
    run_dir.write_part(0, embed(inventory.shards(4)[0].samples))
    (output.root / "run/config" / name).write_text(content)

    with pytest.raises(ArtifactError, match=rf"damaged|another version|{name}"):
        RunDir.open(output, config, tmp_path / "other").model()


@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_damaged_inventory_is_whole_again_when_the_run_ends(
    tmp_path, output, config, inventory, content
):
    RunDir.open(output, config, tmp_path).freeze(inventory)
    file = output.root / "run/config/inventory.parquet"
    file.unlink() if content is None else file.write_bytes(content)

    finish(output, config, tmp_path / "other", inventory)

    assert Inventory.read(file).digest == inventory.digest
