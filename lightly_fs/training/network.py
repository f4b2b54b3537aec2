"""What is trained, and where: the run's own network or a ResNet, on which devices."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lightly_fs.config.run import RunConfig
from lightly_fs.embedding import lightly_resnet
from lightly_fs.embedding.checkpoint import State, read_state
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.load import choose_device, load_network
from lightly_fs.errors import ConfigError, MissingExtraError
from lightly_fs.training import memory
from lightly_fs.training.simclr import HEAD

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Devices:
    """Where a training runs.

    Attributes:
        kind: `cpu` or `cuda`.
        count: Processes, one for each device.
        first: Index of the first CUDA device.
    """

    kind: str
    count: int
    first: int = 0

    def device(self, rank: int) -> torch.device:
        return torch.device(self.kind, self.first + rank) if self.kind == "cuda" else CPU


CPU = torch.device("cpu")


def starting_network(config: RunConfig) -> Network:
    """Return the network that training starts from.

    Raises:
        ConfigError: Keys contradict one another.
        MissingExtraError: The library that trains is not installed.
        ModelError: The network, its weights or the device cannot be used.
    """
    _check(config)
    training_devices(config)
    settings = config.lightly
    network = _resnet(config) if settings.model.name else load_network(config)
    size = settings.collate.input_size or network.input_size
    if size != network.input_size:
        network = _of_size(network, size)
    if not settings.pre_trained and not settings.model.name:
        _draw_again(network.module, settings.seed)
        network = _with_inputs(network, size)
    return network


def starting_head(config: RunConfig) -> State:
    """Return the projection head of the checkpoint that training goes on from; empty without."""
    if not config.checkpoint:
        return {}
    state = read_state(Path(config.shared_dir, config.checkpoint))
    return {n.removeprefix(HEAD): value for n, value in state.items() if n.startswith(HEAD)}


def starting_weights(config: RunConfig, network: Network, head: State) -> str:
    """Return a hash of the weights that training starts from, or how they are drawn.

    What the same seed draws may differ in its last bits on another CPU.
    """
    if starts_random(config):
        return f"drawn from seed {config.lightly.seed}"
    digest = hashlib.sha256(network.weights_sha256().encode())
    for name, value in sorted(head.items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def starts_random(config: RunConfig) -> bool:
    """Say whether the network starts from weights that are drawn."""
    given = bool(config.checkpoint or config.weights)
    return (
        not config.lightly.pre_trained
        or config.weights == "random"
        or bool(config.lightly.model.name and not given)
    )


def training_devices(config: RunConfig) -> Devices:
    """Return on which devices `lightly.trainer.gpus` and `device` let training run.

    Raises:
        ConfigError: More GPUs than there are.
        ModelError: As `choose_device`.
    """
    gpus = config.lightly.trainer.gpus
    device = choose_device(config)
    if gpus == 0 or (device.type == "cpu" and (config.device == "cpu" or gpus in (-1, 1))):
        return Devices("cpu", max(1, gpus))
    there = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.index is not None and gpus == 1:
        return Devices("cuda", 1, device.index)
    if gpus > there or device.index is not None:
        seen = f"device={config.device}" if there else "torch sees no CUDA device"
        raise ConfigError(
            f"lightly.trainer.gpus={gpus}, but {seen if there != 1 else 'there is one GPU'}",
            hint=f"lightly.trainer.gpus=1, or device=cpu for {gpus} processes on the CPU",
        )
    return Devices("cuda", there if gpus == -1 else gpus)


def _check(config: RunConfig) -> None:
    settings = config.lightly
    given = [key for key in ("embeddings", "checkpoint", "weights") if getattr(config, key)]
    if config.embeddings:
        raise ConfigError(
            "enable_training=True trains a model, and embeddings= brings vectors without one",
            hint="drop one of the two",
        )
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude one another", hint=f"keep {given[0]}=")
    if given and not settings.pre_trained:
        raise ConfigError(
            f"lightly.pre_trained=False starts from random weights, and {given[0]}= brings others",
            hint="drop one of the two",
        )
    if settings.loader.batch_size == 1 and not settings.criterion.memory_bank_size:
        raise ConfigError(
            "lightly.loader.batch_size=1: a batch of one image has nothing to tell it apart from",
            hint="lightly.loader.batch_size=16",
        )
    if settings.model.name and config.model != "bundled":
        raise ConfigError(
            f"model={config.model} and lightly.model.name={settings.model.name} "
            "exclude one another",
            hint="model= names the network to train; leave lightly.model.name out",
        )
    if importlib.util.find_spec("lightly") is None:
        raise MissingExtraError(
            "training needs the library `lightly`, which is not installed",
            hint="pip install 'lightly-fs[train]'",
        )


def _resnet(config: RunConfig) -> Network:
    """Return the ResNet that `lightly.model` describes."""
    settings = config.lightly.model
    variant = lightly_resnet.Variant(settings.name, float(settings.width), settings.num_ftrs)
    if config.checkpoint or config.weights:
        network = load_network(config)
        if network.name != str(variant):
            raise ConfigError(
                f"lightly.model describes {variant}, and the weights are those of {network.name}",
                hint="leave lightly.model out: the weights tell the network",
            )
        return network
    if config.lightly.pre_trained:
        _logger.warning("there are no trained weights of %s: it starts from random ones", variant)
    with memory.allocating(config.lightly, CPU), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.lightly.seed)
        module = lightly_resnet.build_module(variant)
    return Network.of(
        str(variant),
        module.eval(),
        lightly_resnet.INPUT_SIZE,
        mean=lightly_resnet.MEAN,
        std=lightly_resnet.STD,
    )


def _of_size(network: Network, size: int) -> Network:
    """Return the network with inputs of another size.

    Raises:
        ConfigError: It takes its own size alone.
    """
    try:
        with torch.inference_mode():
            network.module(torch.zeros(1, 3, size, size))
    except Exception as error:
        raise ConfigError(
            f"lightly.collate.input_size={size}: {network.name} cannot take such images: {error}",
            hint=f"leave lightly.collate.input_size out: it takes {network.input_size} pixels",
        ) from error
    return _with_inputs(network, size)


def _with_inputs(network: Network, size: int) -> Network:
    """Return a network of its module as it is now, with inputs of `size` pixels."""
    return Network.of(network.name, network.module, size, mean=network.mean, std=network.std)


def _draw_again(module: nn.Module, seed: int) -> None:
    """Give every layer that has a way to draw its weights new ones."""
    _logger.info("lightly.pre_trained=False: training starts from random weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in module.modules():
            draw = getattr(layer, "reset_parameters", None)
            if callable(draw):
                draw()
