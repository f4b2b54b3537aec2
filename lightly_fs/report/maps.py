"""Embeddings as points of a plane: which of them are shown, and where."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.examples import spread
from lightly_fs.report.lettering import counted, percent
from lightly_fs.report.projection import NEIGHBOURS, pacmap, pca
from lightly_fs.report.statistics import Sets, sample_rows

MAX_MAP_POINTS = 10_000
MAX_MAP_EXAMPLES = 28
MAX_MAP_EARLIER = 2_000
"""Samples that a datapool had selected before."""
MIN_PACMAP = 8


@dataclass(frozen=True, eq=False)
class Map:
    """Candidates as points of a plane.

    Attributes:
        key: `pca` or `pacmap`.
        method: Its name, and what a reader should know of it.
        rows: (M,) ascending candidates that are shown.
        points: (M, 2) float32.
        examples: Rows whose images are placed on the map; far apart from one another.
        earlier: (E, 2) float32 what a datapool had selected before, or a sample of that.
    """

    key: str
    method: str
    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    examples: NDArray[np.int64]
    earlier: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 2), np.float32))


def draw_maps(
    vectors: NDArray[np.float32], sets: Sets, earlier: NDArray[np.float32] | None = None
) -> list[Map]:
    """Return a PCA map and a map of neighbourhoods; the latter falls back to PCA for a handful.

    Args:
        vectors: (N, D) of the candidates.
        sets: Rows of them.
        earlier: (P, D) of what a datapool had selected before, which is mapped with them.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows = _map_rows(sets)
    if not len(rows):
        return []
    shown, told = vectors[rows], ""
    if earlier is not None and len(earlier):
        drawn = sample_rows(len(earlier), MAX_MAP_EARLIER, sets.seed, stream=11)
        shown = np.concatenate([shown, earlier[drawn]])
        told = f"; diamonds: {_some(len(drawn), len(earlier), sets.seed)} selected before"
    # One thread: sums in another order would, step by step, become another map.
    with threadpool_limits(1, "blas"):
        points, share = pca(shown, 2, sets.seed)
        name = f"PCA; the two axes hold {percent(share, 1)} of the variance{told}"
        maps = [_map("pca", name, rows, points, sets)]
        if len(shown) < MIN_PACMAP:
            few = f"fewer than {MIN_PACMAP} images are too few for a map of neighbourhoods"
            name = f"PCA; {few}{told}"
            return [*maps, _map("pca", name, rows, points, sets)]
        points = pacmap(shown, sets.seed)
    near = min(NEIGHBOURS, len(shown) - 1)
    name = f"PaCMAP with {near} neighbours; distances between distant groups mean little{told}"
    return [*maps, _map("pacmap", name, rows, points, sets)]


def _some(n_drawn: int, n: int, seed: int) -> str:
    if n_drawn == n:
        return counted(n, "sample")
    return f"{n_drawn:,} (drawn with seed {seed}) of {n:,} samples"


def _map_rows(sets: Sets) -> NDArray[np.int64]:
    """Return the candidates on the maps: up to half selected ones, the rest drawn from all."""
    if sets.n <= MAX_MAP_POINTS:
        return np.arange(sets.n, dtype=np.int64)
    chosen = sets.selected[
        sample_rows(len(sets.selected), MAX_MAP_POINTS // 2, sets.seed, stream=7)
    ]
    rest = np.setdiff1d(np.arange(sets.n), sets.selected, assume_unique=True)
    drawn = rest[sample_rows(len(rest), MAX_MAP_POINTS - len(chosen), sets.seed, stream=8)]
    return np.sort(np.concatenate([chosen, drawn]))


def _map(
    key: str, method: str, rows: NDArray[np.int64], points: NDArray[np.float32], sets: Sets
) -> Map:
    points, earlier = points[: len(rows)], points[len(rows) :]
    candidates = np.isin(rows, sets.selected)
    eligible = np.flatnonzero(candidates) if candidates.any() else np.arange(len(rows))
    chosen = eligible[spread(points, eligible, MAX_MAP_EXAMPLES)]
    return Map(key, method, rows, points, rows[chosen], earlier)
