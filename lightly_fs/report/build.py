"""From a run's results to a `Report`: all that the PDF, the page and the JSON show, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.config.run import RunConfig
from lightly_fs.report.examples import Pair, choose_pairs, closest_removed, spread
from lightly_fs.report.lettering import percent
from lightly_fs.report.projection import NEIGHBOURS, pacmap, pca
from lightly_fs.report.savings import Savings, savings
from lightly_fs.report.selection import SelectionFacts, check_facts
from lightly_fs.report.statistics import (
    Comparison,
    EmbeddingStatistics,
    Numbers,
    Sets,
    compare,
    draw_sets,
    embedding_statistics,
    sample_rows,
)
from lightly_fs.report.strategies import StrategyReport, strategy_report, wanted_rows
from lightly_fs.report.thumbnails import Pixels, fetch
from lightly_fs.types import Counts, Duplicate, Failure, ModelInfo, RunFacts, Selection

MAX_MAP_POINTS = 10_000
MAX_GALLERY = 200
MAX_REMOVED_NEIGHBOURS = 60
MAX_MAP_EXAMPLES = 28
MAX_DUPLICATE_EXAMPLES = 6
MIN_PACMAP = 8


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


@dataclass(frozen=True, eq=False)
class Map:
    """Candidates as points of a plane.

    Attributes:
        key: `pca` or `pacmap`.
        method: Its name, and what a reader should know of it.
        rows: (M,) ascending candidates that are shown.
        points: (M, 2) float32.
        examples: Rows whose images are placed on the map; far apart from one another.
    """

    key: str
    method: str
    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    examples: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Report:
    """What is reported of a run.

    Attributes:
        shown: The first selected rows, in the order they were chosen.
        replaced: By selected row, the nearest candidate that was removed for it.
        duplicates: The first of them.
        notes: What was measured on a sample, in sentences.
        thumbnails: By filename, of all examples that could be read.
        strategies: None for a selection by `method`.
    """

    given: ReportInput
    sets: Sets
    statistics: EmbeddingStatistics
    maps: Sequence[Map]
    properties: Mapping[str, Comparison]
    pairs: Sequence[Pair]
    shown: NDArray[np.int64]
    replaced: Mapping[int, Pair]
    duplicates: Sequence[Duplicate]
    savings: Mapping[str, Savings]
    notes: Sequence[str]
    thumbnails: Mapping[str, Pixels]
    strategies: StrategyReport | None = None


def build_report(given: ReportInput) -> Report:
    """Compute the statistics, maps and examples of a run. The same input gives the same values."""
    _check(given)
    sets = draw_sets(len(given.filenames), given.selection.indices, given.config.seed)
    statistics = embedding_statistics(given.vectors, sets, given.config.memory_requirement_in_GB)
    maps = draw_maps(given.vectors, sets)
    pairs = choose_pairs(statistics.cover, sets.selected, given.config.n_example_images)
    shown = sets.selected[:MAX_GALLERY]
    replaced = closest_removed(statistics.cover, sets.selected, shown)
    replaced = dict(list(replaced.items())[:MAX_REMOVED_NEIGHBOURS])
    duplicates = given.duplicates[:MAX_DUPLICATE_EXAMPLES]
    strategies = None
    if given.strategies is not None:
        strategies = strategy_report(given.strategies, sets, given.filenames, given.image)
    wanted = _wanted(given, maps, [*pairs, *replaced.values()], shown)
    if strategies is not None:
        near = (given.filenames[row] for row in wanted_rows(strategies))
        wanted = list(dict.fromkeys([*wanted, *near]))
    return Report(
        given=given,
        sets=sets,
        statistics=statistics,
        maps=maps,
        properties={name: _over_sets(values, sets) for name, values in given.properties.items()},
        pairs=pairs,
        shown=shown,
        replaced=replaced,
        duplicates=duplicates,
        savings=savings(_unlabelled(given.counts)),
        notes=_notes(statistics, sets, maps),
        thumbnails=fetch(wanted, given.image),
        strategies=strategies,
    )


def _unlabelled(counts: Counts) -> int:
    """Return how many usable images need no labels because others have them."""
    return counts.duplicate + counts.removed if counts.selected else 0


def _check(given: ReportInput) -> None:
    n = len(given.filenames)
    lengths = {"vectors": len(given.vectors)} | {
        f"properties[{name!r}]": len(values) for name, values in given.properties.items()
    }
    for name, length in lengths.items():
        if length != n:
            raise ValueError(f"{name} has {length} rows for {n} filenames")
    if given.strategies is not None:
        check_facts(given.strategies, n, len(given.selection.indices))


def draw_maps(vectors: NDArray[np.float32], sets: Sets) -> list[Map]:
    """Return a PCA map and a map of neighbourhoods; the latter falls back to PCA for a handful."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rows = _map_rows(sets)
    if not len(rows):
        return []
    # One thread: sums in another order would, step by step, become another map.
    with threadpool_limits(1, "blas"):
        points, share = pca(vectors[rows], 2, sets.seed)
        name = f"PCA; the two axes hold {percent(share, 1)} of the variance"
        maps = [_map("pca", name, rows, points, sets)]
        if len(rows) < MIN_PACMAP:
            name = f"PCA; fewer than {MIN_PACMAP} images are too few for a map of neighbourhoods"
            return [*maps, _map("pca", name, rows, points, sets)]
        points = pacmap(vectors[rows], sets.seed)
    near = min(NEIGHBOURS, len(rows) - 1)
    name = f"PaCMAP with {near} neighbours; distances between distant groups mean little"
    return [*maps, _map("pacmap", name, rows, points, sets)]


def _map_rows(sets: Sets) -> NDArray[np.int64]:
    """Return the candidates on the maps: up to half selected ones, the rest drawn from all."""
    if sets.n <= MAX_MAP_POINTS:
        return np.arange(sets.n, dtype=np.int64)
    chosen = sets.selected[
        sample_rows(len(sets.selected), MAX_MAP_POINTS // 2, sets.seed, stream=7)
    ]
    rest = np.setdiff1d(np.arange(sets.n), sets.selected, assume_unique=True)
    drawn = rest[sample_rows(len(rest), MAX_MAP_POINTS - len(chosen), sets.seed, stream=8)]
    return np.sort(np.concatenate([chosen, drawn]))


def _map(
    key: str, method: str, rows: NDArray[np.int64], points: NDArray[np.float32], sets: Sets
) -> Map:
    candidates = np.isin(rows, sets.selected)
    eligible = np.flatnonzero(candidates) if candidates.any() else np.arange(len(rows))
    chosen = eligible[spread(points, eligible, MAX_MAP_EXAMPLES)]
    return Map(key, method, rows, points, rows[chosen])


def _over_sets(values: Numbers, sets: Sets) -> Comparison:
    return compare({name: values[rows] for name, rows in sets.rows().items()})


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


def _notes(statistics: EmbeddingStatistics, sets: Sets, maps: Sequence[Map]) -> list[str]:
    """Return what was measured on a sample, one sentence each."""
    notes = []
    measured = {
        "Nearest neighbours": statistics.neighbour.n_measured,
        "Distances to the selection": statistics.covering.n_measured,
        "Pairwise distances": statistics.pairwise.n_measured,
        "The maps": len(maps[0].rows) if maps and len(maps[0].rows) < sets.n else None,
    }
    for what, size in measured.items():
        if size is not None:
            notes.append(
                f"{what}: measured on {size:,} of {sets.n:,} candidates (seed {sets.seed})."
            )
    return notes
