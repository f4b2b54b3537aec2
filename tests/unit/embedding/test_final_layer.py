"""A linear layer at the end of a network: composed, written, read back, refused."""

import numpy as np
import pytest
import torch

from lightly_fs.embedding.final_layer import (
    WithFinalLayer,
    add_layer,
    final_layer,
    has_final_layer,
    with_final_layer,
)
from lightly_fs.embedding.load import load_bundled, load_weights
from lightly_fs.embedding.openvino_runtime import OpenVinoEmbedder
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import ModelError
from tests.unit.embedding.networks import cosines, pixels, small_network

D = 24


def layer(seed: int, size: int = D):
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, size, generator=rng, dtype=torch.float64) / size**0.5
    return weight, torch.randn(size, generator=rng, dtype=torch.float64)


def built(state):
    network = with_final_layer(small_network(), final_layer(state), "x.ckpt")
    network.module.load_state_dict(dict(state))
    return network.module


def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_layer_is_applied_behind_the_network():
    weight, bias = layer(1)
    state = add_layer(small_network().state, weight, bias)
    with torch.no_grad():
        plain = small_network().module(images())
        made = built(state)(images())

    assert has_final_layer(state)
    assert not has_final_layer(small_network().state)
    assert torch.allclose(made, plain @ weight.float().T + bias.float(), atol=1e-5)


def test_two_layers_become_one():
    first, second = layer(1), layer(2)
    state = add_layer(add_layer(small_network().state, *first), *second)
    with torch.no_grad():
        expected = built(add_layer(small_network().state, *first))(images()).double()
        expected = expected @ second[0].T + second[1]
        made = built(state)(images())

    assert sum("final_layer" in name for name in state) == 2
    assert torch.allclose(made.double(), expected, atol=1e-5)


def test_a_network_whose_own_layer_has_that_name_gets_one_of_ours():
    state = {"conv.weight": torch.zeros(2), "final_layer.weight": torch.eye(D)}
    state |= {"final_layer.bias": torch.zeros(D)}
    assert not has_final_layer(state)
    assert add_layer(state, *layer(1)).keys() >= {
        "network.final_layer.weight",
        "network.conv.weight",
    }


def written(path, *, final=True, change=None, size=128):
    """Write a checkpoint of the bundled network as training does."""
    state = dict(add_layer(load_bundled().module.state_dict(), *layer(3, size)))
    named = {f"model.backbone.{name}": value for name, value in state.items()}
    named["model.projection_head.layers.0.weight"] = torch.zeros(8, 8)
    if change is not None:
        change(named)
    record = {"model": "bundled", "input_size": 64, "final_layer": final}
    torch.save({"lightly_fs": record, "state_dict": named, "epoch": 1}, path)
    return path


def test_a_checkpoint_gives_the_same_vectors_in_every_runtime(tmp_path):
    network = load_weights(written(tmp_path / "x.ckpt"))
    weight, bias = layer(3, 128)
    batch, names = pixels(8, 64), [str(n) for n in range(8)]
    cpu = torch.device("cpu")
    plain = TorchEmbedder(load_bundled(), cpu).embed(batch, names)
    found = TorchEmbedder(network, cpu).embed(batch, names)
    fast = OpenVinoEmbedder(network, tmp_path).embed(batch, names)
    again = OpenVinoEmbedder(load_weights(tmp_path / "x.ckpt"), tmp_path).embed(batch, names)

    assert isinstance(network.module, WithFinalLayer)
    assert network.name == "bundled"
    assert network.weights_sha256() != load_bundled().weights_sha256()
    assert np.allclose(found, plain @ weight.numpy().T + bias.numpy(), atol=1e-4)
    assert cosines(found, fast).min() > 0.99
    assert np.array_equal(fast, again)


def test_without_the_record_the_layer_is_not_there(tmp_path):
    names = written(tmp_path / "x.ckpt", final=False)
    assert load_weights(names).weights_sha256() == load_bundled().weights_sha256()


def drop(named):
    del named["model.backbone.final_layer.bias"]


def narrow(named):
    named["model.backbone.final_layer.weight"] = torch.zeros(128, 64)


def broken(named):
    named["model.backbone.final_layer.weight"] = torch.full((128, 128), torch.nan)


@pytest.mark.parametrize(
    ("change", "final", "message"),
    [
        (drop, True, r"x\.ckpt .* has no tensor `model\.backbone\.final_layer\.bias`"),
        (narrow, True, r"weights \(128, 64\) and biases \(128,\), .* vectors of 128 numbers"),
        (broken, True, r"x\.ckpt has NaN or infinite values in `final_layer\.weight`"),
        (None, "linear", r"x\.ckpt has a record .* `final_layer` is neither True nor False"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_with_the_reason(tmp_path, change, final, message):
    written(tmp_path / "x.ckpt", final=final, change=change)
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(tmp_path / "x.ckpt")
    assert caught.value.hint
