"""Both parts of scripts/train_bundled.py on drawn images: they learn, stop, go on, end the same."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_images import Images, Labels
from near_duplicate_training import Refinement, RefinementConfig, fold, info_nce, pairs, save
from supervised_training import Config, Run
from train_images import Augmentation, augment, prepare

from lightly_fs.embedding.bundled import BundledNet, load_bundled_state

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
    return Run(config, data, folder)


def test_a_run_that_goes_on_ends_with_the_same_weights(tmp_path: Path, data):
    whole = run(tmp_path / "whole", data).train().state_dict()
    first = run(tmp_path / "parts", data)
    first.one_epoch()
    parts = run(tmp_path / "parts", data).train().state_dict()
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


REFINED = RefinementConfig(epochs=3, batch=32, threads=1, held_out_per_class=2)


def test_refining_learns_and_ends_the_same_after_a_stop(tmp_path, data):
    trained = run(tmp_path, data).train()
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    net = Refinement(REFINED, data, tmp_path / "whole").refine(trained)
    first = Refinement(REFINED, data, tmp_path / "parts")
    first.start(trained)
    first.one_epoch()
    again = Refinement(REFINED, data, tmp_path / "parts").refine(trained)
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    log = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, log) if "loss" in line]
    assert losses[-1] < losses[0]


def test_saved_weights_load_as_the_bundled_network(tmp_path, data):
    torch.manual_seed(0)
    net = BundledNet().eval()
    save(net, tmp_path / "weights.safetensors", REFINED)
    loaded, facts = load_bundled_state(tmp_path / "weights.safetensors")
    images = prepare(torch.from_numpy(data[0][:4]), 64)
    assert torch.allclose(net(images), loaded(images), rtol=1e-2, atol=1e-3)
    assert facts["version"] == "3"


def test_a_folded_map_is_the_map_of_the_embeddings(data):
    torch.manual_seed(0)
    net = BundledNet().train()
    net(prepare(torch.from_numpy(data[0]), 64))  # statistics of its own
    images = prepare(torch.from_numpy(data[0][:4]), 64)
    before = net.eval()(images)
    matrix = torch.randn(128, 128, dtype=torch.float64)
    fold(net, matrix)
    assert torch.allclose(net(images), (matrix @ before.T.double()).T.float(), rtol=1e-3, atol=1e-3)


def test_a_pair_is_an_image_and_a_near_duplicate_of_it(data):
    plain = RefinementConfig(coarse=0, half=0, jpeg=0, augmentation=Augmentation(1.0, 0.0, 0.0))
    pixels = torch.from_numpy(data[0][:16])
    first, second = pairs(pixels, plain, torch.Generator().manual_seed(0)).chunk(2)
    assert torch.equal(first, prepare(pixels, 64))
    # Reshaped a little and perhaps mirrored, but of the same colours.
    assert torch.allclose(second.mean((2, 3)), first.mean((2, 3)), atol=0.2)
    assert not torch.equal(second, first)


def test_info_nce_is_least_for_copies_that_are_nearest_their_image():
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(8, 16, generator=rng)
    found = info_nce(torch.cat([images, images]), 0.1)
    lost = info_nce(torch.cat([images, images.roll(1, 0)]), 0.1)
    assert found < 0.1
    assert lost > 3
