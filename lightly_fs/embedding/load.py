"""From `RunConfig` to an `Embedder`: which model, which weights, which runtime."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import safe_open
from torch import nn

from lightly_fs.config.run import RunConfig, Runtime
from lightly_fs.embedding import bundled, lightly_resnet
from lightly_fs.embedding.checkpoint import (
    Checkpoint,
    State,
    guess_name,
    load_state,
    read_checkpoint,
    read_state,
    require_finite,
)
from lightly_fs.embedding.colour_grid import build_colour_grid
from lightly_fs.embedding.csv import CsvEmbedder
from lightly_fs.embedding.download import download, is_url
from lightly_fs.embedding.embedder import Embedder, Network
from lightly_fs.embedding.final_layer import with_final_layer
from lightly_fs.embedding.openvino_runtime import OpenVinoEmbedder
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.embedding.weights_file import require_file
from lightly_fs.errors import ConfigError, LightlyFSError, ModelError
from lightly_fs.escaping import escape

RANDOM = "random"
BUNDLED = "bundled"
COLOUR_GRID = "colour-grid"
_logger = logging.getLogger(__name__)


class Family(Protocol):
    """Where models of one kind come from: the functions of a module."""

    def has_model(self, name: str) -> bool: ...

    def model_names(self) -> list[str]: ...

    def fetch(self, name: str, cache: Path) -> Path: ...

    def build(
        self, name: str, state: State | None, *, input_size: int | None = None
    ) -> Network: ...


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
        choose_device(config)  # a mistake in it is one, even where no model runs
        path = Path(config.shared_dir, config.embeddings)
        require_file(path, "embeddings file", "a CSV file: filenames,embedding_0,…,labels")
        return CsvEmbedder(path, filenames)
    return start_embedder(config, lambda: load_network(config))


def start_embedder(config: RunConfig, network: Callable[[], Network]) -> Embedder:
    """Return a network on the runtime that was asked for, or on the fastest one that is there."""
    embedder = _start(config, network)
    info = embedder.info
    _logger.info(
        "model %s: %d dimensions from %d px, %s %s, weights %s",
        *(info.name, info.dimensions, info.input_size, info.runtime, info.precision),
        info.weights_sha256[:12],
    )
    return embedder


def load_network(config: RunConfig) -> Network:
    """Return the model that `config` names, with its weights.

    Weights that are given without a model (`model=bundled`, the default) tell by themselves which
    network they are of when our training or the lightly library wrote them.
    """
    cache = cache_directory(config) / "weights"
    if config.model == COLOUR_GRID:
        return build_colour_grid()
    if config.weights == RANDOM and config.model != BUNDLED:
        family, name = _find(config.model)
        _logger.warning("weights=random: the embeddings of %s mean nothing", config.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return family.build(name, None)
    path = _given_weights(config, cache)
    if path is not None:
        return load_weights(path, config.model)
    if config.model == BUNDLED:
        return load_bundled()
    family, name = _find(config.model)
    fetched = family.fetch(name, cache)
    network = family.build(name, read_state(fetched))
    require_finite(str(fetched), network.module)
    return network


def load_weights(path: Path, model: str = BUNDLED) -> Network:
    """Return the network whose weights are in a file.

    Args:
        path: Weights of any kind that `read_checkpoint` reads.
        model: Which network; `bundled` takes the one that the file was written for, where it
            says so, and else the bundled one.

    Raises:
        ModelError: The file cannot be read, or does not fit.
    """
    checkpoint = read_checkpoint(path)
    network = _with_end(path, _network_of(path, checkpoint, model), checkpoint)
    require_finite(str(path), network.module)
    return network


def _with_end(path: Path, network: Network, checkpoint: Checkpoint) -> Network:
    layer = checkpoint.final_layer
    return network if layer is None else with_final_layer(network, layer, str(path))


def _network_of(path: Path, checkpoint: Checkpoint, model: str) -> Network:
    lightly = lightly_resnet.recognise(checkpoint.state)
    if model == BUNDLED:
        own = checkpoint.model or BUNDLED
        if lightly is not None and (own == BUNDLED or own.startswith(lightly_resnet.PREFIX)):
            variant, state = lightly
            size = checkpoint.input_size
            network = lightly_resnet.build(variant, state, source=str(path), input_size=size)
        elif own == BUNDLED:
            network = _bundled_with(path, checkpoint)
        else:
            family, name = _find(own)
            network = family.build(name, checkpoint.state, input_size=checkpoint.input_size)
        if network.name != BUNDLED:
            _logger.info("%s holds %s", path, network.name)
        return network
    family, name = _find(model)
    try:
        return family.build(name, checkpoint.state, input_size=checkpoint.input_size)
    except ModelError as error:
        made_for = checkpoint.model or (lightly and str(lightly[0]))
        if made_for:
            error.hint = f"leave model= out: the file holds {escape(made_for)}"
        elif guess := guess_name(checkpoint.state):
            error.hint = f"the names in the file are those of {guess}"
        raise


def load_bundled(path: Path | None = None) -> Network:
    """Return the model that ships with the package, with its own or other weights of its shape."""
    if path is not None:
        checkpoint = read_checkpoint(path)
        network = _with_end(path, _bundled_with(path, checkpoint), checkpoint)
        require_finite(str(path), network.module)
        return network
    state = _as_float(read_state(bundled.BUNDLED_WEIGHTS))

    def build() -> nn.Module:
        return _bundled_module(bundled.BUNDLED_WEIGHTS, state)

    return Network(BUNDLED, build, state, bundled.INPUT_SIZE, bundled.MEAN, bundled.STD)


def _bundled_with(path: Path, checkpoint: Checkpoint) -> Network:
    module = _bundled_module(path, _as_float(checkpoint.state))
    size = checkpoint.input_size or bundled.INPUT_SIZE
    return Network.of(BUNDLED, module, size, mean=bundled.MEAN, std=bundled.STD)


def _bundled_module(path: Path, state: State) -> nn.Module:
    module = bundled.BundledNet()
    problem = load_state(module, state)
    if problem is not None:
        guess = guess_name(state) or "timm/resnet18"
        raise ModelError(
            f"{path} does not fit the bundled model: {problem}",
            hint=f"name the network that the weights were made for, e.g. model={guess}",
        )
    return module.eval()


def _as_float(state: State) -> State:
    """Return tensors as the module will hold them, so that their hash is the same from any file."""
    return {name: value.float() for name, value in state.items()}


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


def check_model(model: str) -> None:
    """Refuse a name that nobody knows, without loading anything.

    Raises:
        ModelError: No family has a model of that name.
    """
    if model not in (BUNDLED, COLOUR_GRID):
        _find(model)


def _find(model: str) -> tuple[Family, str]:
    prefix, slash, rest = model.partition("/")
    prefixes, name = ([prefix], rest) if slash and prefix in FAMILIES else (list(FAMILIES), model)
    families = [cast(Family, importlib.import_module(FAMILIES[each])) for each in prefixes]
    for family in families:
        if family.has_model(name):
            return family, name
    known = {each for family in families for each in family.model_names()}
    if len(prefixes) > 1:
        known.add(BUNDLED)
    typed = model.removesuffix(name)  # a prefix that was given belongs to the suggestion, too
    close = [typed + each for each in difflib.get_close_matches(name, sorted(known), n=3)]
    raise ModelError(
        f"there is no model `{escape(model)}`",
        hint=f"did you mean {' or '.join(close)}?" if close else "model=bundled needs no name",
    )


def _start(config: RunConfig, load: Callable[[], Network]) -> Embedder:
    device = choose_device(config)
    network = load()
    if device.type == "cuda":
        return TorchEmbedder(network, device)
    if config.runtime is Runtime.OPENVINO:
        return OpenVinoEmbedder(network, cache_directory(config) / "openvino")
    if config.runtime is Runtime.AUTO:
        if importlib.util.find_spec("openvino") is None:
            _logger.info(
                "embedding is several times faster with: pip install 'lightly-fs[openvino]'"
            )
            return TorchEmbedder(network, device)
        try:
            return OpenVinoEmbedder(network, cache_directory(config) / "openvino")
        except LightlyFSError as error:
            _logger.warning("%s; using torch", error.message)
    return TorchEmbedder(network, device)


def choose_device(config: RunConfig) -> torch.device:
    """Return where the model runs.

    Raises:
        ConfigError: `device` is no device, or `runtime` does not run there.
        ModelError: It is a GPU that is not there.
    """
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


def cache_directory(config: RunConfig) -> Path:
    """Return the local directory for what can be made again."""
    return Path(config.cache_dir or "~/.cache/lightly-fs").expanduser()
