"""The bundled embedding model: its architecture and how its weights are read.

A small residual network of our own whose weights ship in the package, so that a first run needs
no download. Input is a photograph squashed to 64x64 (antialiased bilinear), scaled to [0, 1] and
normalised with `MEAN` and `STD`. Few pixels and dense 3x3 convolutions instead of many pixels and
depthwise ones: the same time per image at inference, and twice the images per second in training.
`scripts/train_bundled.py` makes the weights, `docs/model-card.md` says what they can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from lightly_fs.errors import ModelError

ARCHITECTURE = "resnet, basic blocks 1-2-2-2, widths 32-64-160-320"
WIDTHS = (32, 64, 160, 320)
DEPTHS = (1, 2, 2, 2)
INPUT_SIZE = 64
DIMENSIONS = 128
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BUNDLED_WEIGHTS = Path(__file__).parent / "weights" / "bundled.safetensors"

# Batch norm counts its training batches; inference never reads the count, so it is not stored.
_NOT_STORED = "num_batches_tracked"


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """The basic block of He et al. 2016, its shortcut pooled before it is projected (ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        same = inputs == outputs and stride == 1
        project = nn.Sequential(pool, *conv_norm(inputs, outputs, 1))
        self.shortcut: nn.Module = nn.Identity() if same else project

    def forward(self, images: Tensor) -> Tensor:
        residual: Tensor = self.second(F.relu(self.first(images)))
        return F.relu(residual + self.shortcut(images))


class Backbone(nn.Sequential):
    """Normalised images (B, 3, S, S) to pooled features (B, WIDTHS[-1])."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [conv_norm(3, WIDTHS[0], 3, 2), nn.ReLU()]
        width = WIDTHS[0]
        for stage, (outputs, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(width, outputs, stride))
                width = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class BundledNet(nn.Module):
    """Normalised images (B, 3, 64, 64) to embeddings (B, 128), not L2-normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.projection = nn.Sequential(
            nn.Linear(WIDTHS[-1], DIMENSIONS, bias=False), nn.BatchNorm1d(DIMENSIONS)
        )

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.projection(self.backbone(images))
        return embeddings


def stored_state(net: BundledNet) -> dict[str, Tensor]:
    """The tensors a weights file holds, as float16."""
    return {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith(_NOT_STORED)
    }


def load_bundled_state(path: Path) -> tuple[BundledNet, dict[str, str]]:
    """The network in float32 and eval mode, and the metadata of its weights file.

    Raises `ModelError` when the file holds another network's tensors.
    """
    with safe_open(path, framework="pt", device="cpu") as weights:
        metadata: dict[str, str] = dict(weights.metadata() or {})
        state = {name: weights.get_tensor(name).float() for name in weights.keys()}  # noqa: SIM118
    net = BundledNet()
    _require_same_tensors(path, net.state_dict(), state)
    net.load_state_dict(state, strict=False)
    return net.eval(), metadata


def _require_same_tensors(
    path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    shapes = {n: tuple(t.shape) for n, t in expected.items() if not n.endswith(_NOT_STORED)}
    wrong = sorted(shapes.items() ^ {n: tuple(t.shape) for n, t in found.items()}.items())
    if wrong:
        raise ModelError(
            f"{path} does not hold the bundled network: {len(wrong)} tensors are missing, "
            f"unexpected or of another shape, the first is {wrong[0][0]}"
        )
