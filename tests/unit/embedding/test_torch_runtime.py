import numpy as np
import pytest
import torch
from torch import nn

from lightly_fs.embedding.embedder import FromPixels, Network
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import ModelError
from tests.unit.embedding.networks import pixels, small_network


@pytest.fixture(scope="module")
def embedder() -> TorchEmbedder:
    return TorchEmbedder(small_network(), torch.device("cpu"))


def test_gives_what_the_network_gives(embedder):
    with torch.inference_mode():
        expected = FromPixels(small_network())(pixels(5)).numpy()
    vectors = embedder.embed(pixels(5), [])
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-5)


def test_the_card_names_device_and_precision(embedder):
    assert (embedder.info.runtime, embedder.info.precision) == ("torch cpu", "f32")
    assert embedder.info.dimensions == 24


def test_a_row_depends_on_its_own_image_alone(embedder):
    images = pixels(64)
    vectors = embedder.embed(images, [])
    order = np.random.default_rng(0).permutation(64)
    assert np.array_equal(embedder.embed(images[order], []), vectors[order])
    padded = torch.cat([images[:3], torch.zeros_like(images[3:])])
    assert np.array_equal(embedder.embed(padded, [])[:3], vectors[:3])


def test_a_model_that_gives_maps_instead_of_vectors_is_refused():
    maps = Network.of("maps", nn.Conv2d(3, 8, 3), 32, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ModelError, match=r"maps gives \(1, 8, 30, 30\)"):
        TorchEmbedder(maps, torch.device("cpu"))
