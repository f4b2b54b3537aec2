import copy

import torch
from torch import nn

from lightly_fs.embedding.embedder import FromPixels, Network
from tests.unit.embedding.networks import pixels, small_network


def test_pixels_are_normalised_as_training_did():
    network = Network.of("id", nn.Identity(), 4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    normalised = FromPixels(network)(white)
    assert normalised.shape == (1, 3, 4, 4)
    assert torch.allclose(normalised[0, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_the_hash_is_of_the_weights_and_not_of_what_inference_ignores():
    network, other = small_network(seed=0), small_network(seed=1)
    assert network.weights_sha256() != other.weights_sha256()
    other.module.load_state_dict(copy.deepcopy(network.module.state_dict()))
    other.module[1].num_batches_tracked += 7
    assert network.weights_sha256() == other.weights_sha256()


def test_the_hash_tells_the_same_numbers_under_other_names_apart():
    named = Network.of("x", nn.ModuleDict({"a": small_network().module}), 32, mean=(), std=())
    renamed = Network.of("x", nn.ModuleDict({"b": small_network().module}), 32, mean=(), std=())
    assert named.weights_sha256() != renamed.weights_sha256()


def test_the_card_says_how_images_become_input():
    info = small_network().info(dimensions=24, runtime="torch cpu", precision="f32")
    assert info.preprocessing == (
        "squash 32x32 bilinear antialias; mean 0.485 0.456 0.406; std 0.229 0.224 0.225"
    )
    assert (info.name, info.input_size, info.dimensions) == ("small", 32, 24)
    assert FromPixels(small_network())(pixels(2)).shape == (2, 24)
