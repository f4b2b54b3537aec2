"""Checkpoints: which stay, which are found, and that others load them."""

import logging

import pytest
import torch

from lightly_fs.datasource.output import Output
from lightly_fs.embedding.checkpoint import read_checkpoint
from lightly_fs.errors import ArtifactError
from lightly_fs.training.checkpoint import (
    Checkpoints,
    Origin,
    checkpoint_name,
    epochs_of,
    kept,
    load_checkpoint,
    write_checkpoint,
)
from lightly_fs.training.trainer import Trainer
from tests.unit.embedding.networks import small_network
from tests.unit.training.small import ORIGIN, make_pack, nobody, plan


def test_names_are_told_apart():
    names = ["lightly_epoch_10.ckpt", "lightly_epoch_2.ckpt", "x/lightly_epoch_3.ckpt", "last.ckpt"]
    assert epochs_of(names) == [2, 10]


def test_the_last_and_the_best_stay():
    losses = {0: 4.0, 1: 2.0, 2: 1.0, 3: 3.0}
    assert kept(losses, 0) == {3}
    assert kept(losses, 1) == {2, 3}
    assert kept(losses, 2) == {1, 2, 3}
    assert kept(losses, -1) == {0, 1, 2, 3}
    assert kept({}, 1) == set()


def content_of(tmp_path, epochs: int):
    trainer = Trainer(plan(make_pack(tmp_path / "pack", 12)), small_network().module)
    for epoch in trainer.epochs(nobody):
        if epoch + 1 == epochs:
            break
    return trainer.checkpoint()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The checkpoints after every epoch of one training."""
    pack = make_pack(tmp_path_factory.mktemp("contents") / "pack", 12)
    trainer = Trainer(plan(pack), small_network().module)
    return [trainer.checkpoint() for _ in trainer.epochs(nobody)]


class Run:
    """A run directory on a plain disk."""

    def __init__(self, root) -> None:
        (root / "out").mkdir()
        self.files = Output(root / "out", None).below("run")
        self.directory = root / "out" / "run"
        self.local = root / "local"
        self.local.mkdir()

    def checkpoints(self, origin=ORIGIN, *, top_k: int = 1) -> Checkpoints:
        return Checkpoints(self.files, origin, max_epochs=3, top_k=top_k)

    def path(self, epoch: int):
        return self.directory / checkpoint_name(epoch)

    def put(self, content) -> bytes:
        """Lay a whole checkpoint there, whoever it is of."""
        self.directory.mkdir(exist_ok=True)
        path = self.path(content["epoch"])
        write_checkpoint(content, path)
        return path.read_bytes()

    def there(self) -> dict[str, bytes]:
        return {name: (self.directory / name).read_bytes() for name in self.files.names()}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_the_newest_whole_one_is_found_and_torn_ones_go(run, contents, caplog):
    run.put(contents[0])
    torn = run.put(contents[1])
    run.path(1).write_bytes(torn[: len(torn) // 2])
    # The empty file of an upload that was killed: nobody knows whose, and it is in nobody's way.
    run.path(2).write_bytes(b"")

    with caplog.at_level(logging.WARNING):
        found = run.checkpoints().last()

    assert found["epoch"] == 0
    assert run.files.names() == [checkpoint_name(0), checkpoint_name(2)]
    assert f"run/{checkpoint_name(1)} is damaged" in caplog.text
    assert f"goes on from {checkpoint_name(0)}" in caplog.text
    run.checkpoints().write(contents[2], run.local)
    assert run.checkpoints().last()["epoch"] == 2


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_flipped_bit_is_found(run, contents, caplog, part):
    run.put(contents[0])
    data = bytearray(run.put(contents[1]))
    # In a tensor or in a header: the gaps between the members hold nothing.
    place = next(n for n in range(int(part * len(data)), len(data)) if data[n] not in b"Z\0")
    data[place] ^= 1
    run.path(1).write_bytes(data)

    with caplog.at_level(logging.WARNING):
        found = run.checkpoints().last()

    assert found["epoch"] == 0
    assert f"run/{checkpoint_name(1)} is damaged" in caplog.text


def test_without_a_whole_one_training_begins_again(run, contents, caplog):
    data = run.put(contents[0])
    run.path(0).write_bytes(data[:-100])

    assert run.checkpoints().last() is None
    assert "training begins again" in caplog.text
    assert run.there() == {}


def lightning(content, path):
    """A checkpoint as the container wrote them."""
    keys = ("state_dict", "epoch", "optimizer_states")
    torch.save({key: content[key] for key in keys}, path)


@pytest.mark.parametrize("epoch", [0, 2, 99])
def test_a_foreign_file_is_named_and_stays(run, contents, epoch):
    own = run.put(contents[1])
    run.path(1).write_bytes(own[:5000])  # torn: it would go
    lightning(contents[0], run.path(epoch))
    before = run.there()

    with pytest.raises(ArtifactError, match=rf"run/lightly_epoch_{epoch}\.ckpt was not") as caught:
        run.checkpoints().last()

    assert "move it out of the run directory" in caught.value.hint
    assert run.there() == before


@pytest.mark.parametrize("content", [b"x" * 5000, b"PK", b"version https://git-lfs"])
def test_what_is_no_checkpoint_at_all_stays_too(run, contents, content):
    run.put(contents[0])
    run.path(1).write_bytes(content)

    with pytest.raises(ArtifactError, match=r"lightly_epoch_1\.ckpt was not written"):
        run.checkpoints().last()
    assert run.path(1).read_bytes() == content


def test_a_foreign_file_that_comes_later_is_not_overwritten(run, contents):
    checkpoints = run.checkpoints(top_k=0)
    checkpoints.write(contents[0], run.local)
    lightning(contents[0], run.path(1))
    (run.directory / "lightly_epoch_99.ckpt").write_bytes(b"theirs")
    before = run.path(1).read_bytes()

    with pytest.raises(ArtifactError, match="was not written by this run"):
        checkpoints.write(contents[1], run.local)
    assert run.path(1).read_bytes() == before

    run.path(1).unlink()
    checkpoints.write(contents[1], run.local)
    # Of its own only the last stays; what it did not write, it does not delete.
    assert run.files.names() == [checkpoint_name(1), "lightly_epoch_99.ckpt"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"run_id": "f" * 24}, "was not written by this run"),
        ({"digest": "another"}, "other keys, images or starting weights"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(run, contents, record, message):
    run.put({**contents[0], "lightly_fs": {**contents[0]["lightly_fs"], **record}})

    with pytest.raises(ArtifactError, match=message) as caught:
        run.checkpoints().last()
    assert caught.value.hint
    assert run.path(0).exists()


def test_an_epoch_beyond_the_last_or_of_another_name_is_refused(run, contents):
    run.put({**contents[0], "epoch": 3})
    with pytest.raises(ArtifactError, match="holds epoch 3 of a training of 3 epochs"):
        run.checkpoints().last()
    run.put(contents[0])
    run.path(0).rename(run.path(3))
    with pytest.raises(ArtifactError, match=r"lightly_epoch_3\.ckpt holds epoch 0"):
        run.checkpoints().last()


def test_a_torn_one_tells_whose_it_is(run, contents):
    data = run.put(contents[0])
    place = data.index(ORIGIN.run_id.encode())
    assert place < 1000

    other = Origin("f" * 24, ORIGIN.digest)
    run.path(0).write_bytes(data[:4096])
    with pytest.raises(ArtifactError, match="was not written by this run"):
        run.checkpoints(other).last()
    assert run.path(0).exists()


def test_those_that_stay_are_staged(run, contents, tmp_path):
    checkpoints = run.checkpoints(top_k=-1)
    for content in contents:
        checkpoints.write(content, run.local)
    (tmp_path / "staging").mkdir()
    resumed = run.checkpoints(top_k=-1)
    resumed.stage(resumed.last(), tmp_path / "staging")

    staged = {path.name: path.read_bytes() for path in (tmp_path / "staging").iterdir()}
    assert staged == run.there()
    assert len(staged) == 3
    assert list(run.local.iterdir()) == []


def test_tensors_of_another_shape_are_told_in_a_sentence(tmp_path, contents):
    state = {**contents[0]["state_dict"], "model.projection_head.layers.0.weight": torch.ones(2, 2)}
    made = plan(make_pack(tmp_path / "pack", 12), resumed={**contents[0], "state_dict": state})
    with pytest.raises(ArtifactError, match="do not fit small") as caught:
        Trainer(made, small_network().module)
    assert checkpoint_name(0) in caught.value.message
    assert caught.value.hint


def test_a_checkpoint_of_others_is_none_to_go_on_from(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "x")
    assert load_checkpoint((tmp_path / "x").read_bytes()) is None


def test_it_loads_without_running_code_and_names_its_network(tmp_path):
    content = content_of(tmp_path, 1)
    write_checkpoint(content, tmp_path / "lightly_epoch_0.ckpt")
    read = read_checkpoint(tmp_path / "lightly_epoch_0.ckpt")

    assert (read.model, read.input_size) == ("small", 16)
    assert set(read.state) == set(content["state_dict"])
    assert {name.split(".")[1] for name in read.state} == {"backbone", "projection_head"}
