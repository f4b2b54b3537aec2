"""Checkpoints: which stay, which are found, and that others load them."""

import torch

from lightly_fs.datasource.output import Output
from lightly_fs.embedding.checkpoint import read_checkpoint
from lightly_fs.training.checkpoint import (
    checkpoint_name,
    epochs_of,
    kept,
    last_checkpoint,
    load_checkpoint,
    write_checkpoint,
)
from lightly_fs.training.trainer import Trainer
from tests.unit.embedding.networks import small_network
from tests.unit.training.small import make_pack, nobody, plan


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


def test_the_newest_whole_one_is_found_and_torn_ones_go(tmp_path):
    (tmp_path / "out").mkdir()
    files = Output(tmp_path / "out", None).below("run")
    content = content_of(tmp_path, 1)
    write_checkpoint(content, tmp_path / "local")
    data = (tmp_path / "local").read_bytes()
    files.put(checkpoint_name(0), tmp_path / "local")
    for name, torn in ((checkpoint_name(1), data[: len(data) // 2]), (checkpoint_name(2), b"")):
        (tmp_path / "out" / "run" / name).write_bytes(torn)

    found = last_checkpoint(files)

    assert found["epoch"] == 0
    assert files.names() == [checkpoint_name(0)]


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
