"""The bundled embedding model: its architecture and how its weights are read.

A small network of our own (MobileNetV4 conv-small and a projection to 128 dimensions) whose
weights ship in the package, so that a first run needs no download. Input is a photograph squashed
to 128x128 (antialiased bilinear), scaled to [0, 1] and normalised with `MEAN` and `STD`.
`scripts/train_bundled.py` makes the weights, `docs/model-card.md` says what they can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lightly_fs.errors import ModelError

ARCHITECTURE = "mobilenetv4_conv_small"
INPUT_SIZE = 128
DIMENSIONS = 128
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BUNDLED_WEIGHTS = Path(__file__).parent / "weights" / "bundled.safetensors"

# Batch norm counts its training batches; inference never reads the count, so it is not stored.
_NOT_STORED = "num_batches_tracked"


class BundledNet(nn.Module):
    """Normalised images (B, 3, 128, 128) to embeddings (B, 128), not L2-normalised."""

    def __init__(self) -> None:
        super().__init__()
        import timm  # a second or more, which a run with a converted model saves

        self.backbone: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
        features = int(cast(int, self.backbone.head_hidden_size))
        self.projection = nn.Sequential(
            nn.Linear(features, DIMENSIONS, bias=False), nn.BatchNorm1d(DIMENSIONS)
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
