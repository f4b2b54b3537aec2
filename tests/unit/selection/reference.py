"""The plain definition of choosing by strategies: every sample, every step, one number at a time.

It shares two functions with the package, both tested by themselves: the squared distance of two
vectors and the logarithm, which are defined to the last bit.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from lightly_fs.selection.distances import in_lanes, squared_distances
from lightly_fs.selection.objective import logarithm
from lightly_fs.selection.pool import Categorical, ObjectEmbeddings
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Goal,
    Operation,
    Representativeness,
    Similarity,
    Threshold,
    Typicality,
    Weights,
    canonical_order,
)

HOLDS = {
    Operation.SMALLER: lambda a, b: a < b,
    Operation.SMALLER_EQUAL: lambda a, b: a <= b,
    Operation.BIGGER: lambda a, b: a > b,
    Operation.BIGGER_EQUAL: lambda a, b: a >= b,
}


def squared(a, b) -> float:
    return float(squared_distances(in_lanes(a[None]), b)[0])


def log(value: float) -> float:
    return float(logarithm(np.array([value]))[0])


def clip(value: float) -> float:
    return min(max(value, 1e-6), 1.0)


def as_float32(value: float) -> float:
    return max(float(np.float32(clip(value))), 1e-6)


def largest(*groups) -> float:
    zero = np.zeros(groups[0].shape[1], np.float32)
    lengths = [math.sqrt(squared(vector, zero)) for group in groups for vector in group]
    longest = max(lengths, default=0.0)
    return 2.0 if longest <= 1.001 else 2.0 * longest


class Reference:
    """`picks` are filenames, `objectives` per pick those of the strategies in the order given."""

    def __init__(self, pool, strategies, n_samples=None):
        order = sorted(range(len(pool.filenames)), key=lambda row: pool.filenames[row])
        order = [row for row in order if self._passes(pool, strategies, row)]
        self.pool = pool.rows(np.array(order, np.int64))
        self.strategies = strategies
        self.rows = range(len(order))
        self.limit = len(order) if n_samples is None else min(n_samples, len(order))
        self.picked: list[int] = []
        self.objectives: list[list[float]] = []
        self.constant = cache(self._constant)
        self.pair = cache(self._pair)
        self.stopped_by = self._run()
        self.picks = [self.pool.filenames[row] for row in self.picked]

    def _passes(self, pool, strategies, row):
        return all(
            HOLDS[s.operation](pool.inputs[s.input].values[row], s.threshold)
            for s in strategies
            if isinstance(s, Threshold)
        )

    def _run(self):
        while True:
            if len(self.picked) == len(self.rows):
                return "all"
            if len(self.picked) == self.limit:
                return "n_samples"
            for strategy in self.strategies:
                if isinstance(strategy, Weights) and strategy.max_sum is not None:
                    total = 0.0
                    for row in self.picked:
                        total += self.pool.inputs[strategy.input].values[row]
                    if total >= strategy.max_sum:
                        return "max_sum"
            rows = [row for row in self.rows if row not in self.picked]
            able = [row for row in rows if self._typical(row)]
            if not able:
                return "minimum_typicality"
            allowed = [row for row in able if self._apart(row) and self._below_range(row)]
            if not allowed:
                apart = any(
                    isinstance(s, Diversity) and s.minimum_distance for s in self.strategies
                )
                return "minimum_distance" if apart else "target_range"
            row = self._best(allowed)
            self.objectives.append([self._objective(s, row) for s in self.strategies])
            self.picked.append(row)

    def _best(self, rows):
        champions = {}
        for row in rows:
            key, _ = self._score(row)
            group = self._group(row)
            if group not in champions or key > champions[group][0]:
                champions[group] = (key, row)
        best, best_score = None, -math.inf
        for key, row in sorted(champions.values(), key=lambda champion: champion[1]):
            score = key + self._score(row)[1]
            if score > best_score:
                best, best_score = row, score
        return best

    def _group(self, row):
        changing = [s for s in self.strategies if self._phase(s) == 2]
        if not all(isinstance(self.pool.inputs[s.input], Categorical) for s in changing):
            return row
        return tuple(self._bin(s, self.pool.inputs[s.input].labels[row]) for s in changing)

    def _phase(self, strategy):
        if isinstance(strategy, Diversity | Representativeness):
            return 1
        if isinstance(strategy, Balance):
            return 2
        return 2 if isinstance(strategy, Weights) and strategy.target_range else 0

    def _score(self, row):
        scoring = [s for s in self.strategies if not isinstance(s, Threshold)]
        if len(scoring) == 1 and getattr(scoring[0], "strength", 0) > 0:
            if isinstance(scoring[0], Diversity):
                return self._distance_alone(scoring[0], row), 0.0
            if isinstance(scoring[0], Representativeness):
                return self._gain(scoring[0], row), 0.0
        parts = [0.0, 0.0, 0.0]
        for phase in (0, 1, 2):
            for place in canonical_order(list(self.strategies)):
                strategy = self.strategies[place]
                if not isinstance(strategy, Threshold) and self._phase(strategy) == phase:
                    # shrinking parts are added to the constant ones, changing ones by themselves
                    parts[phase // 2] += strategy.strength * log(self._objective(strategy, row))
        return parts[0], parts[1]

    def _objective(self, strategy, row):
        match strategy:
            case Threshold():
                return 1.0
            case Diversity():
                return as_float32(self._diversity(strategy, row))
            case Representativeness():
                return as_float32(self._gain(strategy, row) / len(self.rows))
            case Balance():
                return clip(self._need(strategy, row))
            case Weights() if strategy.target_range:
                return clip(self._on_the_way(strategy, row))
            case _:
                return clip(self.constant(id(strategy), row))

    def _constant(self, identity, row):
        (strategy,) = {id(s): s for s in self.strategies if id(s) == identity}.values()
        given = self.pool.inputs[strategy.input]
        match strategy:
            case Weights():
                low, high = min(given.values), max(given.values)
                return (given.values[row] - low) / (high - low) if high > low else 1.0
            case Similarity():
                query = self.pool.queries[strategy.query]
                scale = largest(given.vectors, query) ** 2
                return max(
                    (
                        max(1.0 - min(squared(given.vectors[v], q) for q in query) / scale, 0.0)
                        for v in self._vectors_of(strategy.input, row)
                    ),
                    default=0.0,
                )
            case Typicality():
                each = [
                    self._typicality(given.vectors, v, strategy.num_nearest_neighbors)
                    for v in self._vectors_of(strategy.input, row)
                ]
                return sum(each) / len(each) if each else 0.0

    def _vectors_of(self, name, row):
        """Which of an input's vectors belong to a candidate."""
        given = self.pool.inputs[name]
        if isinstance(given, ObjectEmbeddings):
            return range(given.offsets[row], given.offsets[row + 1])
        return [row]

    def _typicality(self, vectors, vector, count):
        others = sorted(
            squared(vectors[vector], vectors[other])
            for other in range(len(vectors))
            if other != vector
        )[:count]
        if not others:
            return 1.0
        mean = sum(math.sqrt(other) for other in others) / len(others)
        return 1.0 / (1.0 + mean / (largest(vectors) / 2))

    def _typical(self, row):
        return all(
            self.constant(id(s), row) >= s.minimum_typicality
            for s in self.strategies
            if isinstance(s, Typicality)
        )

    def _pair(self, name, a, b):
        """Squared distance of candidate a to candidate b, or to preselected sample -1 - b."""
        given = self.pool.inputs[name]
        other = given.vectors[b] if b >= 0 else given.preselected[-1 - b]
        return squared(given.vectors[a], other)

    def _given(self, strategy):
        given = self.pool.inputs[strategy.input].preselected
        return given if given is not None else np.empty((0, 1))

    def _nearest(self, strategy, row):
        """Squared distance of a candidate to the selection; of objects, of the farthest."""
        given = range(-len(self._given(strategy)), 0)
        picked = [v for row in self.picked for v in self._vectors_of(strategy.input, row)]
        return max(
            (
                min(
                    (self.pair(strategy.input, vector, other) for other in [*given, *picked]),
                    default=math.inf,
                )
                for vector in self._vectors_of(strategy.input, row)
            ),
            default=0.0,
        )

    def _apart(self, row):
        return all(
            math.sqrt(self._nearest(s, row)) >= s.minimum_distance
            for s in self.strategies
            if isinstance(s, Diversity)
        )

    def _largest(self, strategy):
        given = self.pool.inputs[strategy.input]
        groups = (
            [given.vectors] if given.preselected is None else [given.vectors, given.preselected]
        )
        return largest(*groups)

    def _from_mean(self, strategy, row):
        vectors = self.pool.inputs[strategy.input].vectors.astype(np.float64)
        mine = self._vectors_of(strategy.input, row)
        if not mine:
            return 0.0
        total = sum(vectors[1:], start=vectors[0])
        return max(squared(vectors[vector] * len(vectors), total) for vector in mine)

    def _distance_alone(self, strategy, row):
        nearest = self._nearest(strategy, row)
        return self._from_mean(strategy, row) if nearest == math.inf else nearest

    def _diversity(self, strategy, row):
        nearest = self._nearest(strategy, row)
        if nearest == math.inf:
            mean = math.sqrt(self._from_mean(strategy, row))
            count = len(self.pool.inputs[strategy.input].vectors)
            return mean / (self._largest(strategy) * count)
        return math.sqrt(nearest) / self._largest(strategy)

    def _gain(self, strategy, row):
        scale = self._largest(strategy) ** 2

        def similarity(distance):
            return math.floor(max(1.0 - distance / scale, 0.0) * 2**30 + 0.5) / 2**30

        gain = 0.0
        for other in self.rows:
            nearest = self._nearest(strategy, other)
            covered = 0.0 if nearest == math.inf else similarity(nearest)
            gain += max(similarity(self.pair(strategy.input, other, row)) - covered, 0.0)
        return gain

    def _bin(self, strategy, label):
        if strategy.goal != Goal.TARGET or label in strategy.target:
            return label
        return None

    def _amounts(self, strategy, row):
        """Amounts per bin of a candidate, or of preselected sample -1 - row."""
        given = self.pool.inputs[strategy.input]
        if isinstance(given, Categorical):
            label = given.labels[row] if row >= 0 else given.preselected[-1 - row]
            return {self._bin(strategy, label): 1.0}
        amounts = {}
        values = given.amounts[row] if row >= 0 else given.preselected[-1 - row]
        for label, value in sorted(zip(given.classes, values, strict=True)):
            bin_ = self._bin(strategy, label)
            amounts[bin_] = amounts.get(bin_, 0.0) + value
        return amounts

    def _need(self, strategy, row):
        given = range(-len(self._given(strategy)), 0)
        selected, all_of = {}, {}
        for other in [*given, *self.picked]:
            for bin_, amount in self._amounts(strategy, other).items():
                selected[bin_] = selected.get(bin_, 0.0) + amount
        for other in self.rows:
            for bin_, amount in self._amounts(strategy, other).items():
                all_of[bin_] = all_of.get(bin_, 0.0) + amount
        if strategy.goal == Goal.TARGET:
            target = {**strategy.target, None: max(1.0 - math.fsum(strategy.target.values()), 0.0)}
        elif strategy.goal == Goal.UNIFORM:
            bins = {*all_of, *selected}
            target = dict.fromkeys(bins, 1.0 / len(bins))
        else:
            target = {
                b: all_of.get(b, 0.0) / (sum(all_of.values()) or 1.0) for b in {*all_of, *selected}
            }
        quotients = {b: target[b] / (selected.get(b, 0.0) + 0.5) for b in target}
        most = max((q for b, q in quotients.items() if all_of.get(b, 0.0) > 0), default=0.0)
        worth = {b: q / most if most > 0 else 1.0 for b, q in quotients.items()}
        amounts = self._amounts(strategy, row)
        if isinstance(self.pool.inputs[strategy.input], Categorical):
            return worth[next(iter(amounts))]
        held = amounts
        if not any(amounts.values()):
            held = selected if any(selected.values()) else target
            total = math.fsum(held.values()) or 1.0
            return math.fsum(held.get(b, 0.0) * worth[b] for b in worth) / total
        bins = sorted(worth, key=lambda b: (b is None, b))
        return sum(held.get(b, 0.0) * worth[b] for b in bins) / sum(held.get(b, 0.0) for b in bins)

    def _sum(self, strategy):
        total = 0.0
        for row in self.picked:
            total += self.pool.inputs[strategy.input].values[row]
        return total

    def _below_range(self, row):
        return all(
            self.pool.inputs[s.input].values[row] + self._sum(s) <= s.target_range[1]
            for s in self.strategies
            if isinstance(s, Weights) and s.target_range
        )

    def _on_the_way(self, strategy, row):
        values = self.pool.inputs[strategy.input].values
        share = (len(self.picked) + 1) / self.limit
        low, high = strategy.target_range[0] * share, strategy.target_range[1] * share
        total = values[row] + self._sum(strategy)
        gap = max(low - total, total - high, 0.0)
        return max(1.0 - gap / ((max(values) - min(values)) or 1.0), 0.0)
