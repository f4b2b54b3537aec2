"""How far embeddings are from one another: within the sets of a report, and between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.report.statistics import (
    Comparison,
    Cover,
    PoolCover,
    Sets,
    compare,
    cover,
    neighbour_distances,
    not_nearer_before,
    pairwise_distances,
    pool_cover,
    pool_neighbours,
    sample_rows,
)

MAX_PAIRWISE = 5_000
"""Samples whose pairwise distances are all computed (12.5 million pairs)."""


@dataclass(frozen=True, eq=False)
class EmbeddingStatistics:
    """What is told of distances between candidates.

    Attributes:
        covering: Of the candidates to what the run selected, and to as many drawn at random.
        covered: The same when a datapool's earlier selection is counted with both; `covering`
            without one.
        cover: Of the candidates that no sample selected earlier is nearer to; None when nothing
            was selected.
        gaps: None without a datapool that had selected something.
        n_pool: Members of the datapool whose neighbours were measured; None for all.
    """

    neighbour: Comparison
    covering: Comparison
    covered: Comparison
    pairwise: Comparison
    cover: Cover | None
    gaps: PoolCover | None = None
    n_pool: int | None = None


def embedding_statistics(
    vectors: NDArray[np.float32],
    sets: Sets,
    memory_gb: float,
    earlier: Preselected | None = None,
) -> EmbeddingStatistics:
    """Return distances within and between the sets of the candidates' vectors (N, D).

    Args:
        memory_gb: Bounds the matrix of pairwise distances, 8 bytes each.
        earlier: What a datapool had selected before, beside the candidates.
    """
    seed = sets.seed
    within = {
        "input": neighbour_distances(vectors, None, seed),
        "selected": neighbour_distances(vectors, sets.selected, seed),
        "random": neighbour_distances(vectors, sets.random, seed),
    }
    chosen, drawn = cover(vectors, sets.selected, seed), cover(vectors, sets.random, seed)
    none = np.empty(0)
    covering = {
        "selected": none if chosen is None else chosen.distances,
        "random": none if drawn is None else drawn.distances,
    }
    gaps, n_pool = None if earlier is None else pool_cover(chosen, earlier), None
    covered = covering
    if gaps is not None and earlier is not None:
        beside_random = pool_cover(drawn, earlier)
        covered = {
            "selected": gaps.after,
            "random": none if beside_random is None else beside_random.after,
        }
        chosen = None if chosen is None else not_nearer_before(chosen, earlier)
        members = pool_neighbours(vectors, sets.selected, earlier, seed)
        within |= {"preselected": members.before, "with_datapool": members.after}
        covering = covering | {"preselected": gaps.before, "with_datapool": gaps.after}
        n_pool = _fewer(len(members.after), len(earlier) + len(sets.selected))
    return EmbeddingStatistics(
        neighbour=compare(within, _fewer(len(within["input"]), sets.n)),
        covering=compare(covering, _fewer(len(covering["selected"]), sets.n)),
        covered=compare(covered, _fewer(len(covered["selected"]), sets.n)),
        pairwise=_pairwise(vectors, sets, memory_gb),
        cover=chosen,
        gaps=gaps,
        n_pool=n_pool,
    )


def _pairwise(vectors: NDArray[np.float32], sets: Sets, memory_gb: float) -> Comparison:
    limit = max(2, min(MAX_PAIRWISE, math.isqrt(int(memory_gb * 1e9 / 8))))
    distances = {
        name: pairwise_distances(vectors[rows[sample_rows(len(rows), limit, sets.seed, stream=4)]])
        for name, rows in sets.rows().items()
    }
    return compare(distances, _fewer(min(limit, sets.n), sets.n))


def _fewer(measured: int, n: int) -> int | None:
    return measured if 1 < measured < n else None
