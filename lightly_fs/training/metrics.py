"""How good an embedding is without labels: alignment, uniformity, and finding the other view.

Alignment and uniformity: Wang and Isola, "Understanding Contrastive Representation Learning
through Alignment and Uniformity on the Hypersphere", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Quality:
    """What is measured on two views of images that are not trained on.

    Attributes:
        alignment: Mean squared distance of the two views of an image; lower is better.
        uniformity: Logarithm of the mean Gaussian potential (t = 2) of all pairs; lower is better.
        knn: Share of images whose second view is nearer to its own first view than to any other's.
    """

    alignment: float
    uniformity: float
    knn: float


def measure_quality(first: Tensor, second: Tensor) -> Quality:
    """Return the measures for embeddings of the two views.

    Args:
        first: (N, D) float32, N at least 2; scaled to unit length here.
        second: (N, D) float32, row by row of the same images.
    """
    one = torch.nn.functional.normalize(first.double(), dim=1)
    two = torch.nn.functional.normalize(second.double(), dim=1)
    potential = torch.pdist(one).square().mul(-2).exp().mean().log()
    nearest = (two @ one.T).argmax(dim=1)
    found = nearest == torch.arange(len(one), device=nearest.device)
    return Quality(
        alignment=float((one - two).square().sum(dim=1).mean()),
        uniformity=float(potential),
        knn=float(found.double().mean()),
    )
