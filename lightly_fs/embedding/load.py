"""From `RunConfig` to an `Embedder`: which model, which weights, which runtime."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import safe_open
from torch import nn

from lightly_fs.config.run import RunConfig, Runtime
from lightly_fs.embedding import bundled
from lightly_fs.embedding.checkpoint import State, load_state, read_state
from lightly_fs.embedding.colour_grid import build_colour_grid
from lightly_fs.embedding.csv import CsvEmbedder
from lightly_fs.embedding.download import download, is_url
from lightly_fs.embedding.embedder import Embedder, Network
from lightly_fs.embedding.openvino_runtime import OpenVinoEmbedder
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import ConfigError, LightlyFSError, ModelError

RANDOM = "random"
_logger = logging.getLogger(__name__)


class Family(Protocol):
    """Where models of one kind come from: the functions of a module."""

    def has_model(self, name: str) -> bool: ...

    def model_names(self) -> list[str]: ...

    def fetch(self, name: str, cache: Path) -> Path: ...

    def build(self, name: str, state: State | None) -> Network: ...


FAMILIES = {
    "timm": "lightly_fs.embedding.timm",
    "torchvision": "lightly_fs.embedding.torchvision",
}
"""Modules by the prefix of a name, imported when a name asks for them (that takes seconds).

Without a prefix, the first family that has the model."""


def load_embedder(config: RunConfig, filenames: Iterable[str] = ()) -> Embedder:
    """Return what turns this run's images into vectors.

    Args:
        config: `embeddings`, or `model` with `weights` or `checkpoint`; `runtime` and `device`.
        filenames: The inventory's; looked at only when the vectors come from a file.

    Raises:
        ModelError: The model, its weights, the device or the embeddings file cannot be used.
        MissingExtraError: The runtime that was asked for is not installed.
        ConfigError: Keys contradict one another.
    """
    given = [key for key in ("embeddings", "checkpoint", "weights") if getattr(config, key)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude one another", hint=f"keep {given[0]}=")
    if config.embeddings:
        return CsvEmbedder(Path(config.shared_dir, config.embeddings), filenames)
    embedder = _start(config)
    info = embedder.info
    _logger.info(
        "model %s: %d dimensions from %d px, %s %s, weights %s",
        *(info.name, info.dimensions, info.input_size, info.runtime, info.precision),
        info.weights_sha256[:12],
    )
    return embedder


def load_network(config: RunConfig) -> Network:
    """Return the model that `config` names, with its weights."""
    cache = _cache(config) / "weights"
    if config.model == "bundled":
        return load_bundled(_given_weights(config, cache))
    if config.model == "colour-grid":
        return build_colour_grid()
    family, name = _find(config.model)
    if config.weights == RANDOM:
        _logger.warning("weights=random: the embeddings of %s mean nothing", config.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return family.build(name, None)
    path = _given_weights(config, cache) or family.fetch(name, cache)
    return family.build(name, read_state(path))


def load_bundled(path: Path | None = None) -> Network:
    """Return the model that ships with the package, with its own or other weights of its shape."""
    file = path or bundled.BUNDLED_WEIGHTS
    # As the module will hold them, so that their hash is the same from any file.
    state = {name: value.float() for name, value in read_state(file).items()}

    def build() -> nn.Module:
        module = bundled.BundledNet()
        problem = load_state(module, state)
        if problem is not None:
            raise ModelError(
                f"{file} does not fit the bundled model: {problem}",
                hint="name the network that the weights were made for, e.g. model=timm/resnet18",
            )
        return module.eval()

    mean, std = bundled.MEAN, bundled.STD
    if path is not None:
        return Network.of("bundled", build(), bundled.INPUT_SIZE, mean=mean, std=std)
    return Network("bundled", build, state, bundled.INPUT_SIZE, mean, std)


def bundled_notice() -> str:
    """Return what a user should know of the bundled weights, in one line."""
    with safe_open(bundled.BUNDLED_WEIGHTS, framework="pt") as weights:
        metadata = weights.metadata() or {}
    return ", ".join(
        metadata[key] for key in ("name", "version", "architecture", "licence") if key in metadata
    )


def _given_weights(config: RunConfig, cache: Path) -> Path | None:
    if config.checkpoint:
        return Path(config.shared_dir, config.checkpoint)
    if is_url(config.weights):
        return download(config.weights, cache)
    return Path(config.weights).expanduser() if config.weights else None


def _find(model: str) -> tuple[Family, str]:
    prefix, slash, rest = model.partition("/")
    prefixes, name = ([prefix], rest) if slash and prefix in FAMILIES else (list(FAMILIES), model)
    families = [cast(Family, importlib.import_module(FAMILIES[each])) for each in prefixes]
    for family in families:
        if family.has_model(name):
            return family, name
    known = {"bundled", *(each for family in families for each in family.model_names())}
    close = difflib.get_close_matches(name, sorted(known), n=3)
    raise ModelError(
        f"there is no model `{model}`",
        hint=f"did you mean {' or '.join(close)}?" if close else "model=bundled needs no name",
    )


def _start(config: RunConfig) -> Embedder:
    """Return the model on the runtime that was asked for, or on the fastest one that is there."""
    device = _device(config)
    if device.type == "cuda":
        return TorchEmbedder(load_network(config), device)
    if config.runtime is Runtime.OPENVINO:
        return OpenVinoEmbedder(load_network(config), _cache(config) / "openvino")
    network = load_network(config)
    if config.runtime is Runtime.AUTO:
        if importlib.util.find_spec("openvino") is None:
            _logger.info(
                "embedding is several times faster with: pip install 'lightly-fs[openvino]'"
            )
            return TorchEmbedder(network, device)
        try:
            return OpenVinoEmbedder(network, _cache(config) / "openvino")
        except LightlyFSError as error:
            _logger.warning("%s; using torch", error.message)
    return TorchEmbedder(network, device)


def _device(config: RunConfig) -> torch.device:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        raise ConfigError(f"device={config.device} is unknown", hint="auto, cpu, cuda or cuda:1")
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "auto":
        usable = cuda and config.runtime is not Runtime.OPENVINO
        return torch.device("cuda" if usable else "cpu")
    device = torch.device(config.device)
    if device.type == "cuda":
        if config.runtime is Runtime.OPENVINO:
            raise ConfigError("runtime=openvino runs on the CPU", hint="drop device=, or runtime=")
        if (device.index or 0) >= cuda:
            raise ModelError(
                f"device={config.device}, but torch sees {cuda or 'no'} CUDA devices",
                hint="device=cpu, or install the driver and a CUDA build of torch",
            )
    return device


def _cache(config: RunConfig) -> Path:
    return Path(config.cache_dir or "~/.cache/lightly-fs").expanduser()
