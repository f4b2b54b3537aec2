"""From embedded samples to a selection: duplicates go first, then strategies choose."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.artifacts import EmbeddedTable, Results, SelectionRecord
from lightly_fs.artifacts.preselected import NearPreselected
from lightly_fs.artifacts.sequences import (
    Timestamp,
    write_left_out,
    write_sequence_information,
)
from lightly_fs.config import RunConfig
from lightly_fs.decoding.duplicates import find_duplicates
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.embedding import require_samples
from lightly_fs.pipeline.gathering import gather
from lightly_fs.pipeline.inputs import Known, build_pool, describe, engine_strategy, title
from lightly_fs.pipeline.tally import check_failures
from lightly_fs.selection import select
from lightly_fs.selection.pool import Embeddings, Numeric, Pool
from lightly_fs.types import Progress, Selection, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.config.selection import SelectionConfig
    from lightly_fs.embedding.embedder import Embedder
    from lightly_fs.selection.choose import Chosen
    from lightly_fs.selection.near_duplicates import NearDuplicates

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Choice:
    """A selection, and what it was made from.

    Attributes:
        known: Annotations and objects of the candidates.
        pool: The candidates and their inputs, before any of them was removed.
    """

    results: Results
    known: Known
    pool: Pool


def choose(this: RunContext, embedder: Callable[[], Embedder]) -> Choice:
    """Select among the embedded samples that are no duplicates.

    Args:
        embedder: Gives the model; called only when objects are to be embedded.

    Raises:
        NoUsableSampleError: Not one sample was embedded.
        TooManyFailuresError: More samples failed than `max_failures` allows.
    """
    since, config = time.monotonic(), this.config
    table = _read(this)
    this.look_at(table)
    whole = config.selected_sequence_length > 1  # a removed duplicate would tear a sequence
    duplicates = (
        []
        if whole
        else find_duplicates(table.records, this.read, max_pixels=config.max_image_pixels)
    )
    preselected = None
    if this.pool is not None:
        duplicates = duplicates if whole else this.pool.duplicates(table, duplicates)
        preselected = this.pool.preselected(table)
    rows = table.without(duplicates)
    since -= time.monotonic()
    known = gather(this, table, rows, embedder, preselected)
    since += time.monotonic()  # what is gathered has stages of its own
    found = f"({len(duplicates):,} duplicates)"

    def told(stage: Stage, done: int, total: int | None, note: str = "") -> None:  # noqa: ARG001
        this.progress(stage, done, len(rows), note or found)

    pool = build_pool(config, known)
    kept, near, near_preselected = _apart(config, pool, told)
    picked = _pick(this, pool if near is None else pool.rows(kept), told)
    selection = replace(picked.selection, indices=kept[picked.selection.indices])
    record = None
    if config.selection_config is not None and picked.chosen is not None:
        record = _record(config.selection_config, picked.chosen, kept, pool)
    left_out = {
        "near duplicates": len(rows) - len(kept),
        "removed by thresholds": 0 if record is None else len(record.thresholded),
    }
    counts = [f"{len(duplicates):,} duplicates"] + [f"{n:,} {k}" for k, n in left_out.items() if n]
    this.progress(Stage.SELECT, len(selection.indices), len(rows), f"({', '.join(counts)})")
    this.took(Stage.SELECT, since, len(rows))
    if not len(selection.indices):
        logger.warning("%s", _nothing(this, len(rows), counts))
    invalid = [(file.path, file.reason) for file in known.invalid]
    results = Results(
        table,
        duplicates,
        selection,
        near=near,
        record=record,
        invalid=invalid,
        preselected=preselected,
        near_preselected=near_preselected,
    )
    return Choice(results, known, pool)


def _nothing(this: RunContext, n_usable: int, counts: Sequence[str]) -> str:
    """Return what to tell when nothing was selected, with the fix where a fraction is the cause."""
    images = f"{n_usable:,} image{'s' * (n_usable != 1)}"
    told = f"nothing was selected of {', '.join([images, *counts])}"
    config, chosen = this.config, this.config.selection_config
    if chosen is None:
        asked = config.stopping_condition.count(n_usable)
        key, fraction = "stopping_condition.n_samples", config.stopping_condition.n_samples
        number = key
    else:
        asked = chosen.count(n_usable)
        key, fraction = "selection_config.proportion_samples", chosen.proportion_samples or -1
        number = "selection_config.n_samples"
    in_all = this.pool is not None and config.datapool.count_selected
    length = config.selected_sequence_length
    if in_all or asked is None or asked >= length or not n_usable or isinstance(fraction, int):
        return told
    rounded = f"0 sequences of {length}" if length > 1 else "0"
    return (
        f"{told}: {key}={fraction:g} of {n_usable:,} rounds down to {rounded}; "
        f"give a whole number as {number}, or a larger fraction"
    )


def _read(this: RunContext) -> EmbeddedTable:
    """Return what was embedded; with a datapool that holds something, it may be nothing."""
    table = this.run_dir.read_parts()
    # Those of earlier processes count, too.
    check_failures(len(table.failures), this.config.max_failures)
    if this.pool is None or this.pool.is_empty:
        require_samples(table, len(this.inventory))
    model = this.run_dir.model()
    if len(table) or model is None:
        return table
    return replace(table, vectors=np.empty((0, model.dimensions), np.float32))


def _record(
    config: SelectionConfig, chosen: Chosen, kept: NDArray[np.int64], pool: Pool
) -> SelectionRecord:
    inputs = (entry.input for entry in config.strategies if entry.input.type == "SCORES")
    strengths = [getattr(entry.strategy, "strength", 1.0) for entry in config.strategies]
    with np.errstate(over="ignore"):
        product = np.prod(chosen.objectives ** np.array(strengths), axis=1)
    return SelectionRecord(
        strategies=_told_apart([describe(entry) for entry in config.strategies]),
        objectives=chosen.objectives,
        product=product,
        thresholded=kept[chosen.removed],
        scores={name: pool.get(name, Numeric).values for name in map(title, inputs)},
        typicality={
            title(entry.input): _whole(chosen.constant[place], kept, pool)
            for place, entry in enumerate(config.strategies)
            if entry.strategy.type == "TYPICALITY" and place in chosen.constant
        },
    )


def _told_apart(lines: list[str]) -> list[str]:
    """Return lines of which no two are the same: they name columns."""
    return [
        line if lines.index(line) == place else f"{line} ({lines[:place].count(line) + 1})"
        for place, line in enumerate(lines)
    ]


def _whole(values: NDArray[np.float64], kept: NDArray[np.int64], pool: Pool) -> NDArray[np.float64]:
    """Return values of the candidates that were left as values of all, NaN for the others."""
    found = np.full(len(pool.filenames), np.nan)
    found[kept] = values
    return found


def _apart(
    config: RunConfig, pool: Pool, told: Progress
) -> tuple[NDArray[np.int64], NearDuplicates | None, NearPreselected | None]:
    """Return the candidates that are no near duplicates, and those that are.

    What is near to a sample that is selected already goes first.
    """
    left, most = np.arange(len(pool.filenames)), config.near_duplicates.max_distance
    if most < 0:
        return left, None, None
    from lightly_fs.selection.near_duplicates import find_near_duplicates

    given, earlier = pool.get("EMBEDDINGS", Embeddings), None
    if given.preselected is not None:
        earlier = _near_preselected(given.vectors, given.preselected, most)
        left = np.setdiff1d(left, earlier.removed, assume_unique=True)
    names = [pool.filenames[int(row)] for row in left]
    found = find_near_duplicates(
        given.vectors[left], names, max_distance=most, device=config.device, progress=told
    )
    near = replace(found, removed=left[found.removed], original=left[found.original])
    kept = np.setdiff1d(left, near.removed, assume_unique=True)
    logger.info("%d near duplicates within %g", len(pool.filenames) - len(kept), most)
    return kept, near, earlier


def _near_preselected(
    vectors: NDArray[np.float32], preselected: NDArray[np.float32], max_distance: float
) -> NearPreselected:
    from lightly_fs.selection.nearest import covering_distances

    distances, nearest = covering_distances(vectors, preselected)
    near = np.flatnonzero(distances <= max_distance)
    return NearPreselected(near, nearest[near], distances[near])


@dataclass(frozen=True, eq=False)
class _Picked:
    selection: Selection
    chosen: Chosen | None = None


def _pick(this: RunContext, pool: Pool, told: Progress) -> _Picked:
    """Choose from the pool, samples or sequences of them."""
    config, length = this.config, this.config.selected_sequence_length
    n_usable = len(pool.filenames)
    if length == 1:
        limit = _limit(this, n_usable)
        return _by_method(config, pool, limit, told) or _by_strategies(config, pool, limit, told)
    from lightly_fs.selection.sequences import (
        SHORTER,
        expanded,
        reduced,
        selected_sequences,
        sequence_limit,
        sequences_of,
    )

    limit = sequence_limit(_limit(this, n_usable), length, proportion=True)
    table = this.table
    found = sequences_of(pool.filenames, length, {} if table is None else table.taken())
    shorter = reduced(pool, found)
    picked = _by_method(config, shorter, limit, told) or _by_strategies(
        config, shorter, limit, told
    )
    selection = expanded(picked.selection, found)
    names = [pool.filenames[row] for row in selection.indices]
    data = this.staging / "data"
    write_sequence_information(
        data / "sequence_information.json",
        selected_sequences(names, length),
        {} if table is None else _timestamps(table, names),
    )
    left_out = [pool.filenames[row] for row in found.left_out]
    write_left_out(data / "left_out_of_sequences.csv", left_out, SHORTER)
    return _Picked(selection, None if picked.chosen is None else expanded(picked.chosen, found))


def _timestamps(table: EmbeddedTable, names: Sequence[str]) -> dict[str, Timestamp]:
    """Return the timestamps of frames, of those that have any."""
    found = {}
    for name in names:
        frame = table.frame(table.rows[name])
        if frame is not None and frame.pts is not None and frame.seconds is not None:
            found[name] = (frame.pts, frame.seconds)
    return found


def _limit(this: RunContext, n_usable: int) -> int | None:
    """Return how many samples to select at most, or None for no limit."""
    chosen, pool = this.config.selection_config, this.pool
    asked = this.config.stopping_condition if chosen is None else chosen
    if pool is None or pool.from_scratch or not this.config.datapool.count_selected:
        return asked.count(n_usable)
    usable, selected = pool.count()
    total = asked.count(n_usable + usable)
    return None if total is None else min(n_usable, max(0, total - selected))


def _by_method(config: RunConfig, pool: Pool, limit: int | None, told: Progress) -> _Picked | None:
    """Let `method` choose; None where strategies are to."""
    if config.selection_config is not None:
        return None
    least = config.stopping_condition.min_distance
    if limit is None and least < 0:
        logger.warning(
            "no stopping condition is set, so everything usable is selected; "
            "stopping_condition.n_samples or .min_distance sets one"
        )
    return _Picked(
        select(
            pool.get("EMBEDDINGS", Embeddings).vectors,
            method=config.method,
            n_samples=limit,
            min_distance=None if least < 0 else least,
            seed=config.seed,
            filenames=pool.filenames,
            preselected=pool.get("EMBEDDINGS", Embeddings).preselected,
            progress=told,
        )
    )


def _by_strategies(config: RunConfig, pool: Pool, limit: int | None, told: Progress) -> _Picked:
    """Let the strategies choose."""
    from lightly_fs.selection.choose import Stop
    from lightly_fs.selection.choose import choose as choose_from
    from lightly_fs.selection.order import pick_distances
    from lightly_fs.selection.strategies import Limits

    entries = config.selection_config.strategies if config.selection_config else ()
    strategies = [engine_strategy(entry) for entry in entries]
    chosen = choose_from(pool, strategies, Limits(limit), told, config.device)
    stopped = "min_distance" if chosen.stopped_by is Stop.MINIMUM_DISTANCE else chosen.stopped_by
    given = pool.get("EMBEDDINGS", Embeddings)
    distances = pick_distances(given.vectors[chosen.indices], given.preselected)
    return _Picked(Selection(chosen.indices, distances, str(stopped)), chosen)
