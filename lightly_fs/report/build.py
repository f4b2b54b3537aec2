"""From a run's results to a `Report`: all that the PDF, the page and the JSON show, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts.embedded_table import FrameColumns
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.artifacts.videos_table import VideoCounts
from lightly_fs.config.run import RunConfig
from lightly_fs.report.datapool import DatapoolFacts, DatapoolReport, datapool_report
from lightly_fs.report.embedding_statistics import EmbeddingStatistics, embedding_statistics
from lightly_fs.report.examples import Pair, choose_pairs, closest_removed
from lightly_fs.report.fates import fates
from lightly_fs.report.maps import Map, draw_maps
from lightly_fs.report.savings import Savings, savings
from lightly_fs.report.selection import SelectionFacts, check_facts
from lightly_fs.report.statistics import (
    Comparison,
    Numbers,
    Sets,
    compare,
    draw_sets,
)
from lightly_fs.report.strategies import StrategyReport, strategy_report, wanted_rows
from lightly_fs.report.thumbnails import Pixels, fetch
from lightly_fs.types import Counts, Duplicate, Failure, ModelInfo, RunFacts, Selection

MAX_GALLERY = 200
MAX_REMOVED_NEIGHBOURS = 60
MAX_DUPLICATE_EXAMPLES = 6


@dataclass(frozen=True, eq=False)
class ReportInput:
    """A finished run.

    Attributes:
        filenames: N candidates (embedded without exact duplicates), in inventory order.
        vectors: (N, D) float32, the candidates' embeddings as they were selected from.
        properties: Values by property name, each (N,).
        image: Returns an RGB thumbnail (H, W, 3) uint8 whose longer side is at most the given
            number of pixels, or None when the image cannot be had. Called from several threads.
        mounted_at: Where the mount that the user made shows the input; "" when there is none, or
            when `facts.input_uri` is that directory.
        training: What was measured while the model was trained, epoch by epoch; the first entry
            is from before. Empty when nothing was trained.
        strategies: What a selection by strategies looked at; None for a selection by `method`.
        videos: Those that gave frames, with what became of these, sorted by filename.
        frames: Which frame each candidate is; None where there is not a single one.
        preselected: What the datapool had selected before, beside the candidates; None without
            one, and from scratch.
        datapool: What the run found in its datapool; None without one.
        left_over: Candidates that are in no whole sequence, where sequences were selected.
    """

    facts: RunFacts
    config: RunConfig
    counts: Counts
    model: ModelInfo
    filenames: Sequence[str]
    vectors: NDArray[np.float32]
    selection: Selection
    properties: Mapping[str, Numbers]
    failures: Sequence[Failure]
    duplicates: Sequence[Duplicate]
    image: Callable[[str, int], Pixels | None]
    mounted_at: str = ""
    training: Sequence[Mapping[str, Any]] = ()
    strategies: SelectionFacts | None = None
    videos: Sequence[VideoCounts] = ()
    frames: FrameColumns | None = None
    preselected: Preselected | None = None
    datapool: DatapoolFacts | None = None
    left_over: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Report:
    """What is reported of a run.

    Attributes:
        fates: (N,) the `Fate` of each candidate.
        shown: The first selected rows, in the order they were chosen; of a sequence its first.
        distances: (M,) how far each of `shown`, or its sequence, was from those chosen before it.
        replaced: By selected row, the nearest candidate that was removed for it.
        duplicates: The first of them.
        notes: What was measured on a sample, in sentences.
        thumbnails: By filename, of all examples that could be read.
        strategies: None for a selection by `method`.
        datapool: None without a datapool that had selected something.
    """

    given: ReportInput
    sets: Sets
    statistics: EmbeddingStatistics
    maps: Sequence[Map]
    properties: Mapping[str, Comparison]
    pairs: Sequence[Pair]
    fates: NDArray[np.int8]
    shown: NDArray[np.int64]
    distances: NDArray[np.float32]
    replaced: Mapping[int, Pair]
    duplicates: Sequence[Duplicate]
    savings: Mapping[str, Savings]
    notes: Sequence[str]
    thumbnails: Mapping[str, Pixels]
    strategies: StrategyReport | None = None
    datapool: DatapoolReport | None = None


def build_report(given: ReportInput) -> Report:
    """Compute the statistics, maps and examples of a run. The same input gives the same values."""
    _check(given)
    sets = draw_sets(len(given.filenames), given.selection.indices, given.config.seed)
    earlier = given.preselected
    memory_gb = given.config.memory_requirement_in_GB
    statistics = embedding_statistics(given.vectors, sets, memory_gb, earlier)
    maps = draw_maps(given.vectors, sets, None if earlier is None else earlier.vectors)
    datapool = None if earlier is None else datapool_report(sets, earlier, statistics.gaps)
    pairs = choose_pairs(statistics.cover, sets.selected, given.config.n_example_images)
    length = given.config.selected_sequence_length
    shown = sets.selected[::length][:MAX_GALLERY]
    replaced = closest_removed(statistics.cover, sets.selected, shown)
    replaced = dict(list(replaced.items())[:MAX_REMOVED_NEIGHBOURS])
    duplicates = given.duplicates[:MAX_DUPLICATE_EXAMPLES]
    strategies = None
    if given.strategies is not None:
        strategies = strategy_report(
            given.strategies,
            given.config.selection_config,
            sets,
            sets.selected[::length],
            (given.filenames, given.image),
            memory_gb,
        )
    wanted = _wanted(given, maps, [*pairs, *replaced.values()], shown)
    if datapool is not None:
        new = (given.filenames[one.row] for one in datapool.farthest)
        wanted = list(dict.fromkeys([*wanted, *new]))
    if strategies is not None:
        near = (given.filenames[row] for row in wanted_rows(strategies))
        wanted = list(dict.fromkeys([*wanted, *near]))
    return Report(
        given=given,
        sets=sets,
        statistics=statistics,
        maps=maps,
        properties={
            name: _over_sets(name, values, sets, earlier)
            for name, values in given.properties.items()
        },
        pairs=pairs,
        fates=fates(sets.n, sets.selected, given.strategies, given.left_over),
        shown=shown,
        distances=given.selection.distances[::length][:MAX_GALLERY],
        replaced=replaced,
        duplicates=duplicates,
        savings=savings(_unlabelled(given.counts)),
        notes=_notes(statistics, sets, maps, given.preselected),
        thumbnails=fetch(wanted, given.image),
        strategies=strategies,
        datapool=datapool,
    )


def _unlabelled(counts: Counts) -> int:
    """Return how many usable images need no labels because others have them."""
    return counts.duplicate + counts.removed if counts.selected else 0


def _check(given: ReportInput) -> None:
    n = len(given.filenames)
    lengths = {"vectors": len(given.vectors)} | {
        f"properties[{name!r}]": len(values) for name, values in given.properties.items()
    }
    if given.preselected:
        lengths["preselected.distances"] = len(given.preselected.distances)
    for name, length in lengths.items():
        if length != n:
            raise ValueError(f"{name} has {length} rows for {n} filenames")
    if given.strategies is not None:
        check_facts(given.strategies, n, len(given.selection.indices))


def _over_sets(name: str, values: Numbers, sets: Sets, earlier: Preselected | None) -> Comparison:
    """Return how a property is distributed; of a datapool where it was measured of its samples."""
    of_sets = {name: values[rows] for name, rows in sets.rows().items()}
    before = None if earlier is None else earlier.properties.get(name)
    if before is not None and np.isfinite(before).any():
        of_sets["preselected"] = before
        of_sets["with_datapool"] = np.concatenate([before, of_sets["selected"]])
    return compare(of_sets)


def _wanted(
    given: ReportInput, maps: Sequence[Map], pairs: Sequence[Pair], shown: NDArray[np.int64]
) -> list[str]:
    """Return the filenames of all images that the report shows, each once."""
    rows = [int(row) for drawn in maps for row in drawn.examples]
    rows += [row for pair in pairs for row in (pair.selected, pair.removed)]
    rows += [int(row) for row in shown]
    names = [given.filenames[row] for row in rows]
    for duplicate in given.duplicates[:MAX_DUPLICATE_EXAMPLES]:
        names += [duplicate.original, duplicate.filename]
    return list(dict.fromkeys(names))


def _notes(
    statistics: EmbeddingStatistics, sets: Sets, maps: Sequence[Map], earlier: Preselected | None
) -> list[str]:
    """Return what was measured on a sample, one sentence each."""
    notes = []
    measured = {
        "Nearest neighbours": statistics.neighbour.n_measured,
        "Distances to the selection": statistics.covered.n_measured,
        "Pairwise distances": statistics.pairwise.n_measured,
        "The maps": len(maps[0].rows) if maps and len(maps[0].rows) < sets.n else None,
    }
    for what, size in measured.items():
        if size is not None:
            notes.append(
                f"{what}: measured on {size:,} of {sets.n:,} candidates (seed {sets.seed})."
            )
    if statistics.n_pool is not None and earlier is not None:
        total = len(earlier) + len(sets.selected)
        notes.append(
            f"Nearest neighbours in the datapool: measured on {statistics.n_pool:,} of {total:,} "
            f"selected samples (seed {sets.seed})."
        )
    return notes
