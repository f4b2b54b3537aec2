"""Checkpoints of the container and of the lightly library: its ResNets, known by their tensors.

These networks are sequences: a batch norm of the input, a 3x3 convolution without max pooling and
without a ReLU after it, four stages of residual blocks, a 1x1 convolution to the embedding's
dimensions and global average pooling. Tutorials leave the first and the last convolution out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightly_fs.embedding.checkpoint import State, load_state
from lightly_fs.embedding.embedder import Network
from lightly_fs.errors import ModelError

INPUT_SIZE = 64
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PREFIX = "lightly/"

BLOCKS = {
    "resnet-9": (1, 1, 1, 1),
    "resnet-18": (2, 2, 2, 2),
    "resnet-34": (3, 4, 6, 3),
    "resnet-50": (3, 4, 6, 3),
    "resnet-101": (3, 4, 23, 3),
    "resnet-152": (3, 8, 36, 3),
}
"""Blocks of each stage; from resnet-50 on they are bottlenecks."""

BOTTLENECKS = ("resnet-50", "resnet-101", "resnet-152")
_CHANNELS = 64


@dataclass(frozen=True)
class Variant:
    """Which of these networks.

    Attributes:
        name: `resnet-9`, `resnet-18`, `resnet-34`, `resnet-50`, `resnet-101` or `resnet-152`.
        width: Channels are 64, 128, 256, 512 times this.
        num_ftrs: Dimensions of the embedding; None without the 1x1 convolution.
        input_norm: Whether a batch norm of the input comes first.
    """

    name: str = "resnet-18"
    width: float = 1.0
    num_ftrs: int | None = 32
    input_norm: bool = True

    def __str__(self) -> str:
        dimensions = "" if self.num_ftrs is None else f"/d{self.num_ftrs}"
        return f"{PREFIX}{self.name}{dimensions}/w{self.width}"


class Block(nn.Module):
    """A residual block, basic or bottleneck, with the tensor names of the lightly library."""

    def __init__(self, channels: int, planes: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        out = planes * 4 if bottleneck else planes
        first = (1, 1, 0) if bottleneck else (3, stride, 1)
        second = (3, stride, 1) if bottleneck else (3, 1, 1)
        self.conv1 = nn.Conv2d(channels, planes, *first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, *second, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        if bottleneck:
            self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut.append(nn.Conv2d(channels, out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out))
        self.bottleneck = bottleneck

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.relu(self.bn1(self.conv1(images)))
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(nn.functional.relu(x)))
        return nn.functional.relu(x + self.shortcut(images))


def build_module(variant: Variant) -> nn.Sequential:
    """Return the network, (B, 3, S, S) to (B, D), with the tensor names of a lightly backbone."""
    base = int(_CHANNELS * variant.width)
    bottleneck = variant.name in BOTTLENECKS
    layers: list[nn.Module] = [nn.BatchNorm2d(3)] if variant.input_norm else []
    layers += [nn.Conv2d(3, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base)]
    channels = base
    for stage, n_blocks in enumerate(BLOCKS[variant.name]):
        planes = base * 2**stage
        blocks = nn.Sequential()
        for index in range(n_blocks):
            stride = 2 if stage and not index else 1
            blocks.append(Block(channels, planes, stride, bottleneck=bottleneck))
            channels = planes * 4 if bottleneck else planes
        layers.append(blocks)
    if variant.num_ftrs is not None:
        layers.append(nn.Conv2d(channels, variant.num_ftrs, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def recognise(state: State) -> tuple[Variant, State] | None:
    """Return which network `state` is of and its tensors without what training put around them.

    None when its names are not those of a sequence of four stages of lightly's blocks.
    """
    shortcut = re.compile(r"(|.*\.)\d+\.0\.shortcut\.0\.weight")
    prefixes = [found[1] for found in map(shortcut.fullmatch, state) if found]
    if not prefixes:
        return None
    # The first of several is the encoder; the others are its momentum copies.
    inner = {
        name.removeprefix(prefixes[0]): value
        for name, value in state.items()
        if name.startswith(prefixes[0])
    }
    return _variant(inner)


def _variant(state: Mapping[str, Tensor]) -> tuple[Variant, State] | None:
    counts: dict[int, int] = {}
    for name in state:
        if found := re.fullmatch(r"(\d+)\.\d+\.conv1\.weight", name):
            counts[int(found[1])] = counts.get(int(found[1]), 0) + 1
    stages = sorted(counts)
    if len(stages) != len(BLOCKS["resnet-18"]) or stages[0] not in (2, 3):
        return None
    first = stages[0]
    bottleneck = f"{first}.0.conv3.weight" in state
    blocks = tuple(counts[stage] for stage in stages)
    names = [n for n, b in BLOCKS.items() if b == blocks and (n in BOTTLENECKS) == bottleneck]
    stem = state.get(f"{first - 2}.weight")
    if not names or stem is None or stem.dim() != 4:
        return None
    head = state.get(f"{stages[-1] + 1}.weight")
    variant = Variant(
        name=names[0],
        width=stem.shape[0] / _CHANNELS,
        num_ftrs=None if head is None or not head.dim() else head.shape[0],
        input_norm=first == 3,
    )
    sequence = {name: value for name, value in state.items() if re.match(r"\d+\.", name)}
    return variant, {name: _joined(sequence, name) for name in sequence}


def _joined(state: State, name: str) -> Tensor:
    """Return a tensor; the statistics of a batch norm that was split for MoCo are averaged."""
    layer, value = name.rpartition(".")[0], state[name]
    weight = state.get(f"{layer}.weight")
    if not name.endswith(("running_mean", "running_var")) or weight is None:
        return value
    n_channels = weight.numel()
    if not n_channels or value.numel() == n_channels or value.numel() % n_channels:
        return value
    return value.reshape(-1, n_channels).mean(dim=0)


def build(variant: Variant, state: State, *, source: str, input_size: int | None) -> Network:
    """Return the network with the weights of `state`, as `recognise` returns them.

    Args:
        variant: Which network.
        state: Its tensors.
        source: Where they come from, for the error.
        input_size: S, pixels; None for 64, which the container embeds with.

    Raises:
        ModelError: Tensors are missing, superfluous or of another shape.
    """
    # On no device at first: initialising what is overwritten takes half of the time.
    with torch.device("meta"):
        module = build_module(variant)
    module = module.to_empty(device="cpu")
    for name, buffer in module.named_buffers():
        if name.endswith("num_batches_tracked"):  # the one tensor that a file may lack
            buffer.zero_()
    problem = load_state(module, state)
    if problem is not None:
        raise ModelError(
            f"{source} looks like {variant} of the lightly library, but does not fit it: {problem}",
            hint="give the checkpoint as lightly wrote it; model=NAME is for other networks",
        )
    return Network.of(str(variant), module.eval(), input_size or INPUT_SIZE, mean=MEAN, std=STD)
