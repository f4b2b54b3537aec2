"""A small convolutional network with seeded weights, for tests of the runtimes."""

import numpy as np
import torch
from torch import Tensor, nn

from lightly_fs.embedding.embedder import Network

SIDE = 32


def small_network(seed: int = 0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2),
            nn.BatchNorm2d(32),
            nn.Hardswish(),
            nn.Conv2d(32, 64, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 24),
        )
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Network.of("small", module.eval(), SIDE, mean=mean, std=std)


def pixels(n: int, side: int = SIDE, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def cosines(first, second):
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms
