"""Within-class covariance normalisation: directions in which views of an image differ count less.

Hatch et al., "Within-class covariance normalization for SVM-based speaker recognition", 2006; the
class here is an image with its random views. It has a closed form, and needs no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.training.pack import Copies
from lightly_fs.training.views import Views, view_loader

Vectors = NDArray[np.float64]
Embed = Callable[[Tensor], Vectors]

RIDGE = 1.0
"""So many times the mean variance are added to that of every direction: what is rarely seen to
differ is not blown up."""
MOST_PAIRS = 4096
"""Pairs of views that are measured, and images at most."""
MOST_VIEWS = 16
"""Pairs of views of one image at most."""
_EPOCH = 2**31 + 1
"""Stands for the epoch in the seeds of the first pairs; the next ones follow."""


class Layer(NamedTuple):
    """A linear layer: a vector v becomes `weight @ v + bias`.

    Attributes:
        weight: (D, D).
        bias: (D,).
    """

    weight: Vectors
    bias: Vectors

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return (N, D) for (N, D)."""
        return vectors @ self.weight.T + self.bias


def within_class_layer(plain: Vectors, first: Vectors, second: Vectors) -> Layer | None:
    """Return the layer that makes views of an image differ about equally in all directions.

    It also moves the mean to zero, and keeps the root mean square of the lengths.

    Args:
        plain: (N, D), images as they are embedded later.
        first: (M, D), a view of M images; some may come more than once.
        second: (M, D), another view of the same images, row by row.

    Returns:
        None when no such layer exists: views or images do not differ, or are not finite.
    """
    mean, differences = plain.mean(axis=0), second - first
    covariance = differences.T @ differences / len(differences)
    variance = float(np.trace(covariance)) / len(covariance)
    length = float(np.sqrt(np.square(plain).sum(axis=1).mean()))
    if not (np.isfinite(covariance).all() and np.isfinite(length) and variance > 0):
        return None
    values, axes = np.linalg.eigh(covariance)
    # What is zero may come out a little below it.
    weight = (axes / np.sqrt(np.maximum(values, 0) + RIDGE * variance)) @ axes.T
    new_length = float(np.sqrt(np.square((plain - mean) @ weight).sum(axis=1).mean()))
    if not new_length > 0:
        return None
    weight *= length / new_length
    return Layer(weight, -weight @ mean)


@dataclass(frozen=True, eq=False)
class Images:
    """The images that a layer is measured on.

    Attributes:
        plain: (S, S, 3) uint8 by row, as they are embedded later.
        views: Two views of an image by epoch and row.
        rows: Which of them may be used, at least one.
    """

    plain: Copies
    views: Views
    rows: NDArray[np.int64]


def fitted_layer(
    embed: Embed, images: Images, *, seed: int, batch: int, workers: int
) -> Layer | None:
    """Return the layer for a network, measured on at most `MOST_PAIRS` images.

    The same comes out whatever the number of workers.

    Args:
        embed: The network, (B, S, S, 3) uint8 to (B, D).
        images: What it was trained on.
        seed: Draws images, when there are more.
        batch: So many images are embedded at once.
        workers: Processes that make the views.

    Returns:
        As `within_class_layer`.
    """
    rows = np.random.default_rng((seed, _EPOCH)).permutation(images.rows)[:MOST_PAIRS]
    plain = [
        embed(torch.from_numpy(np.stack([images.plain[int(row)] for row in part])))
        for part in np.split(rows, range(batch, len(rows), batch))
    ]
    repeats = min(MOST_VIEWS, -(-MOST_PAIRS // len(rows)))
    keys = [(_EPOCH + number, int(row)) for number in range(repeats) for row in rows]
    batches = [keys[start : start + batch] for start in range(0, len(keys), batch)]
    both = [
        (embed(pair[:, 0]), embed(pair[:, 1]))
        for pair in view_loader(images.views, batches, workers)
    ]
    first, second = (np.concatenate(part) for part in zip(*both, strict=True))
    return within_class_layer(np.concatenate(plain), first, second)
