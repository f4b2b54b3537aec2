"""Maps of embeddings: PCA by randomised SVD, neighbourhoods by PaCMAP; numpy alone, same on repeat.

PaCMAP is written out here: its reference implementation compiles for 18 s at its first import and
needs 4 s at every later one (two cores), longer than the whole report of a few thousand images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

NEIGHBOURS = 10
_MID_NEAR = 5
_FURTHER = 20
_PHASES = (100, 200, 450)


def pca(vectors: Floats, n_components: int, seed: int) -> tuple[Floats, float]:
    """Return principal components (N, C) and the share of variance they hold.

    Randomised range finder with power iterations: Halko, Martinsson, Tropp 2011, algorithm 4.4;
    exact when the vectors have few rows or columns. The largest value of an axis is positive.
    """
    n, dimensions = vectors.shape
    centred = vectors.astype(np.float32) - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    width = min(n, dimensions, n_components + 10)
    basis = np.random.default_rng([seed, 5]).standard_normal((dimensions, width), np.float32)
    for _ in range(4):
        basis = np.linalg.qr(centred @ basis)[0]
        basis = np.linalg.qr(centred.T @ basis)[0]
    left, values, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    scores = np.zeros((n, n_components), np.float32)
    kept = min(n_components, len(values))
    scores[:, :kept] = left[:, :kept] * values[:kept]
    peaks = scores[np.abs(scores).argmax(axis=0), np.arange(n_components)]
    total = float(np.square(centred, dtype=np.float64).sum())
    share = float(np.square(values[:kept], dtype=np.float64).sum()) / total if total else 1.0
    return scores * np.where(peaks < 0, -1, 1).astype(np.float32), min(share, 1.0)


def pacmap(vectors: Floats, seed: int) -> Floats:
    """Return a map (N, 2) in which neighbours stay neighbours, for N of four or more.

    Wang, Huang, Rudin, Shaposhnik 2021, "Understanding how dimension reduction tools work",
    with the defaults of their implementation: Adam, 450 steps, three phases of weights.
    """
    reduced, _ = pca(vectors, min(100, *vectors.shape), seed)
    random = np.random.default_rng([seed, 6])
    near, further = _neighbours(reduced), None
    further = _further(near, random)
    middle = _mid_near(reduced, random)
    scale = max(float(reduced[:, :2].std()), 1e-12)
    start = np.zeros((len(reduced), 2), np.float32)
    start[:, : reduced.shape[1]] = reduced[:, :2] / scale * 1e-2
    return _descend(start, near, middle, further)


def _neighbours(points: Floats) -> Rows:
    """Return (N, k) neighbours by distance, scaled by how dense both ends' surroundings are."""
    n = len(points)
    wide, k = min(n - 1, NEIGHBOURS + 50), min(n - 1, NEIGHBOURS)
    squares, found = np.empty((n, wide), np.float32), np.empty((n, wide), np.int64)
    norms = np.einsum("nd,nd->n", points, points)
    for row in range(0, n, 1024):
        block = norms[row : row + 1024, None] + norms - 2 * points[row : row + 1024] @ points.T
        inside = np.arange(len(block))
        block[inside, inside + row] = np.inf
        part = np.argpartition(block, wide - 1, axis=1)[:, :wide]
        value = np.take_along_axis(block, part, axis=1)
        order = np.lexsort((part, value), axis=1)
        found[row : row + 1024] = np.take_along_axis(part, order, axis=1)
        squares[row : row + 1024] = np.take_along_axis(value, order, axis=1)
    distances = np.sqrt(np.maximum(squares, 0))
    density = np.maximum(distances[:, min(3, wide - 1) : 6].mean(axis=1), 1e-10)
    scaled = np.maximum(squares, 0) / density[:, None] / density[found]
    return np.take_along_axis(found, np.argsort(scaled, axis=1, kind="stable")[:, :k], axis=1)


def _mid_near(points: Floats, random: np.random.Generator) -> Rows:
    """Return (N, 5) points, each the second nearest of six random ones."""
    n = len(points)
    chosen = np.empty((n, _MID_NEAR), np.int64)
    own = np.arange(n)[:, None]
    for column in range(_MID_NEAR):
        six = random.integers(0, n - 1, (n, 6))
        six += six >= own
        squares = np.square(points[six] - points[:, None]).sum(axis=2)
        second = np.argsort(squares, axis=1, kind="stable")[:, 1]
        chosen[:, column] = six[own[:, 0], second]
    return chosen


def _further(near: Rows, random: np.random.Generator) -> Rows:
    """Return (N, 20) random points that are no neighbours, as far as there are such points."""
    n = len(near)
    own = np.arange(n)[:, None]
    chosen = random.integers(0, n - 1, (n, _FURTHER))
    for _ in range(20):
        other = chosen + (chosen >= own)
        taken = (other[:, :, None] == near[:, None, :]).any(axis=2)
        if not taken.any():
            break
        chosen[taken] = random.integers(0, n - 1, int(taken.sum()))
    return chosen + (chosen >= own)


def _descend(start: Floats, near: Rows, middle: Rows, further: Rows) -> Floats:
    """Minimise PaCMAP's loss with Adam from `start` (N, 2)."""
    points, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(_PHASES[-1]):
        near_weight, middle_weight, further_weight = _weights(step)
        gradient = _pull(points, near, near_weight * 20, 10)
        if middle_weight:
            gradient += _pull(points, middle, middle_weight * 20_000, 10_000)
        gradient -= _pull(points, further, further_weight * 2, 1)
        mean += 0.1 * (gradient - mean)
        square += 0.001 * (gradient * gradient - square)
        rate = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        points -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-7))
    return points


def _weights(step: int) -> tuple[float, float, float]:
    """Weights of near, mid-near and further pairs."""
    if step < _PHASES[0]:
        return 2.0, 1000 * (1 - step / 100) + 3 * step / 100, 1.0
    return (3.0, 3.0, 1.0) if step < _PHASES[1] else (1.0, 0.0, 1.0)


def _pull(points: Floats, pairs: Rows, weight: float, offset: float) -> Floats:
    """Return the gradient (N, 2) of a loss summed over pairs.

    Of weight / (2 offset) · d / (offset + d) with d = 1 + |yi - yj|², up to the common factor 2.
    """
    n = len(pairs)
    flat = pairs.ravel()
    gradient = np.empty((n, 2), np.float32)
    dx = points[:, :1] - points[:, 0][pairs]
    dy = points[:, 1:] - points[:, 1][pairs]
    force = np.float32(weight) / np.square(np.float32(offset + 1) + dx * dx + dy * dy)
    for axis, difference in enumerate((dx, dy)):
        push = force * difference
        gradient[:, axis] = push.sum(axis=1) - np.bincount(flat, push.ravel(), n)
    return gradient
