"""A linear layer at the end of a network, as training leaves it: vectors (B, D) to (B, D)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightly_fs.embedding.checkpoint import FINAL_LAYER, INNER, RECORD, State
from lightly_fs.embedding.embedder import Network
from lightly_fs.errors import ModelError

_WEIGHT, _BIAS = f"{FINAL_LAYER}.weight", f"{FINAL_LAYER}.bias"


class WithFinalLayer(nn.Module):
    """A network, and a linear layer behind it.

    Args:
        network: Images (B, 3, S, S) to (B, D).
        weight: (D, D).
        bias: (D,).
    """

    def __init__(self, network: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network = network  # `INNER` and `FINAL_LAYER` are these two names
        # On no device at first: what initialising draws would be overwritten.
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.final_layer = layer.to_empty(device="cpu")
        with torch.no_grad():
            self.final_layer.weight.copy_(weight)
            self.final_layer.bias.copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.final_layer(self.network(images))
        return vectors


def add_layer(state: State, weight: Tensor, bias: Tensor) -> State:
    """Return the tensors of a network with one more linear layer at its end.

    A final layer that is there already and the new one become one.

    Args:
        state: Of the network, with or without such a layer.
        weight: (D, D) float64.
        bias: (D,) float64.
    """
    if has_final_layer(state):
        first, shift = state[_WEIGHT].double(), state[_BIAS].double()
        weight, bias = weight @ first, weight @ shift + bias
    else:
        state = {f"{INNER}{name}": value for name, value in state.items()}
    return {**state, _WEIGHT: weight.float(), _BIAS: bias.float()}


def has_final_layer(state: State) -> bool:
    """Say whether tensors are those of a `WithFinalLayer`."""
    ours = (f"{FINAL_LAYER}.", INNER)
    return _WEIGHT in state and _BIAS in state and all(name.startswith(ours) for name in state)


def final_layer(state: State) -> State:
    """Return the layer's own tensors, `weight` and `bias`, of those of a `WithFinalLayer`."""
    return {"weight": state[_WEIGHT], "bias": state[_BIAS]}


def with_final_layer(network: Network, layer: State, source: str) -> Network:
    """Return the network with a final layer behind it.

    Args:
        network: The one before the layer.
        layer: `weight` (D, D) and `bias` (D,).
        source: The file they come from, for the error.

    Raises:
        ModelError: One of the two is missing, or their shapes do not fit the network.
    """
    hint = f"take the file as training wrote it, or leave `{FINAL_LAYER}` out of `{RECORD}`"
    missing = [name for name in ("weight", "bias") if name not in layer]
    if missing:
        raise ModelError(
            f"{source} says that its network ends with a linear layer, "
            f"but has no tensor `model.backbone.{FINAL_LAYER}.{missing[0]}`",
            hint=hint,
        )
    side = network.input_size
    with torch.inference_mode():
        dimensions = int(network.module(torch.zeros(1, 3, side, side)).shape[-1])
    weight, bias = layer["weight"], layer["bias"]
    shapes = tuple(weight.shape), tuple(bias.shape)
    if shapes != ((dimensions, dimensions), (dimensions,)):
        raise ModelError(
            f"{source}: the linear layer behind {network.name} has weights {shapes[0]} and biases "
            f"{shapes[1]}, but the network gives vectors of {dimensions} numbers",
            hint=hint,
        )
    module = WithFinalLayer(network.module, weight, bias).eval()
    return Network.of(network.name, module, side, mean=network.mean, std=network.std)
