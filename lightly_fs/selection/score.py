"""What the strategies make of the candidates, in the parts that engines need to know apart.

The score of a candidate is (constant + shrinking) + changing, each part a sum of strength · log
objective in the canonical order of its strategies, in float64:

- constant: weights, similarity, typicality; the same at every step.
- shrinking: diversity, representativeness; what a pick leaves over is never more than before.
- changing: balance, sums on their way to a range. Candidates of the same classes (a *group*) share
  it, so their order among themselves does not change with it.

Picked is the largest score. Within a group, the largest (constant + shrinking) stands for the group
and then the first filename; among groups with the same score, the first filename again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection import balance, similarity, typicality, weights
from lightly_fs.selection.distances import largest_distance
from lightly_fs.selection.objective import clipped, logarithm
from lightly_fs.selection.objects import largest_of, mean_of
from lightly_fs.selection.pool import (
    Categorical,
    Distributions,
    Embeddings,
    Numeric,
    ObjectEmbeddings,
    Pool,
)
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Representativeness,
    Similarity,
    Strategy,
    Typicality,
    Weights,
)
from lightly_fs.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

TERMS_AT_ONCE = 65_536
"""Bounds the arrays that a logarithm takes: eight for each number."""
Changing = balance.LabelBalance | balance.AmountBalance | weights.SumRange


@dataclass(frozen=True, eq=False)
class Spread:
    """A `Diversity` to be scored: (N, D) vectors, (P, D) preselected ones, largest distance.

    With `offsets` (N + 1,) the vectors are the objects of the candidates, as `ObjectEmbeddings`.
    """

    vectors: NDArray[np.float32]
    preselected: NDArray[np.float32]
    largest: float
    strategy: Diversity
    offsets: NDArray[np.int64] | None = None

    def members(self, row: int) -> range:
        """Return which of the vectors belong to a candidate."""
        if self.offsets is None:
            return range(row, row + 1)
        return range(int(self.offsets[row]), int(self.offsets[row + 1]))


@dataclass(frozen=True, eq=False)
class Cover:
    """A `Representativeness` to be scored; as `Spread`, of whole samples."""

    vectors: NDArray[np.float32]
    preselected: NDArray[np.float32]
    largest: float
    strategy: Representativeness


@dataclass(frozen=True, eq=False)
class Score:
    """The question that an engine answers. Candidates are in the order of their names.

    Attributes:
        constant: (N,) float64 sum of the constant parts.
        able: (N,) whether a candidate may ever be picked.
        spreads, covers: The shrinking parts, in canonical order.
        changing: The changing parts, in canonical order.
        groups: (N,) int64 number of the group of each candidate.
        members: (groups, B) class of each group in each `LabelBalance`; None when some changing
            part differs within groups, so that every candidate is a group of its own.
        limit: How many to pick at most, 0 to N.
        objectives: Of the strategies with a constant objective, by position in the question.
        device: Where products of all pairs are made (`device.on_device`).
    """

    constant: NDArray[np.float64]
    able: NDArray[np.bool_]
    spreads: list[Spread]
    covers: list[Cover]
    changing: list[Changing]
    groups: NDArray[np.int64]
    members: NDArray[np.int64] | None
    limit: int
    objectives: dict[int, NDArray[np.float64]]
    device: str

    @property
    def by_distance(self) -> bool:
        """Whether diversity decides alone: by its distances as they are, never clipped."""
        return (
            len(self.spreads) == 1
            and self.spreads[0].strategy.strength > 0
            and not (self.covers or self.changing or self.objectives)
        )

    @property
    def by_gain(self) -> bool:
        """Whether representativeness decides alone: by its gains as they are, never clipped."""
        return (
            len(self.covers) == 1
            and self.covers[0].strategy.strength > 0
            and not (self.spreads or self.changing or self.objectives)
        )


def term(strength: float, objectives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return strength · log of objectives, clipped to [1e-6, 1] before."""
    terms = clipped(objectives)
    for start in range(0, len(terms), TERMS_AT_ONCE):
        part = slice(start, start + TERMS_AT_ONCE)
        terms[part] = strength * logarithm(terms[part])
    return terms


def build(
    pool: Pool,
    strategies: Sequence[Strategy],
    order: Sequence[int],
    limit: int,
    progress: Progress,
    device: str = "cpu",
) -> Score:
    """Return the score of a sorted pool; `order` is the canonical one of the strategies."""
    constant = np.zeros(len(pool.filenames))
    able = np.ones(len(pool.filenames), np.bool_)
    objectives: dict[int, NDArray[np.float64]] = {}
    spreads, covers, changing = [], [], list[Changing]()
    for position in order:
        match strategies[position]:
            case Diversity() as strategy:
                spreads.append(_spread(pool, strategy))
            case Representativeness() as strategy:
                covers.append(Cover(*_vectors(pool, strategy.input), strategy))
            case Balance() as strategy:
                changing.append(_balance(pool, strategy))
            case Weights(target_range=(low, high)) as strategy:
                values = _numbers(pool, strategy.input)
                target = (float(low), float(high))
                changing.append(weights.SumRange(values, target, limit, strategy.strength))
            case Weights() | Similarity() | Typicality() as strategy:
                found = _constant(pool, strategy, progress, device)
                if isinstance(strategy, Typicality):
                    able &= found >= strategy.minimum_typicality
                objectives[position] = clipped(found)
                constant += term(strategy.strength, found)
            case _:  # thresholds have been applied
                pass
    groups, members = _groups(changing, len(constant))
    return Score(
        constant, able, spreads, covers, changing, groups, members, limit, objectives, device
    )


def _spread(pool: Pool, strategy: Diversity) -> Spread:
    given = pool.inputs.get(strategy.input)
    if not isinstance(given, ObjectEmbeddings):
        return Spread(*_vectors(pool, strategy.input), strategy)
    return Spread(*_contiguous(given), strategy, np.asarray(given.offsets, np.int64))


def _vectors(pool: Pool, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    return _contiguous(pool.get(name, Embeddings))


def _contiguous(
    given: Embeddings | ObjectEmbeddings,
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    vectors = np.ascontiguousarray(given.vectors, np.float32)
    preselected = np.ascontiguousarray(
        np.empty((0, vectors.shape[1])) if given.preselected is None else given.preselected,
        np.float32,
    )
    return vectors, preselected, largest_distance(vectors, preselected)


def _numbers(pool: Pool, name: str) -> NDArray[np.float64]:
    return np.asarray(pool.get(name, Numeric).values, np.float64)


def _constant(
    pool: Pool, strategy: Weights | Similarity | Typicality, progress: Progress, device: str
) -> NDArray[np.float64]:
    if isinstance(strategy, Weights):
        return weights.objectives(_numbers(pool, strategy.input))
    given = pool.inputs.get(strategy.input)
    objects = given if isinstance(given, ObjectEmbeddings) else None
    vectors = (objects or pool.get(strategy.input, Embeddings)).vectors
    vectors = np.ascontiguousarray(vectors, np.float32)
    if isinstance(strategy, Similarity):
        found = similarity.objectives(vectors, pool.query(strategy.query))
        return found if objects is None else largest_of(found, objects.offsets)
    found = typicality.objectives(vectors, strategy.num_nearest_neighbors, progress, device)
    return found if objects is None else mean_of(found, objects.offsets)


def _balance(pool: Pool, strategy: Balance) -> Changing:
    if not isinstance(pool.inputs.get(strategy.input), Distributions):
        labels = pool.get(strategy.input, Categorical)
        return balance.by_label(
            labels.labels, labels.preselected, strategy.goal, strategy.target, strategy.strength
        )
    given = pool.get(strategy.input, Distributions)
    balanced = (strategy.goal, strategy.target, strategy.strength)
    amounts = np.asarray(given.amounts, np.float64)
    return balance.by_amounts(given.classes, amounts, given.preselected, balanced)


def _groups(
    changing: Sequence[Changing], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    labels = [part.members for part in changing if isinstance(part, balance.LabelBalance)]
    if len(labels) < len(changing):
        return np.arange(count), None
    if not labels:
        return np.zeros(count, np.int64), np.empty((1, 0), np.int64)
    members, groups = np.unique(np.stack(labels, axis=1), axis=0, return_inverse=True)
    return groups.reshape(-1).astype(np.int64), members
