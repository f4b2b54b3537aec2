"""What a report says of a selection by strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.annotations.scores import active_learning_scores
from lightly_fs.artifacts import Results
from lightly_fs.config import RunConfig
from lightly_fs.config import selection as asked
from lightly_fs.pipeline.inputs import describe, title
from lightly_fs.pipeline.selecting import Choice
from lightly_fs.report.selection import (
    Categories,
    ClassAmounts,
    CropEmbeddings,
    CropFacts,
    SelectionFacts,
    StrategyLine,
)
from lightly_fs.selection.budget import radius_curve
from lightly_fs.selection.pool import Categorical, Distributions, Input, Numeric, Pool
from lightly_fs.selection.threshold import keeps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.pipeline.crops import CropVectors

MAX_CROPS = 200
"""Examples of crops that a report may show."""


def selection_facts(config: RunConfig, choice: Choice) -> SelectionFacts | None:
    """Return the report's view of a selection; None where there is nothing beside the method."""
    known, results = choice.known, choice.results
    if config.selection_config is None and results.near is None and not known.predictions:
        return None
    table, rows, near = known.table, known.rows, results.near
    entries = config.selection_config.strategies if config.selection_config else ()
    given = choice.pool.inputs
    return SelectionFacts(
        lines=_lines(entries, choice),
        numeric={name: one.values for name, one in given.items() if isinstance(one, Numeric)},
        categorical={
            name: _categories(one) for name, one in given.items() if isinstance(one, Categorical)
        },
        distributions={
            name: ClassAmounts(one.classes, one.amounts)
            for name, one in given.items()
            if isinstance(one, Distributions)
        },
        targets={
            title(entry.input): target
            for entry in entries
            if (target := _target(entry, given[title(entry.input)]))
        },
        predictions=known.predictions,
        scores={task: active_learning_scores(one) for task, one in known.predictions.items()},
        typicality={} if results.record is None else results.record.typicality,
        thresholded=np.empty(0, np.int64) if results.record is None else results.record.thresholded,
        radius=_radius(results),
        near_duplicates=None if near is None else (near.removed, near.original, near.distance),
        near_duplicate_distance=max(0.0, config.near_duplicates.max_distance),
        invalid_files=results.invalid,
        crops={
            f"EMBEDDINGS {task}": _crops(found, choice) for task, found in known.objects.items()
        },
        sizes=np.stack([table.widths[rows], table.heights[rows]], axis=1),
    )


def _lines(entries: tuple[asked.SelectionEntry, ...], choice: Choice) -> list[StrategyLine]:
    record = choice.results.record
    if record is None:
        return []
    return [
        StrategyLine(
            describe(entry),
            title(entry.input),
            entry.strategy.type,
            objectives,
            _removed(entry, choice.pool),
        )
        for entry, objectives in zip(entries, record.objectives.T, strict=True)
    ]


def _removed(entry: asked.SelectionEntry, pool: Pool) -> int | None:
    """Return how many candidates a threshold removes by itself."""
    if not isinstance(entry.strategy, asked.ThresholdStrategy):
        return None
    values = pool.get(title(entry.input), Numeric).values
    kept = keeps(values, entry.strategy.operation, entry.strategy.threshold)
    return int((~kept).sum())


def _target(entry: asked.SelectionEntry, given: Input) -> Mapping[str, float]:
    """Return the ratios that a balance aims at, where they can be told beforehand."""
    if not isinstance(entry.strategy, asked.BalanceStrategy):
        return {}
    if entry.strategy.target:
        return entry.strategy.target
    if entry.strategy.distribution is asked.Distribution.UNIFORM:
        labels = given.classes if isinstance(given, Distributions) else []
        labels = sorted(set(given.labels)) if isinstance(given, Categorical) else labels
        return dict.fromkeys(labels, 1 / max(1, len(labels)))
    return {}


def _radius(results: Results) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Return how far the farthest image is from the selection after so many picks."""
    remaining = results.nearest[1].max(initial=0.0) if results.nearest is not None else None
    rest = None if remaining is None else float(remaining)
    n, radius = radius_curve(results.selection.distances, remaining=rest)
    return (n, radius) if len(n) else None


def _categories(given: Categorical) -> Categories:
    labels = tuple(sorted(set(given.labels)))
    places = {label: place for place, label in enumerate(labels)}
    return Categories(labels, np.array([places[label] for label in given.labels], np.int32))


def _crops(found: CropVectors, choice: Choice) -> CropFacts:
    """Return how many crops there are, and some of the images that were picked first."""
    shown = [
        row
        for sample in choice.results.selection.indices.tolist()
        for row in range(found.offsets[sample], found.offsets[sample + 1])
    ][:MAX_CROPS]
    return CropFacts(
        n_crops=len(found.vectors),
        n_images=int((np.diff(found.offsets) > 0).sum()),
        samples=found.crops.samples[shown],
        boxes=found.crops.boxes[shown],
        embedded=CropEmbeddings(found.vectors, found.crops.samples),
    )
