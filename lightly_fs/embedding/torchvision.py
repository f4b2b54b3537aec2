"""Classification models of torchvision: what goes into their last layer is the embedding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from lightly_fs.embedding.checkpoint import State, load_state
from lightly_fs.embedding.download import download
from lightly_fs.embedding.embedder import Network
from lightly_fs.errors import ModelError


def has_model(name: str) -> bool:
    return name.partition(".")[0] in model_names()


def model_names() -> list[str]:
    return list(torchvision.models.list_models(module=torchvision.models))


def fetch(name: str, cache: Path) -> Path:
    """Return the pretrained weights of `name` (`resnet50`, `resnet50.IMAGENET1K_V1`)."""
    return download(_weights(name).url, cache)


def build(name: str, state: State | None, *, input_size: int | None = None) -> Network:
    """Return `name` with the weights of `state`, or as torchvision initialises it.

    Args:
        name: As torchvision knows it.
        state: Tensors by name; a classifier among them is left out.
        input_size: S, pixels; None for the one of the model's classification.
    """
    architecture = name.partition(".")[0]
    preset = _weights(name).transforms()
    side = input_size or int(preset.crop_size[0])
    module = torchvision.models.get_model(architecture, **_options(architecture, side))
    head = remove_last_layer(module)
    if state is not None:
        problem = load_state(module, _renamed(state), head=[head])
        if problem is not None:
            raise ModelError(
                f"the weights do not fit torchvision/{name}: {problem}",
                hint="model= must name the network that the weights were made for",
            )
    return Network.of(
        f"torchvision/{name}", module.eval(), side, mean=tuple(preset.mean), std=tuple(preset.std)
    )


def remove_last_layer(module: nn.Module) -> str:
    """Replace the layer that tells the 1,000 classes by nothing; return its name.

    What is left of a classifier before it (norms, hidden layers) belongs to the features, as with
    timm. Only squeezenet classifies with a convolution.
    """
    layers: dict[str, nn.Module] = dict(module.named_modules())
    kinds = (nn.Linear, nn.Conv2d)
    name = [name for name, layer in layers.items() if isinstance(layer, kinds)][-1]
    parent, _, child = name.rpartition(".")
    setattr(layers[parent], child, nn.Identity())
    return name


def _options(architecture: str, side: int) -> dict[str, Any]:
    if architecture.startswith("vit_"):
        return {"image_size": side}
    if architecture in ("googlenet", "inception_v3"):
        return {"transform_input": True, "init_weights": False}
    return {}


def _renamed(state: State) -> State:
    """Return `state` with the names that densenet has had since torch 0.4.1."""
    old = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
    return {old.sub(r"\1\2", name): value for name, value in state.items()}


def _weights(name: str) -> Any:  # noqa: ANN401 - torchvision is untyped
    architecture, _, tag = name.partition(".")
    variants = torchvision.models.get_model_weights(architecture)
    if tag and tag not in variants.__members__:
        raise ModelError(
            f"torchvision knows no weights {name}",
            hint=f"there are: {', '.join(f'{architecture}.{each.name}' for each in variants)}",
        )
    return variants[tag] if tag else variants.DEFAULT
