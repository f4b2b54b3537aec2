"""A whole run with training on a plain directory: read once, resumed, embedded from the pack."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightly_fs import pipeline
from lightly_fs.artifacts.parts import read_parts
from lightly_fs.config import load_config
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.embedding.load import load_weights
from lightly_fs.errors import (
    ArtifactError,
    ConfigError,
    MissingExtraError,
    ModelError,
    NoUsableSampleError,
)
from lightly_fs.pipeline import training
from lightly_fs.types import Stage
from tests.images import jpeg, scene

TINY = (
    *("model=timm/test_resnet.r160_in1k", "weights=random", "lightly.collate.input_size=32"),
    *("runtime=torch", "device=cpu", "shard_size=8", "batch_size=8", "properties=off"),
)
TRAIN = (
    "enable_training=True",
    "lightly.loader.batch_size=8",
    "lightly.loader.num_workers=0",
    "lightly.trainer.max_epochs=2",
    "lightly.optimizer.lr=2.0",
)


def run_on(images, root, *words, until=Stage.EMBED, progress=None):
    (root / "out").mkdir(exist_ok=True)
    keys = [f"input_dir={images}", f"output_dir={root / 'out'}", f"cache_dir={root / 'cache'}"]
    config = load_config([*keys, "run_directory=r", *TINY, *words])
    extra = {} if progress is None else {"progress": progress}
    return pipeline.run(config, {}, until=until, **extra)


def vectors(result):
    return read_parts(sorted((result.directory / "parts").glob("*.parquet")))


def state(directory, epoch=1):
    content = torch.load(directory / f"lightly_epoch_{epoch}.ckpt", weights_only=True)
    return content["state_dict"]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """One complete run with training."""
    root = tmp_path_factory.mktemp("finished")
    result = run_on(images, root, *TRAIN, "stopping_condition.n_samples=4", until=Stage.REPORT)
    return root, result


@pytest.fixture(scope="module")
def embedded(images, tmp_path_factory):
    """One run with training up to the embeddings."""
    root = tmp_path_factory.mktemp("embedded")
    return root, run_on(images, root, *TRAIN)


def test_a_complete_run_has_checkpoint_record_and_report(finished):
    _, result = finished
    names = {entry["name"] for entry in _manifest(result)["entries"]}
    record = json.loads((result.directory / "data" / "training.json").read_text())

    assert result.counts.check() is None
    assert {"lightly_epoch_1.ckpt", "data/training.json", "plots/training.png"} <= names
    assert record["checkpoint"] == "lightly_epoch_1.ckpt"
    assert [entry["epoch"] for entry in record["epochs"]] == [0, 1, 2, 2]
    assert [entry.get("normalized", False) for entry in record["epochs"]] == [False] * 3 + [True]
    assert {"loss", "knn", "alignment", "uniformity"} <= record["epochs"][-1].keys()
    assert record["settings"]["loader"]["batch_size"] == 8
    assert result.as_json()["training"] == record["epochs"]
    assert '<section aria-labelledby="training">' in (result.directory / "report.html").read_text()


def test_a_complete_run_leaves_no_images_behind(finished):
    root, _ = finished
    assert not list((root / "cache" / "training").iterdir())


def _manifest(result):
    return json.loads((result.directory / "manifest.json").read_text())


def test_the_datasource_is_read_once(images, tmp_path, monkeypatch):
    asked = []
    stream = DirectoryReader.stream

    def counting(self, samples):
        asked.extend(sample.filename for sample in samples)
        return stream(self, samples)

    monkeypatch.setattr(DirectoryReader, "stream", counting)
    run_on(images, tmp_path, *TRAIN)

    assert len(asked) == len(set(asked)) == 29


def test_the_pack_embeds_like_the_datasource(images, embedded, tmp_path):
    _, trained = embedded
    checkpoint = f"checkpoint={trained.directory / 'lightly_epoch_1.ckpt'}"
    words = [word for word in TINY if not word.startswith(("weights", "lightly"))]
    (tmp_path / "out").mkdir()
    keys = [f"input_dir={images}", f"output_dir={tmp_path / 'out'}", "run_directory=r"]
    direct = pipeline.run(load_config([*keys, *words, checkpoint]), {}, until=Stage.EMBED)
    parts = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.iterdir()}
        for made in (trained.directory / "parts", direct.directory / "parts")
    ]

    assert len(vectors(trained)) == 26
    assert parts[0] == parts[1]


def test_training_changes_the_embeddings(images, embedded, tmp_path):
    untrained = run_on(images, tmp_path)
    assert not (vectors(untrained).vectors == vectors(embedded[1]).vectors).all()


class _Killed(BaseException):
    """Nothing catches it, like a kill."""


@pytest.mark.parametrize("moment", ["reading", "epoch 1", "epoch 2", "embed"])
def test_a_killed_run_is_resumed_and_ends_the_same(images, embedded, tmp_path, moment):
    def kill(stage, done, total, note=""):
        embeds = stage is Stage.EMBED and moment == "embed" and done > 8
        if embeds or (note.startswith(moment) and done >= 8):
            raise _Killed

    with pytest.raises(_Killed):
        run_on(images, tmp_path, *TRAIN, progress=kill)
    resumed = run_on(images, tmp_path, *TRAIN)

    assert same(state(embedded[1].directory), state(resumed.directory))
    assert (vectors(embedded[1]).vectors == vectors(resumed).vectors).all()
    assert embedded[1].training == resumed.training


def test_the_epochs_that_are_done_are_not_repeated(images, tmp_path):
    seen = []

    def kill(stage, done, total, note=""):
        if note.startswith("epoch 2"):
            raise _Killed

    with pytest.raises(_Killed):
        run_on(images, tmp_path, *TRAIN, progress=kill)
    run_on(images, tmp_path, *TRAIN, progress=lambda *told: seen.append(told[3:]))

    notes = {note for told in seen for note in told}
    assert not [note for note in notes if note.startswith(("epoch 1", "reading")) and note[8:9]]
    assert [note for note in notes if note.startswith("epoch 2 of 2")]


def test_training_goes_on_from_a_checkpoint(images, embedded, tmp_path):
    (tmp_path / "out").mkdir()
    keys = [f"input_dir={images}", f"output_dir={tmp_path / 'out'}", "run_directory=r"]
    tiny = [word for word in TINY if not word.startswith(("weights", "lightly"))]
    checkpoint = f"checkpoint={embedded[1].directory / 'lightly_epoch_1.ckpt'}"
    config = load_config([*keys, *tiny, *TRAIN, checkpoint, f"cache_dir={tmp_path}"])
    result = pipeline.run(config, {}, until=Stage.TRAIN)

    before, after = state(embedded[1].directory), state(result.directory)
    assert before.keys() == after.keys()
    assert not same(before, after)
    # It begins where the other ended: what was measured then is measured again.
    assert result.training[0]["knn"] == embedded[1].training[-1]["knn"]


def test_checkpoints_in_between_are_thrown_away(images, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    words = ("lightly.trainer.max_epochs=4", "lightly.checkpoint_callback.save_top_k=0")
    result = run_on(images, tmp_path, *TRAIN, *words, until=Stage.TRAIN)

    assert [path.name for path in result.directory.glob("*.ckpt")] == ["lightly_epoch_3.ckpt"]


def test_the_container_had_no_final_layer(images, embedded, tmp_path):
    """Without the key the checkpoint holds what it always held."""
    plain = run_on(images, tmp_path, *TRAIN, "lightly.model.normalize_covariance=False")
    inner = {
        name.replace("backbone.network.", "backbone."): value
        for name, value in state(embedded[1].directory).items()
        if "backbone.network." in name
    }

    assert len(plain.training) == len(embedded[1].training) - 1
    assert all(torch.equal(state(plain.directory)[name], value) for name, value in inner.items())
    assert not [name for name in state(plain.directory) if "final_layer" in name]


def test_the_default_keys_train_on_a_small_domain(tmp_path):
    """Half as many images as the bundled network has dimensions; the batch size is the default."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(64):
        (tmp_path / "in" / f"{number:02d}.jpg").write_bytes(jpeg(scene(number, 96, 96)))
    keys = [f"input_dir={tmp_path / 'in'}", f"output_dir={tmp_path / 'out'}", "run_directory=r"]
    words = [*keys, f"cache_dir={tmp_path / 'cache'}", "device=cpu", "enable_training=True"]
    config = load_config([*words, "lightly.trainer.max_epochs=1"])
    result = pipeline.run(config, {}, until=Stage.EMBED)
    made = vectors(result).vectors
    again = load_weights(result.directory / "lightly_epoch_0.ckpt")

    assert made.shape == (64, 128)
    assert np.isfinite(made).all()
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    # Around zero, no direction is that of all images.
    assert np.linalg.norm(made.mean(axis=0)) < 0.2
    assert result.training[-1]["normalized"] is True
    assert result.training[-1]["start_share"] == 0.75
    assert (again.name, again.input_size) == ("bundled", 64)


def test_no_epochs_train_nothing(images, tmp_path):
    result = run_on(images, tmp_path, *TRAIN, "lightly.trainer.max_epochs=0")

    assert len(vectors(result)) == 26
    assert not list(result.directory.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("words", "error", "message", "hint"),
    [
        (["embeddings=x.csv", "weights="], ConfigError, "embeddings=", "drop one"),
        (["lightly.loader.batch_size=64"], ConfigError, "batch_size=29 does", "`run_directory`"),
        (["lightly.loader.batch_size=27"], ConfigError, "26 readable images", "`run_directory`"),
        (["lightly.loader.batch_size=1"], ConfigError, "a batch of one", "batch_size=16"),
        (["lightly.pre_trained=False"], ConfigError, "weights=", "drop one"),
        (["lightly.model.name=resnet-18"], ConfigError, "exclude one another", "model="),
        (["device=auto", "lightly.trainer.gpus=7"], ConfigError, "gpus=7", "device=cpu"),
        (["checkpoint=x.ckpt"], ConfigError, "exclude one another", "keep checkpoint"),
        (["checkpoint=gone.ckpt", "weights="], ModelError, "gone.ckpt", "safetensors"),
    ],
)
def test_mistakes_are_told_before_any_work(images, tmp_path, words, error, message, hint):
    with pytest.raises(error) as caught:
        run_on(images, tmp_path, *TRAIN, *words)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_network_of_one_size_refuses_another(images, tmp_path):
    words = ("model=timm/test_vit.r160_in1k", "lightly.collate.input_size=37")
    with pytest.raises(ConfigError, match="cannot take such images") as caught:
        run_on(images, tmp_path, *TRAIN, *words)
    assert "160 pixels" in caught.value.hint


def test_a_missing_library_names_the_extra(images, tmp_path, monkeypatch):
    from lightly_fs.training import network

    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        run_on(images, tmp_path, *TRAIN)
    assert "lightly-fs[train]" in caught.value.hint


def test_another_number_of_processes_cannot_go_on(images, tmp_path, monkeypatch):
    def kill(stage, done, total, note=""):
        if note.startswith("epoch 2"):
            raise _Killed

    with pytest.raises(_Killed):
        run_on(images, tmp_path, *TRAIN, progress=kill)
    found = training.training_devices
    monkeypatch.setattr(training, "training_devices", lambda c: replace(found(c), count=2))
    with pytest.raises(ArtifactError, match="begun by 1 processes"):
        run_on(images, tmp_path, *TRAIN, "lightly.loader.batch_size=8")


def killed_after_an_epoch(images, root, *words):
    """Leave a run with one checkpoint of two epochs; return the checkpoint's path."""

    def kill(stage, done, total, note=""):
        if note.startswith("epoch 2"):
            raise _Killed

    with pytest.raises(_Killed):
        run_on(images, root, *TRAIN, *words, progress=kill)
    return root / "out" / "r" / "lightly_epoch_0.ckpt"


@pytest.mark.parametrize("other", ["lightly.optimizer.lr=1.0", "lightly.seed=2", "seed=1"])
def test_the_checkpoint_of_another_run_is_not_taken_for_ours(images, tmp_path, other):
    """Not even that of a run with the same keys: nobody knows how it came here."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    theirs = killed_after_an_epoch(images, tmp_path / "one", other).read_bytes()
    ours = killed_after_an_epoch(images, tmp_path / "two")
    ours.write_bytes(theirs)

    with pytest.raises(ArtifactError, match=r"lightly_epoch_0\.ckpt was not written") as caught:
        run_on(images, tmp_path / "two", *TRAIN)
    assert "move it out" in caught.value.hint
    assert ours.read_bytes() == theirs


def test_foreign_checkpoints_outlive_a_whole_training(images, embedded, tmp_path):
    foreign = tmp_path / "out" / "r" / "lightly_epoch_99.ckpt"
    foreign.parent.mkdir(parents=True)
    content = torch.load(embedded[1].directory / "lightly_epoch_1.ckpt", weights_only=True)
    keys = ("state_dict", "epoch", "optimizer_states")
    torch.save({key: content[key] for key in keys}, foreign)
    before = foreign.read_bytes()

    with pytest.raises(ArtifactError, match=r"lightly_epoch_99\.ckpt was not written by this run"):
        run_on(images, tmp_path, *TRAIN)
    assert foreign.read_bytes() == before
    foreign.rename(tmp_path / "away.ckpt")
    assert same(state(run_on(images, tmp_path, *TRAIN).directory), state(embedded[1].directory))


def test_a_damaged_checkpoint_is_told_and_trained_again(images, embedded, tmp_path, caplog):
    ours = killed_after_an_epoch(images, tmp_path)
    data = bytearray(ours.read_bytes())
    data[len(data) // 2] ^= 1
    ours.write_bytes(data)
    with caplog.at_level("WARNING"):
        resumed = run_on(images, tmp_path, *TRAIN)

    assert "lightly_epoch_0.ckpt is damaged" in caplog.text
    assert same(state(embedded[1].directory), state(resumed.directory))


def test_other_starting_weights_are_another_training(images, tmp_path):
    from lightly_fs.training.network import starting_network, starting_weights

    config = load_config(["enable_training=True", "device=cpu"])
    network = starting_network(config)
    given = starting_weights(config, network, {})
    head = starting_weights(config, network, {"a": torch.ones(2)})
    with torch.no_grad():
        next(value for value in network.state.values() if value.is_floating_point()).add_(1)

    assert len({given, head, starting_weights(config, network, {})}) == 3
    drawn = load_config(["enable_training=True", "lightly.pre_trained=False"])
    assert starting_weights(drawn, network, {}) == "drawn from seed 1"


def test_nothing_but_corrupt_images_tells_why(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(8):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(b"this is not an image")

    with pytest.raises(NoUsableSampleError, match="not one of the 8 samples could be") as caught:
        run_on(tmp_path / "in", tmp_path, *TRAIN)
    assert "to train on: " in caught.value.message
    assert caught.value.message.partition("to train on: ")[2]
    assert caught.value.hint == "for example `0.jpg`"
    assert caught.value.exit_code == 5


def test_the_next_training_removes_packs_that_nobody_resumed(images, tmp_path):
    old = tmp_path / "cache" / "training" / ("a" * 24)
    old.mkdir(parents=True)
    os.utime(old, (1, 1))
    seen = []
    run_on(images, tmp_path, *TRAIN, progress=lambda *told: seen.append(told))

    assert not old.exists()
    # 26 can be read, 2 of them are held out to measure, a step takes 8.
    notes = [told[3] for told in seen if told[0] is Stage.TRAIN and len(told) > 3]
    assert notes[-1].startswith("2 epochs of 24 images, loss")
    assert any(note.startswith("epoch 1 of 2 of 24 images, loss") for note in notes)


def test_random_weights_are_drawn_for_any_network(images, tmp_path):
    from lightly_fs.training.network import starting_network

    words = ["model=colour-grid", "enable_training=True", "lightly.pre_trained=False"]
    assert starting_network(load_config(words)).name == "colour-grid"
    config = load_config(["enable_training=True", "lightly.pre_trained=False", "device=cpu"])
    drawn, again = starting_network(config), starting_network(config)
    kept = starting_network(load_config(["enable_training=True", "device=cpu"]))

    assert drawn.weights_sha256() == again.weights_sha256()
    assert drawn.weights_sha256() != kept.weights_sha256()


def test_the_resnet_of_the_container_is_built_and_recognised(tmp_path):
    from lightly_fs.embedding.load import load_weights
    from lightly_fs.training.network import starting_network

    words = ["enable_training=True", "lightly.model.name=resnet-9", "lightly.model.num_ftrs=16"]
    network = starting_network(load_config([*words, "device=cpu"]))
    named = {f"model.backbone.{n}": v for n, v in network.module.state_dict().items()}
    torch.save({"state_dict": named}, tmp_path / "lightly_epoch_0.ckpt")
    loaded = load_weights(tmp_path / "lightly_epoch_0.ckpt")

    assert network.input_size == loaded.input_size == 64
    assert network.module(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
    assert loaded.name == network.name
    assert loaded.weights_sha256() == network.weights_sha256()


def test_the_command_trains_and_says_what_it_measured(images, tmp_path):
    from click.testing import CliRunner

    from lightly_fs.cli.stages import train_stage

    (tmp_path / "out").mkdir()
    keys = [f"input_dir={images}", f"output_dir={tmp_path / 'out'}", f"cache_dir={tmp_path}"]
    words = [*keys, "run_directory=r", *TINY, *TRAIN[1:], "--json", "-q"]
    done = CliRunner().invoke(train_stage, words)

    assert done.exit_code == 0, done.output
    assert [entry["epoch"] for entry in json.loads(done.stdout)["training"]] == [0, 1, 2, 2]
    assert "enable_training=True" in done.stderr
    assert (tmp_path / "out" / "r" / "lightly_epoch_1.ckpt").exists()
    assert not (tmp_path / "out" / "r" / "parts").exists()
