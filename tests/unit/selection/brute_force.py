"""The plain definition of farthest-first selection, and data that is hard for fast ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def farthest_first(vectors, *, limit, min_distance=0.0, preselected=None):
    """Return rows and float64 distances by comparing everything with everything."""
    points = vectors.astype(np.float64)
    best = np.full(len(points), np.inf)
    for row in [] if preselected is None else preselected.astype(np.float64):
        best = np.minimum(best, np.square(points - row).sum(axis=1))
    rows, distances = [], []
    while len(rows) < min(limit, len(points)):
        ranking = best.copy()
        if not rows and (preselected is None or not len(preselected)):
            ranking = np.square(len(points) * points - points.sum(axis=0)).sum(axis=1)
        ranking[rows] = -1
        pick = int(np.argmax(ranking))
        if np.sqrt(best[pick]) < min_distance:
            break
        rows.append(pick)
        distances.append(np.sqrt(best[pick]))
        best = np.minimum(best, np.square(points - points[pick]).sum(axis=1))
    return np.array(rows, np.int64), np.array(distances)


def names(count: int) -> list[str]:
    return [f"{row:06d}.jpg" for row in range(count)]


def dataset(kind: str, count: int, dimensions: int, seed: int):
    """Return (count, dimensions) float32 vectors.

    `lattice` holds small integers (squares are exact, ties abound), `binary` corners of a cube,
    `duplicated` few distinct rows, `clustered` and `random` unit vectors on a grid of 2^-12,
    `far` points with a large common offset, where float32 products can tell nothing apart.
    """
    rng = np.random.default_rng(seed)
    if kind == "lattice":
        return rng.integers(-2, 3, (count, dimensions)).astype(np.float32)
    if kind == "binary":
        return rng.integers(0, 2, (count, dimensions)).astype(np.float32)
    vectors = rng.standard_normal((count, dimensions))
    if kind == "clustered":
        centres = rng.standard_normal((5, dimensions))
        vectors = centres[rng.integers(0, 5, count)] + 0.05 * vectors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    vectors = np.round(vectors * 4096) / 4096
    if kind == "duplicated":
        vectors = vectors[rng.integers(0, max(1, count // 4), count)]
    if kind == "far":
        vectors += 1000
    return vectors.astype(np.float32)


KINDS = ("random", "clustered", "duplicated", "lattice", "binary", "far")

datasets = st.builds(
    dataset,
    st.sampled_from(KINDS),
    st.integers(1, 90),
    st.integers(1, 13),
    st.integers(0, 10_000),
)
