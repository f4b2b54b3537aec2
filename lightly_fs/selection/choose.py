"""Choose candidates by any strategies: thresholds first, then greedily by their product."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lightly_fs.selection import diversity, threshold
from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.distances import in_lanes, is_small, squared_distances
from lightly_fs.selection.kcenter import farthest_first
from lightly_fs.selection.objective import clipped, rounded
from lightly_fs.selection.pool import Numeric, Pool, check_pool, name_order
from lightly_fs.selection.ranked import Ranked
from lightly_fs.selection.scan import Scan
from lightly_fs.selection.score import Score, Spread, build
from lightly_fs.selection.strategies import (
    Balance,
    Diversity,
    Limits,
    Representativeness,
    Strategy,
    Threshold,
    Weights,
    canonical_order,
    check,
)
from lightly_fs.types import Progress, Stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Stop(StrEnum):
    """The condition that ended a selection; of several at once, the first named here."""

    ALL = "all"
    N_SAMPLES = "n_samples"
    MAX_SUM = "max_sum"
    MINIMUM_DISTANCE = "minimum_distance"
    MINIMUM_TYPICALITY = "minimum_typicality"
    TARGET_RANGE = "target_range"


@dataclass(frozen=True, eq=False)
class Chosen:
    """Candidates in the order they were chosen.

    Attributes:
        indices: (K,) int64 rows of the pool.
        objectives: (K, S) float64 in [1e-6, 1]: what each strategy, in the order given, made of a
            pick at the time it was picked. Of a threshold 1: every pick satisfies it.
        distances: (K,) float32 distance of each pick to the nearest sample selected before it,
            inf for the first without preselected ones; by the first `Diversity`, None without one.
            With objects, the largest of theirs to the nearest selected object; 0 without any.
        stopped_by: The condition that ended the selection.
        removed: Rows of the pool that thresholds removed, ascending.
        constant: By place of the strategy, (N,) what those that never change (similarity,
            typicality, weights) make of every row of the pool; NaN for the removed ones.
    """

    indices: NDArray[np.int64]
    objectives: NDArray[np.float64]
    distances: NDArray[np.float32] | None
    stopped_by: Stop
    removed: NDArray[np.int64]
    constant: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)


class Engine(Protocol):
    """Makes picks in order; `rows`, `squared` (per spread) and `gains` (per cover) grow."""

    rows: list[int]
    squared: list[list[float]]
    gains: list[list[float]]

    def advance(self) -> bool: ...


def choose(
    pool: Pool,
    strategies: Sequence[Strategy],
    limits: Limits,
    progress: Progress = silent,
    device: str = "auto",
) -> Chosen:
    """Choose until the first stopping condition is met; without one, everything is chosen.

    The result depends on the set of candidates and of strategies alone, not on their order, the
    number of threads, the processor, the device or the size of blocks.

    Args:
        pool: The candidates.
        strategies: What to prefer.
        limits: When to stop.
        progress: Called about twice a second; an exception raised there ends the selection.
        device: Where products of all pairs are made: `cpu`, `cuda`, `cuda:1`, or `auto`, a GPU
            where torch is loaded and has one.

    Raises:
        ConfigError: A strategy asks for an input that is not there or cannot be used.
        ModelError: An embedding is not finite.
    """
    for strategy in strategies:
        check(strategy)
    check_pool(pool)
    by_name = name_order(pool.filenames)
    kept, removed = _apply_thresholds(pool, strategies)
    rows = kept if by_name is None else by_name[np.isin(by_name, kept)]
    whole = by_name is None and not len(removed)
    candidates = pool if whole else pool.rows(rows)
    wanted = len(rows) if limits.n_samples is None else max(0, min(limits.n_samples, len(rows)))
    order = canonical_order(list(strategies))
    score = build(candidates, strategies, order, wanted, progress, device)
    sums = _sums(candidates, strategies)
    engine = run(score, engine_for(score, progress), sums, progress)
    made = len(engine.rows)
    spreads = [place for place in order if isinstance(strategies[place], Diversity)]
    distances = None
    if spreads:
        column = spreads.index(min(spreads))
        squared = np.array([each[column] for each in engine.squared[:made]])
        distances = np.sqrt(squared).astype(np.float32)
    return Chosen(
        indices=rows[np.array(engine.rows, np.int64)],
        objectives=_objectives(score, engine, strategies, order),
        distances=distances,
        stopped_by=_stop(score, engine, sums),
        removed=removed,
        constant={place: _spread(one, rows, pool) for place, one in score.objectives.items()},
    )


def _spread(
    values: NDArray[np.float64], rows: NDArray[np.int64], pool: Pool
) -> NDArray[np.float64]:
    """Return values of some rows as (N,) values of all, NaN for the others."""
    whole = np.full(len(pool.filenames), np.nan)
    whole[rows] = values
    return whole


def _apply_thresholds(
    pool: Pool, strategies: Sequence[Strategy]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    kept = np.ones(len(pool.filenames), np.bool_)
    for strategy in strategies:
        if isinstance(strategy, Threshold):
            values = np.asarray(pool.get(strategy.input, Numeric).values, np.float64)
            kept &= threshold.keeps(values, strategy.operation, strategy.threshold)
    return np.flatnonzero(kept), np.flatnonzero(~kept)


class MaxSum:
    """The sum of numbers over the picks, which ends a selection when it reaches `max_sum`."""

    def __init__(self, values: NDArray[np.float64], max_sum: float) -> None:
        self.values = values
        self.max_sum = max_sum
        self.total = 0.0
        self.counted = 0

    def reached(self, rows: Sequence[int]) -> bool:
        """Count new picks up to the one that reaches the sum; return whether one does."""
        while self.total < self.max_sum and self.counted < len(rows):
            self.total += float(self.values[rows[self.counted]])
            self.counted += 1
        return self.total >= self.max_sum


def _sums(pool: Pool, strategies: Sequence[Strategy]) -> list[MaxSum]:
    return [
        MaxSum(np.asarray(pool.get(strategy.input, Numeric).values, np.float64), strategy.max_sum)
        for strategy in strategies
        if isinstance(strategy, Weights) and strategy.max_sum is not None
    ]


class FarthestFirst:
    """The engine of one diversity alone: its distances decide as they are, never clipped."""

    def __init__(self, score: Score, progress: Progress) -> None:
        self.score = score
        self.progress = progress
        self.rows: list[int] = []
        self.squared: list[list[float]] = []
        self.gains: list[list[float]] = []

    def advance(self) -> bool:
        """Make all picks at once; then return False."""
        if self.rows:
            return False
        (spread,) = self.score.spreads
        candidates = Candidates(
            vectors=spread.vectors,
            filenames=range(len(spread.vectors)),  # type: ignore[arg-type] # not looked at
            preselected=spread.preselected,
            limit=self.score.limit,
            min_distance=spread.strategy.minimum_distance,
        )
        # Tiles are small: what the way to a GPU costs was not measured, so only who asks gets it.
        device = "cpu" if self.score.device == "auto" else self.score.device
        picks = farthest_first(candidates, self.progress, device)
        self.rows = picks.rows.tolist()
        self.squared = picks.squared[:, None].tolist()
        return bool(self.rows)


def engine_for(score: Score, progress: Progress = silent) -> Engine:
    """Return the fastest engine that answers the question exactly."""
    shrinking = len(score.spreads) + len(score.covers)
    if score.members is not None and not shrinking:
        return Ranked(score)
    compiled = not _is_small(score)
    if score.members is None or shrinking > 1 or score.covers:
        return Scan(score, compiled=compiled, progress=progress)
    (spread,) = score.spreads
    if score.by_distance and spread.offsets is None:
        return FarthestFirst(score, progress)
    if spread.strategy.strength < 0 or not compiled or not len(spread.vectors):
        return Scan(score, compiled=compiled, progress=progress)
    from lightly_fs.selection.blocks import Blocks

    return Blocks(score)


def _is_small(score: Score) -> bool:
    return all(
        is_small(part.vectors, len(part.preselected) + score.limit) for part in score.spreads
    ) and all(is_small(part.vectors, len(part.vectors)) for part in score.covers)


def run(score: Score, engine: Engine, sums: Sequence[MaxSum], progress: Progress) -> Engine:
    """Let the engine pick until a condition is met; picks beyond it are dropped."""
    told = time.monotonic()
    while len(engine.rows) < score.limit and not any(s.reached(engine.rows) for s in sums):
        if not engine.advance():
            break
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            progress(Stage.SELECT, len(engine.rows), score.limit)
    end = min([score.limit, *(s.counted for s in sums if s.reached(engine.rows))])
    del engine.rows[end:], engine.squared[end:], engine.gains[end:]
    return engine


def _stop(score: Score, engine: Engine, sums: Sequence[MaxSum]) -> Stop:
    made = len(engine.rows)
    if made == len(score.constant):
        return Stop.ALL
    if made == score.limit:
        return Stop.N_SAMPLES
    if any(each.total >= each.max_sum for each in sums):
        return Stop.MAX_SUM
    left = score.able.copy()
    left[engine.rows] = False
    if not left.any():
        return Stop.MINIMUM_TYPICALITY
    if any(part.strategy.minimum_distance > 0 for part in score.spreads):
        return Stop.MINIMUM_DISTANCE
    return Stop.TARGET_RANGE


def _objectives(
    score: Score, engine: Engine, strategies: Sequence[Strategy], order: Sequence[int]
) -> NDArray[np.float64]:
    """Return (K, S) what each strategy made of each pick, in the order of the configuration."""
    rows = np.array(engine.rows, np.int64)
    table = np.ones((len(rows), len(strategies)))
    changing, spreads, covers = iter(score.changing), itertools.count(), itertools.count()
    for place in order:
        strategy = strategies[place]
        if place in score.objectives:
            table[:, place] = score.objectives[place][rows]
        elif isinstance(strategy, Diversity):
            table[:, place] = _diversities(score, engine, next(spreads))
        elif isinstance(strategy, Representativeness):
            column = next(covers)
            gains = np.array([each[column] for each in engine.gains])
            table[:, place] = rounded(gains / len(score.constant))
        elif isinstance(strategy, Balance | Weights):
            part = next(changing).fresh()
            for step in range(len(rows)):
                table[step, place] = clipped(part.objectives(rows[step : step + 1]))[0]
                part.add(engine.rows[step])
    return table


def _diversities(score: Score, engine: Engine, column: int) -> NDArray[np.float64]:
    spread: Spread = score.spreads[column]
    squared = np.array([each[column] for each in engine.squared])
    found = diversity.objectives(squared, spread.largest)
    for step in np.flatnonzero(squared == np.inf):  # the first, judged by the mean
        vectors = spread.vectors
        total = np.add.reduce(vectors, axis=0, dtype=np.float64)
        first = vectors[list(spread.members(engine.rows[step]))]
        apart = squared_distances(in_lanes(first) * len(vectors), total).max(keepdims=True)
        found[step] = diversity.objectives(apart, spread.largest * len(vectors))[0]
    return found
