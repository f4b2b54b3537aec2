"""Numbers of a report: histograms of sets, distances between embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.cpus import usable_cpus
from lightly_fs.workers import Workers

Numbers = NDArray[np.floating[Any]]

BINS = 40
MAX_MULTIPLICATIONS = 1e11
"""Work of one nearest-neighbour statistic; above it, a random sample of the queries is measured."""
MAX_POOL_QUERIES = 2_000
"""Members of a datapool, drawn at random, whose nearest other member is looked for."""
_POOL_SETS = {"preselected", "with_datapool"}
_TILE = 4_096
_QUERIES = 512


@dataclass(frozen=True, eq=False)
class Distribution:
    """A set's values as a histogram over edges that are known elsewhere.

    Attributes:
        counts: (B,) values by bin; values beyond the edges are counted in the outermost bins.
        n: How many values there are; the other attributes are 0 when there are none.
    """

    counts: NDArray[np.int64]
    n: int
    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    p10: float = 0.0
    median: float = 0.0
    p90: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """One quantity over the input, the selection and a random choice of the selection's size.

    Attributes:
        edges: (B + 1,) ascending.
        input: None where it says nothing (the input covers itself with distance 0).
        n_measured: Values of the input that were measured, if it was sampled; None for all.
        whole: The values are whole numbers, and each bin holds as many of them.
        preselected: What a datapool had selected before; None without one.
        with_datapool: That and the selection together.
    """

    edges: NDArray[np.float64]
    input: Distribution | None
    selected: Distribution
    random: Distribution
    n_measured: int | None = None
    whole: bool = False
    preselected: Distribution | None = None
    with_datapool: Distribution | None = None

    @property
    def only_value(self) -> float | None:
        """What all values of the input are; None where they differ, or there are none."""
        given = self.input
        return given.min if given is not None and given.n and given.min == given.max else None


@dataclass(frozen=True, eq=False)
class Sets:
    """Rows of the candidates that are compared with one another.

    Attributes:
        n: Number of candidates.
        selected: (K,) rows in the order they were chosen.
        random: (K,) ascending rows, drawn without replacement.
        seed: Of every sample that is drawn for the report.
    """

    n: int
    selected: NDArray[np.int64]
    random: NDArray[np.int64]
    seed: int

    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Return the rows of each set by the name that `compare` knows it by."""
        everything = np.arange(self.n, dtype=np.int64)
        return {"input": everything, "selected": self.selected, "random": self.random}


@dataclass(frozen=True, eq=False)
class Cover:
    """Which selected sample stands for a candidate.

    Attributes:
        rows: (Q,) ascending rows of the measured candidates.
        nearest: (Q,) row of the selected sample nearest to each.
        distances: (Q,) L2.
    """

    rows: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoolCover:
    """How well a datapool stands for the candidates.

    Attributes:
        before: (Q,) L2 distances of the measured candidates to what it had selected before.
        after: (Q,) to that and to what was selected now.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoolNeighbours:
    """Distances of measured members of a datapool to their nearest other member.

    Attributes:
        before: Of those that had been selected before, among one another.
        after: Of those and of what was selected now, among all of them.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]


def draw_sets(n: int, selected: NDArray[np.int64], seed: int) -> Sets:
    """Return the selection and a random choice of its size.

    The random choice has a stream of its own, so that it differs from a selection by
    `method=random` with the same seed.
    """
    return Sets(n, selected, sample_rows(n, len(selected), seed, stream=1), seed)


def sample_rows(n: int, size: int, seed: int, *, stream: int) -> NDArray[np.int64]:
    """Return `size` of `n` rows, ascending, all of them when there are no more."""
    if size >= n:
        return np.arange(n, dtype=np.int64)
    chosen = np.random.default_rng([seed, stream]).choice(n, size, replace=False)
    return np.sort(chosen).astype(np.int64)


def summarise(values: Numbers, edges: NDArray[np.float64]) -> Distribution:
    """Return the distribution of the finite `values`."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    counts = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0].astype(np.int64)
    if not len(finite):
        return Distribution(counts, 0)
    low, p10, median, p90, high = (float(q) for q in np.quantile(finite, (0, 0.1, 0.5, 0.9, 1)))
    mean = min(max(float(finite.mean()), low), high)
    return Distribution(counts, len(finite), mean, float(finite.std()), low, p10, median, p90, high)


def compare(sets: Mapping[str, Numbers], n_measured: int | None = None) -> Comparison:
    """Return `input` (optional), `selected`, `random` and a datapool's sets over common edges.

    The edges span the central 99.6 %: one panorama would flatten every other bar. Those of the run
    and those of a datapool, of which there may be a thousand times as many.
    """
    of_pool = _POOL_SETS & sets.keys()
    spans = [_central([sets[name] for name in group]) for group in (sets.keys() - of_pool, of_pool)]
    ends = [end for span in spans for end in span]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    made = {name: summarise(values, edges) for name, values in sets.items()}
    return Comparison(
        edges,
        made.get("input"),
        made["selected"],
        made["random"],
        n_measured,
        preselected=made.get("preselected"),
        with_datapool=made.get("with_datapool"),
    )


def _central(sets: Sequence[Numbers]) -> tuple[float, ...]:
    """Return between which two values the central 99.6 % lie; nothing where there is none."""
    joined = np.concatenate([np.empty(0), *(np.asarray(values, np.float64) for values in sets)])
    joined = joined[np.isfinite(joined)]
    return tuple(np.quantile(joined, (0.002, 0.998)).tolist()) if len(joined) else ()


def nearest(
    queries: Numbers,
    references: Numbers,
    *,
    own: NDArray[np.int64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the L2 distance (Q,) and row (Q,) of the reference nearest to each query.

    Neighbours are found by |q|² + |r|² - 2 q·r on centred vectors, in tiles; their distances are
    then computed from the differences, so that they are exact where the sum cancels.

    Args:
        queries: (Q, D).
        references: (R, D), not empty (at least two rows with `own`).
        own: (Q,) the reference that is the query itself and no neighbour.
    """
    middle = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = np.asarray(queries, np.float32) - middle
    best = np.full(len(queries), np.inf, np.float32)
    found = np.zeros(len(queries), np.int64)

    def look_at(_: None, item: tuple[int, NDArray[np.float32], Numbers, slice]) -> None:
        start, tile, norms, rows = item
        scores = centred[rows] @ tile.T
        scores *= -2
        scores += norms
        if own is not None:
            _forbid(scores, own[rows] - start)
        here = scores.argmin(axis=1)
        value = scores[np.arange(len(here)), here]
        better = value < best[rows]
        best[rows] = np.where(better, value, best[rows])
        found[rows] = np.where(better, here + start, found[rows])

    parts = [slice(first, first + _QUERIES) for first in range(0, len(queries), _QUERIES)]
    with Workers([None] * usable_cpus()) as workers:
        for start in range(0, len(references), _TILE):
            tile = np.asarray(references[start : start + _TILE], np.float32) - middle
            norms = np.einsum("rd,rd->r", tile, tile)
            list(workers.each(look_at, [(start, tile, norms, part) for part in parts]))
    return _row_distances(queries, references, found), found


def _row_distances(left: Numbers, right: Numbers, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return |left[i] - right[rows[i]]|, in pieces that stay small."""
    distances = np.empty(len(left))
    for first in range(0, len(left), _TILE):
        part = slice(first, first + _TILE)
        distances[part] = np.linalg.norm(
            np.asarray(left[part], np.float64) - np.asarray(right[rows[part]], np.float64), axis=1
        )
    return distances


def _forbid(scores: NDArray[np.float32], columns: NDArray[np.int64]) -> None:
    inside = np.flatnonzero((columns >= 0) & (columns < scores.shape[1]))
    scores[inside, columns[inside]] = np.inf


def affordable(n_queries: int, n_references: int, dimensions: int) -> int:
    """Return how many of the queries can be measured within `MAX_MULTIPLICATIONS`."""
    return min(n_queries, max(100, int(MAX_MULTIPLICATIONS / max(1, n_references * dimensions))))


def neighbour_distances(
    vectors: NDArray[np.float32], rows: NDArray[np.int64] | None, seed: int
) -> NDArray[np.float64]:
    """Return the distance of each member of a set to its nearest other member.

    Args:
        vectors: (N, D).
        rows: The set; None for all.
        seed: Draws the members to measure when they are too many.
    """
    members = vectors if rows is None else vectors[rows]
    if len(members) < 2:
        return np.empty(0)
    size = affordable(len(members), *members.shape)
    queries = sample_rows(len(members), size, seed, stream=2)
    return nearest(members[queries], members, own=queries)[0]


def cover(vectors: NDArray[np.float32], rows: NDArray[np.int64], seed: int) -> Cover | None:
    """Return which of `rows` is nearest to each candidate (a sample of them if they are many)."""
    if not len(rows):
        return None
    size = affordable(len(vectors), len(rows), vectors.shape[1])
    queries = sample_rows(len(vectors), size, seed, stream=3)
    distances, found = nearest(vectors[queries], vectors[rows], own=None)
    return Cover(queries, rows[found], distances)


def pairwise_distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the N (N - 1) / 2 distances between the rows of (N, D)."""
    if len(vectors) < 2:
        return np.empty(0, np.float32)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    norms = np.einsum("nd,nd->n", centred, centred)
    parts = []
    for row in range(0, len(centred) - 1, 512):
        block = centred[row : row + 512]
        squares = norms[row : row + 512, None] + norms[row:] - 2 * (block @ centred[row:].T)
        above = np.triu_indices(len(block), 1, squares.shape[1])
        parts.append(np.sqrt(np.maximum(squares[above], 0)).astype(np.float32))
    return np.concatenate(parts)


def pool_cover(cover: Cover | None, earlier: Preselected) -> PoolCover | None:
    """Return how far candidates are from what a datapool had selected, and from all of it now.

    Args:
        cover: What was selected now; None for nothing. The candidates that it measured are told of.
        earlier: What was selected before, beside the candidates.

    Returns:
        None where nothing had been selected before, or there is no candidate.
    """
    if not len(earlier) or not len(earlier.distances):
        return None
    before = earlier.distances.astype(np.float64)
    if cover is None:
        return PoolCover(before, before)
    return PoolCover(before[cover.rows], np.minimum(before[cover.rows], cover.distances))


def not_nearer_before(cover: Cover, earlier: Preselected) -> Cover:
    """Return of the measured candidates those that no earlier selected sample is nearer to."""
    keep = cover.distances <= earlier.distances[cover.rows]
    return Cover(cover.rows[keep], cover.nearest[keep], cover.distances[keep])


def pool_neighbours(
    vectors: NDArray[np.float32], selected: NDArray[np.int64], earlier: Preselected, seed: int
) -> PoolNeighbours:
    """Return how far members of a datapool are from the nearest other one, before and now.

    Args:
        vectors: (N, D) of the candidates.
        selected: (K,) rows of them: new members.
        earlier: The members before, beside the candidates.
        seed: Draws the members to measure when they are too many.
    """
    n, added = len(earlier), vectors[selected]
    size = affordable(n + len(added), n + len(added), vectors.shape[1])
    rows = sample_rows(n + len(added), min(size, MAX_POOL_QUERIES), seed, stream=2)
    old, new = rows[rows < n], rows[rows >= n] - n
    before = _to_others(earlier.vectors[old], earlier.vectors, own=old)
    now = np.minimum(before, _to_others(earlier.vectors[old], added))
    between = np.minimum(earlier.distances[selected[new]], _to_others(added[new], added, own=new))
    return PoolNeighbours(before, np.concatenate([now, between]))


def _to_others(
    queries: Numbers, references: Numbers, *, own: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return the distance to the nearest reference; inf where there is no other one."""
    if len(references) < (1 if own is None else 2):
        return np.full(len(queries), np.inf)
    return nearest(queries, references, own=own)[0]
