"""Logistic regression on standardised vectors, by L-BFGS in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

DECAYS = (1e-1, 1e-2, 1e-3, 1e-4)
MOST_VECTORS = 20_000
MOST_DIMENSIONS = 512
FOLDS = 5
_ITERATIONS = 60
_SMALL = 1_000_000


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted classifier."""

    mean: Tensor
    axes: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, vectors: Vectors) -> Labels:
        inputs = (torch.from_numpy(vectors) - self.mean) @ self.axes
        classes: Labels = F.linear(inputs, self.weight, self.bias).argmax(1).numpy()
        return classes


def fit(vectors: Vectors, labels: Labels, decay: float | None = None, seed: int = 0) -> Probe:
    """Minimise the mean cross-entropy plus decay / 2 times the squared weights.

    Args:
        vectors: (N, D); beyond 512 dimensions, their first 512 principal components are used.
        labels: (N,) from 0.
        decay: None takes the one of `DECAYS` that is best on a fifth of the rows held out.
        seed: Draws which rows are held out, and which 20,000 of more rows are used.
    """
    order = np.random.default_rng(seed).permutation(len(vectors))[:MOST_VECTORS]
    targets = torch.from_numpy(labels[order])
    classes = int(labels.max()) + 1
    with _threads(len(order) * min(vectors.shape[1], MOST_DIMENSIONS)):
        mean, axes = _axes(torch.from_numpy(vectors[order]))
        inputs = (torch.from_numpy(vectors[order]) - mean) @ axes
        if decay is None:
            decay = _best_decay(inputs, targets, classes)
        weight, bias = _minimise(inputs, targets, _start(inputs, classes), decay)
    return Probe(mean, axes, weight, bias)


def out_of_fold(vectors: Vectors, labels: Labels, groups: Labels) -> Labels:
    """Predict each row by a probe that was fitted on the folds without its group."""
    from sklearn.model_selection import StratifiedGroupKFold

    predicted = np.full(len(labels), -1, np.int64)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for known, asked in folds.split(vectors, labels, groups):
        predicted[asked] = fit(vectors[known], labels[known]).predict(vectors[asked])
    return predicted


@contextmanager
def _threads(values: int) -> Iterator[None]:
    """One thread for small inputs: on a busy machine several wait for one another at every step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if values < _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _axes(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and matrix (D, d) to standardised vectors, rotated and cut where they are wide."""
    scale, mean = torch.std_mean(vectors, 0)
    inverse = torch.where(scale > 1e-6, 1 / scale, torch.zeros(()))
    if vectors.shape[1] <= MOST_DIMENSIONS:
        return mean, torch.diag(inverse)
    standard = (vectors - mean) * inverse
    if len(vectors) < vectors.shape[1]:
        directions = torch.linalg.svd(standard, full_matrices=False)[2].T
    else:
        directions = torch.linalg.eigh(standard.T @ standard)[1].flip(1)  # they were rising
    return mean, inverse[:, None] * directions[:, :MOST_DIMENSIONS]


def _start(inputs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(classes, inputs.shape[1]), torch.zeros(classes)


def _best_decay(inputs: Tensor, targets: Tensor, classes: int) -> float:
    """From strong to weak, each going on from the last; the rows come in random order."""
    held = len(inputs) // 5
    if held < classes:  # too few to tell
        return 1 / len(inputs)
    parameters, scores = _start(inputs, classes), []
    for decay in DECAYS:
        parameters = _minimise(inputs[held:], targets[held:], parameters, decay)
        right = F.linear(inputs[:held], *parameters).argmax(1) == targets[:held]
        scores.append(float(right.float().mean()))
    return DECAYS[int(np.argmax(scores))]


def _minimise(
    inputs: Tensor, targets: Tensor, start: tuple[Tensor, Tensor], decay: float
) -> tuple[Tensor, Tensor]:
    weight, bias = (tensor.clone().requires_grad_() for tensor in start)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        fitted = F.cross_entropy(F.linear(inputs, weight, bias), targets)
        value = fitted + decay / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
