"""From embedded samples to a selection: exact duplicates go first, then the method chooses."""

from __future__ import annotations

import logging
import time

import numpy as np

from lightly_fs.artifacts import Results
from lightly_fs.decoding.duplicates import find_duplicates
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.embedding import check_failures, require_samples
from lightly_fs.selection import select
from lightly_fs.types import Stage

logger = logging.getLogger(__name__)


def choose(this: RunContext) -> Results:
    """Select among the embedded samples that are no exact duplicates.

    Raises:
        NoUsableSampleError: Not one sample was embedded.
        TooManyFailuresError: More samples failed than `max_failures` allows.
    """
    since = time.monotonic()
    table = this.run_dir.read_parts()
    check_failures(len(table.failures), this.config.max_failures)  # those of earlier processes too
    require_samples(table, len(this.inventory))
    duplicates = find_duplicates(table.records, this.read, max_pixels=this.config.max_image_pixels)
    rows = table.without(duplicates)
    condition = this.config.stopping_condition
    limit = condition.count(len(rows))
    distance = None if condition.min_distance < 0 else condition.min_distance
    if limit is None and distance is None:
        logger.warning(
            "no stopping condition is set, so everything usable is selected; "
            "stopping_condition.n_samples or .min_distance sets one"
        )
    note = f"({len(duplicates):,} duplicates)"
    selection = select(
        table.vectors if len(rows) == len(table) else table.vectors[rows],
        method=this.config.method,
        n_samples=limit,
        min_distance=distance,
        seed=this.config.seed,
        filenames=[table.filenames[row] for row in rows],
        progress=lambda stage, done, _total, _note="": this.progress(stage, done, len(rows), note),
    )
    this.progress(Stage.SELECT, len(selection.indices), len(rows), note)
    this.took(Stage.SELECT, since, len(rows))
    return Results(table, duplicates, selection)


def nearest_selected(results: Results) -> Results:
    """Return the results with, for every removed sample, the nearest selected one."""
    from lightly_fs.selection.nearest import covering_distances

    if not len(results.removed) or not len(results.selected):
        return results
    vectors = results.table.vectors
    distances, positions = covering_distances(vectors[results.removed], vectors[results.selected])
    nearest = (positions.astype(np.int64), distances)
    return Results(results.table, results.duplicates, results.selection, nearest)
