"""What each strategy made of the candidates that were not selected, when the last pick was made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.artifacts.tables import write_csv
from lightly_fs.config import RunConfig
from lightly_fs.pipeline.inputs import engine_strategy
from lightly_fs.pipeline.selecting import Choice
from lightly_fs.selection import strategies as engine
from lightly_fs.selection.pool import Numeric, Pool
from lightly_fs.selection.threshold import keeps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.score import Cover, Score, Spread

FILE = "data/removed_objectives.csv"
"""What each strategy made of each sample that was not selected."""

MAX_MULTIPLICATIONS = 2e12
"""Work of one strategy's objectives, about half a minute; what takes more is left unknown."""


@dataclass(frozen=True, eq=False)
class LastPick:
    """The candidates that were not selected, beside the last pick.

    Attributes:
        filenames: R samples that thresholds removed or that were not chosen, in inventory order;
            near duplicates are none of them.
        removed_by: The strategy whose threshold removed each; empty where none did.
        strategies: S lines.
        objectives: (R, S) what each strategy made of the sample, 1e-6 to 1, before its strength;
            of a threshold the value that it looked at. NaN where nobody knows.
        product: (R,) the objectives to the power of their strengths, multiplied; NaN for samples
            that were removed, and where an objective is unknown.
    """

    filenames: Sequence[str]
    removed_by: Sequence[str]
    strategies: Sequence[str]
    objectives: NDArray[np.float64]
    product: NDArray[np.float64]


def last_pick(config: RunConfig, choice: Choice) -> LastPick | None:
    """Return what the strategies made of the candidates that were not selected.

    None where a method selected, and where nothing was selected.
    """
    record, picks = choice.results.record, choice.results.selection.indices
    if record is None or config.selection_config is None or not len(picks):
        return None
    given = [engine_strategy(entry) for entry in config.selection_config.strategies]
    units, members = _units(config, choice)
    place_of = np.full(members.max() + 1, -1)
    place_of[members] = np.arange(len(members))[:, None]
    made = place_of[picks[:: members.shape[1]]]
    removed_by = _removed_by(units, given, record.strategies)
    left = np.flatnonzero([not line for line in removed_by])
    objectives = np.full((len(units.filenames), len(given)), np.nan)
    objectives[left] = objectives_at_last(units.rows(left), given, np.searchsorted(left, made))
    strengths = np.array([getattr(one, "strength", 0.0) for one in given])
    with np.errstate(over="ignore"):
        product = np.prod(objectives**strengths, axis=1)
    for place, strategy in enumerate(given):
        if isinstance(strategy, engine.Threshold):
            objectives[:, place] = units.get(strategy.input, Numeric).values
    rest = np.setdiff1d(np.arange(len(members)), made)
    samples = members[rest].reshape(-1)
    units_of = np.repeat(rest, members.shape[1])[np.argsort(samples)]
    return LastPick(
        [choice.pool.filenames[row] for row in np.sort(samples)],
        [removed_by[unit] for unit in units_of],
        record.strategies,
        objectives[units_of],
        product[units_of],
    )


def write_last_pick(found: LastPick, directory: Path) -> None:
    """Write `FILE` below a local directory."""
    columns = {line: found.objectives[:, place] for place, line in enumerate(found.strategies)}
    write_csv(
        directory / FILE,
        {
            "filename": found.filenames,
            "removed_by": found.removed_by,
            **columns,
            "product": found.product,
        },
    )


def _units(config: RunConfig, choice: Choice) -> tuple[Pool, NDArray[np.int64]]:
    """Return what was picked from, samples or sequences, and the (U, L) rows of each unit."""
    pool, near, length = choice.pool, choice.results.near, config.selected_sequence_length
    if length == 1:
        kept = np.arange(len(pool.filenames))
        if near is not None:
            kept = np.setdiff1d(kept, near.removed)
            pool = pool.rows(kept)
        return pool, kept[:, None]
    from lightly_fs.selection.sequences import reduced, sequences_of

    found = sequences_of(pool.filenames, length, choice.results.table.taken())
    return reduced(pool, found), found.rows


def _removed_by(units: Pool, given: Sequence[engine.Strategy], lines: Sequence[str]) -> list[str]:
    """Return the first threshold that each unit does not satisfy; empty where there is none."""
    found = [""] * len(units.filenames)
    for strategy, line in zip(given, lines, strict=True):
        if isinstance(strategy, engine.Threshold):
            values = np.asarray(units.get(strategy.input, Numeric).values, np.float64)
            for row in np.flatnonzero(~keeps(values, strategy.operation, strategy.threshold)):
                found[row] = found[row] or line
    return found


def objectives_at_last(
    pool: Pool, given: Sequence[engine.Strategy], picks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (N, S) objectives of all candidates after all picks but the last.

    Args:
        pool: N candidates, none of them removed by a threshold.
        given: S strategies.
        picks: (K,) rows in the order they were picked; at least one.
    """
    from lightly_fs.selection.objective import clipped
    from lightly_fs.selection.score import build
    from lightly_fs.types import silent

    order = engine.canonical_order(list(given))
    score: Score = build(pool, given, order, len(picks), silent)
    before = picks[:-1]
    table = np.ones((len(pool.filenames), len(given)))
    changing, spreads, covers = iter(score.changing), iter(score.spreads), iter(score.covers)
    for place in order:
        match given[place]:
            case engine.Diversity():
                table[:, place] = _diversities(next(spreads), before)
            case engine.Representativeness():
                table[:, place] = _gains(next(covers), before)
            case engine.Threshold():
                pass
            case _ if place in score.objectives:
                table[:, place] = score.objectives[place]
            case _:
                part = next(changing).fresh()
                for row in before.tolist():
                    part.add(row)
                table[:, place] = clipped(part.objectives())
    return table


def _diversities(spread: Spread, before: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) diversities after some picks; NaN where they would take too long."""
    from lightly_fs.selection.distances import is_small
    from lightly_fs.selection.objects import largest_of
    from lightly_fs.selection.reach import Reach

    n = len(spread.vectors if spread.offsets is None else spread.offsets[1:])
    members = [member for row in before.tolist() for member in spread.members(row)]
    if spread.vectors.size * len(members) > MAX_MULTIPLICATIONS:
        return np.full(n, np.nan)
    reach = Reach(spread, compiled=not is_small(spread.vectors, len(members)))
    if members:
        reach.members.show_all(spread.vectors[members])
        squared, offsets = reach.members.best, spread.offsets
        reach.best = squared if offsets is None else largest_of(squared, offsets)
        reach.started = True
    return reach.objectives(np.arange(n))


def _gains(cover: Cover, before: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) representativeness after some picks; NaN where it would take too long."""
    from lightly_fs.selection import representativeness
    from lightly_fs.selection.distances import is_small

    n = len(cover.vectors)
    if cover.vectors.size * n > MAX_MULTIPLICATIONS:
        return np.full(n, math.nan)
    coverage = representativeness.Coverage(cover, compiled=not is_small(cover.vectors, n))
    for row in before.tolist():
        coverage.show(row)
    coverage.refresh(np.arange(n))
    return representativeness.objectives(coverage.gains)
