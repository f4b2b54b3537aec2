"""scripts/train_bundled.py on a few drawn images: it learns, stops, goes on, and ends the same."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_images import Images, Labels
from safetensors.torch import load_file
from train_bundled import Config, Run
from train_images import Augmentation, augment, prepare

CONFIG = Config(epochs=3, batch=32, threads=1, held_out_per_class=2, sizes=((0.5, 40), (1.0, 48)))


@pytest.fixture(scope="module")
def data() -> tuple[Images, Labels]:
    """Two classes of 34: dark and bright noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(68) % 2
    images = rng.integers(0, 120, (68, 64, 64, 3)) + 120 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def run(folder: Path, data: tuple[Images, Labels], config: Config = CONFIG) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(config, data, folder / "weights.safetensors", folder)


def test_a_run_that_goes_on_ends_with_the_same_weights(tmp_path: Path, data):
    run(tmp_path / "whole", data).train()
    first = run(tmp_path / "parts", data)
    first.one_epoch()
    run(tmp_path / "parts", data).train()
    whole, parts = (load_file(tmp_path / f / "weights.safetensors") for f in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    log = (tmp_path / "parts" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line.get("epoch") for line in lines] == [None, 1, None, 2, 3, None]
    assert lines[-1]["epochs"] == 3
    assert lines[-1]["held_out_top1"] == 1.0


def test_the_watched_images_are_never_trained_on(tmp_path: Path, data):
    trained = run(tmp_path, data)
    assert not np.intersect1d(trained.train_on, trained.held).size
    assert len(trained.train_on) + len(trained.held) == len(data[1])


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path, data):
    with pytest.raises(ValueError, match="64 images are less than one batch"):
        run(tmp_path, data, dataclasses.replace(CONFIG, batch=128))


def test_training_and_inference_see_the_same_colours(data):
    still = Augmentation(smallest_crop=1.0, jitter=0.0, gray=0.0, blur=0.0)
    pixels = torch.from_numpy(data[0][:4])
    seen = augment(pixels, 64, still, torch.Generator().manual_seed(0))
    plain = prepare(pixels, 64)
    assert torch.allclose(seen.mean((2, 3)), plain.mean((2, 3)), atol=0.15)
    assert seen.shape == plain.shape == (4, 3, 64, 64)
