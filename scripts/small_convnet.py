"""A small convolutional network, trained from scratch in seconds: what are its images worth?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from lightly_fs.decoding.raster import Pixels

UPDATES = 200
BATCH = 64
LEARNING_RATE = 3e-3
WIDTHS = (32, 64, 128)


def as_tensor(images: Sequence[Pixels]) -> Tensor:
    """Images of one size to (N, 3, h, w) float32, about -1 to 1."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return (stacked.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def build(classes: int, seed: int) -> nn.Module:
    """Three strided convolutions, pooling, one linear layer; initialised by the seed."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            convolution = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train(
    net: nn.Module,
    images: Tensor,
    labels: NDArray[np.int64],
    *,
    seed: int,
    updates: int = UPDATES,
) -> None:
    """Updates of 64 images, as many whatever there is: flips, shifts, cosine schedule."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    targets = torch.from_numpy(labels)
    net.train()
    for update in range(updates):
        rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * update / updates))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(images), (BATCH,), generator=rng)
        loss = F.cross_entropy(net(_moved(images[rows], rng)), targets[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()


@torch.inference_mode()
def predict(net: nn.Module, images: Tensor) -> NDArray[np.int64]:
    starts = range(0, len(images), 1_000)
    found: NDArray[np.int64] = torch.cat(
        [net(images[start : start + 1_000]).argmax(1) for start in starts]
    ).numpy()
    return found


def _moved(batch: Tensor, rng: torch.Generator) -> Tensor:
    """Each image flipped or not; the whole batch shifted by up to an eighth of its side."""
    flips = torch.rand(len(batch), generator=rng) < 0.5
    batch = torch.where(flips[:, None, None, None], batch.flip(3), batch)
    height, width = batch.shape[2:]
    most = height // 8
    top, left = torch.randint(2 * most + 1, (2,), generator=rng).tolist()
    padded = F.pad(batch, [most] * 4, mode="reflect")
    return padded[:, :, top : top + height, left : left + width]
