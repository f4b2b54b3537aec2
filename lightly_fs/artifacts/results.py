"""What a run found, and how it is written: tables below `data/`, lists below `filenames/`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts import lists
from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.artifacts.preselected import NearPreselected, Preselected
from lightly_fs.artifacts.tables import (
    Embedded,
    write_csv,
    write_embeddings_csv,
    write_embeddings_parquet,
)
from lightly_fs.artifacts.videos_table import VideoCounts, count_videos, write_videos
from lightly_fs.config.run import RunConfig
from lightly_fs.types import Counts, Duplicate, Failure, Outcome, Selection, is_video

OBJECTIVES = "data/selection_objectives.csv"
"""What each strategy made of each selected sample."""

CSV_VALUES = 50_000_000
"""Up to how many values `embeddings_csv=auto` writes a CSV file."""


class NearDuplicates(Protocol):
    """Candidates that were left out because another shows almost the same.

    Attributes:
        removed: (R,) int64 positions in the candidates, ascending.
        original: (R,) int64 the candidate that was kept instead.
        distance: (R,) float32 L2 distance between the two.
    """

    @property
    def removed(self) -> NDArray[np.int64]: ...
    @property
    def original(self) -> NDArray[np.int64]: ...
    @property
    def distance(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class SelectionRecord:
    """Why strategies chose what they chose.

    Attributes:
        strategies: S lines, such as `DIVERSITY of EMBEDDINGS`.
        objectives: (K, S) what each strategy made of each pick at the time, 1e-6 to 1.
        product: (K,) the objectives, each to the power of its strength, multiplied: what decided.
        thresholded: (T,) int64 positions in the candidates that thresholds removed, ascending.
        scores: (N,) active-learning scores of the candidates, by what they are called.
        typicality: (N,) of the candidates, by what its embeddings are called; NaN for the removed.
    """

    strategies: Sequence[str]
    objectives: NDArray[np.float64]
    product: NDArray[np.float64]
    thresholded: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]
    typicality: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Results:
    """What became of the samples of an inventory.

    Attributes:
        selection: Its indices are positions in `candidates`.
        nearest: For every removed sample, the (R,) int64 position in `selection`, or behind it in
            `preselected`, of the selected sample that is nearest, and its (R,) float32 distance;
            None when nobody computed it.
        near: Near duplicates of one another; None when they were not looked for.
        near_preselected: Near duplicates of what the datapool has selected.
        record: None when a method selected, without strategies.
        invalid: Path and reason of annotation files that were left out.
        preselected: What the datapool has selected; None without one, and from scratch.
    """

    table: EmbeddedTable
    duplicates: Sequence[Duplicate]
    selection: Selection
    nearest: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
    near: NearDuplicates | None = None
    record: SelectionRecord | None = None
    invalid: Sequence[tuple[str, str]] = ()
    preselected: Preselected | None = None
    near_preselected: NearPreselected | None = None

    @cached_property
    def candidates(self) -> NDArray[np.int64]:
        """Rows of the table that are no duplicates, ascending."""
        return self.table.without(self.duplicates)

    @cached_property
    def selected(self) -> NDArray[np.int64]:
        """Selected rows of the table, in the order they were chosen."""
        return self.candidates[self.selection.indices]

    @cached_property
    def removed(self) -> NDArray[np.int64]:
        """Candidates that were not selected, ascending rows of the table."""
        keep = np.ones(len(self.candidates), dtype=bool)
        keep[self.selection.indices] = False
        return self.candidates[keep]

    @cached_property
    def videos(self) -> list[VideoCounts]:
        """The videos that gave frames, and what became of these, sorted by filename."""
        rows = [self.table.rows[duplicate.filename] for duplicate in self.duplicates]
        return count_videos(self.table, np.array(rows, np.int64), self.selected)

    def counts(self, inventory: int) -> Counts:
        """Return the sums, for an inventory of so many samples."""
        table = self.table
        ended = Counter(failure.outcome for failure in table.failures)
        failed_frames = sum(failure.frame is not None for failure in table.failures)
        return Counts(
            inventory=inventory,
            embedded=len(table),
            corrupt=ended[Outcome.CORRUPT],
            gone=ended[Outcome.GONE],
            failed=ended[Outcome.FAILED],
            unreadable=ended[Outcome.UNREADABLE],
            duplicate=len(self.duplicates),
            selected=len(self.selected),
            removed=len(self.removed),
            videos=len(table.videos),
            frames=int(table.count_by_video().sum()) + failed_frames,
            unusable_videos=sum(map(_is_video, table.failures)),
        )

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.table.filenames[row] for row in rows]

    @cached_property
    def all_selected(self) -> list[str]:
        """Names of the selected samples, and then of those that the datapool has selected."""
        earlier = () if self.preselected is None else self.preselected.filenames
        return [*self.names(self.selected), *earlier]

    def failures(self, outcome: Outcome) -> list[Failure]:
        return [failure for failure in self.table.failures if failure.outcome == outcome]


def write_results(results: Results, directory: Path, config: RunConfig) -> None:
    """Write the tables and lists of a run into a local directory.

    The same results give the same bytes.
    """
    data, table = directory / "data", results.table
    if _wants_csv(config, results.candidates, table):
        write_embeddings_csv(data / "embeddings.csv", table, results.candidates)
    write_embeddings_parquet(data / "embeddings.parquet", table, results.candidates)
    if config.dump_sampled_embeddings and _wants_csv(config, results.selected, table):
        write_embeddings_csv(data / "selected_embeddings.csv", table, results.selected)
    if config.dump_sampled_embeddings and results.preselected is not None:
        _write_all_selected(results, results.preselected, data, config)
    _write_reasons(results, data)
    if table.videos or any(map(_is_video, table.failures)):
        write_videos(data / "videos.csv", results.videos, list(filter(_is_video, table.failures)))
    if results.invalid:
        paths, reasons = zip(*sorted(results.invalid), strict=True)
        write_csv(data / "invalid_annotations.csv", {"path": paths, "reason": reasons})
    if results.record is not None:
        _write_record(results, results.record, directory, config)
    _write_lists(results, directory / lists.FOLDER)
    _write_corruptness(results, directory / "corruptness_check_information.json")


def _write_all_selected(
    results: Results, preselected: Preselected, data: Path, config: RunConfig
) -> None:
    """Write the embeddings of all that is selected now, what was selected earlier first."""
    earlier, added = preselected.filenames, results.names(results.selected)
    vectors = [preselected.vectors, results.table.vectors[results.selected]]
    every = Preselected([*earlier, *added], np.concatenate(vectors))
    rows = np.arange(len(every))
    if _wants_csv(config, rows, every):
        path = data / "selected_embeddings_including_datapool.csv"
        write_embeddings_csv(path, every, rows)


def _wants_csv(config: RunConfig, rows: NDArray[np.int64], table: Embedded) -> bool:
    if config.embeddings_csv == "auto":
        return len(rows) * int(table.vectors.shape[1]) <= CSV_VALUES
    return config.embeddings_csv == "always"


def _write_reasons(results: Results, data: Path) -> None:
    failures, duplicates = results.table.failures, results.duplicates
    write_csv(
        data / "failures.csv",
        {
            "filename": (failure.filename for failure in failures),
            "outcome": (failure.outcome.value for failure in failures),
            "reason": (failure.reason for failure in failures),
        },
    )
    write_csv(
        data / "duplicates.csv",
        {
            "filename": (duplicate.filename for duplicate in duplicates),
            "original": (duplicate.original for duplicate in duplicates),
            "reason": (duplicate.reason for duplicate in duplicates),
        },
    )
    if results.near is not None:
        _write_near(results, results.near, data / "near_duplicates.csv")
    if results.nearest is not None:
        positions, distances = results.nearest
        write_csv(
            data / "removed_samples.csv",
            {
                "filename": results.names(results.removed),
                "nearest_selected": [results.all_selected[place] for place in positions],
                "distance": distances,
            },
        )


def _write_near(results: Results, near: NearDuplicates, path: Path) -> None:
    removed, distance = near.removed, near.distance
    original = results.names(results.candidates[near.original])
    if (others := results.near_preselected) is not None and results.preselected is not None:
        original += [results.preselected.filenames[place] for place in others.nearest]
        removed = np.concatenate([removed, others.removed])
        distance = np.concatenate([distance, others.distance])
    order = np.argsort(removed)
    write_csv(
        path,
        {
            "filename": results.names(results.candidates[removed[order]]),
            "original": [original[place] for place in order],
            "distance": distance[order],
        },
    )


def _write_record(
    results: Results, record: SelectionRecord, directory: Path, config: RunConfig
) -> None:
    data, table, rows = directory / "data", results.table, results.candidates
    columns = {line: record.objectives[:, place] for place, line in enumerate(record.strategies)}
    write_csv(
        directory / OBJECTIVES,
        {
            "filename": results.names(results.selected),
            "distance": results.selection.distances,
            **columns,
            "product": record.product,
        },
    )
    if record.scores and _wants_csv(config, rows, table):
        # One score has the name that the format gives it; several need names of their own.
        named = {f"al_score_{key}".replace(" ", "_"): one for key, one in record.scores.items()}
        scores = {"al_score": next(iter(named.values()))} if len(named) == 1 else named
        write_embeddings_csv(data / "al_score_embeddings.csv", table, rows, scores)


def _write_lists(results: Results, folder: Path) -> None:
    lists.write_list(folder / lists.EMBEDDED, results.table.filenames)
    for outcome, name in lists.NOT_EMBEDDED.items():
        lists.write_list(folder / name, (one.filename for one in results.failures(outcome)))
    lists.write_list(folder / lists.DUPLICATE, (one.filename for one in results.duplicates))
    lists.write_list(folder / lists.SELECTED, results.names(results.selected))
    lists.write_list(folder / lists.REMOVED, results.names(results.removed))


def _is_video(failure: Failure) -> bool:
    return failure.frame is None and is_video(failure.filename)


def _write_corruptness(results: Results, path: Path) -> None:
    """Write the artifact of the corruptness check as the platform defines it."""
    corrupt = results.failures(Outcome.CORRUPT)
    videos = [(one.filename, one.reason) for one in corrupt if _is_video(one)]
    videos += [(video.filename, video.problem) for video in results.table.videos if video.problem]
    content = {
        "corrupt_samples": {one.filename: one.reason for one in corrupt if not _is_video(one)},
        "corrupt_videos": dict(sorted(videos)),
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
