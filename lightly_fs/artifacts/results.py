"""What a run found, and how it is written: tables below `data/`, lists below `filenames/`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts import lists
from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.artifacts.tables import write_csv, write_embeddings_csv, write_embeddings_parquet
from lightly_fs.config.run import RunConfig
from lightly_fs.types import Counts, Duplicate, Failure, Outcome, Selection

CSV_VALUES = 50_000_000
"""Up to how many values `embeddings_csv=auto` writes a CSV file."""


@dataclass(frozen=True, eq=False)
class Results:
    """What became of the samples of an inventory.

    Attributes:
        selection: Its indices are positions in `candidates`.
        nearest: For every removed sample, the (R,) int64 position in `selection` of the selected
            sample that is nearest, and its (R,) float32 distance; None when nobody computed it.
    """

    table: EmbeddedTable
    duplicates: Sequence[Duplicate]
    selection: Selection
    nearest: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

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

    def counts(self, inventory: int) -> Counts:
        """Return the sums, for an inventory of so many samples."""
        ended = Counter(failure.outcome for failure in self.table.failures)
        return Counts(
            inventory=inventory,
            embedded=len(self.table),
            corrupt=ended[Outcome.CORRUPT],
            gone=ended[Outcome.GONE],
            failed=ended[Outcome.FAILED],
            unreadable=ended[Outcome.UNREADABLE],
            duplicate=len(self.duplicates),
            selected=len(self.selected),
            removed=len(self.removed),
        )

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.table.filenames[row] for row in rows]

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
    _write_reasons(results, data)
    _write_lists(results, directory / lists.FOLDER)
    _write_corruptness(results, directory / "corruptness_check_information.json")


def _wants_csv(config: RunConfig, rows: NDArray[np.int64], table: EmbeddedTable) -> bool:
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
    if results.nearest is not None:
        positions, distances = results.nearest
        write_csv(
            data / "removed_samples.csv",
            {
                "filename": results.names(results.removed),
                "nearest_selected": results.names(results.selected[positions]),
                "distance": distances,
            },
        )


def _write_lists(results: Results, folder: Path) -> None:
    lists.write_list(folder / lists.EMBEDDED, results.table.filenames)
    for outcome, name in lists.NOT_EMBEDDED.items():
        lists.write_list(folder / name, (one.filename for one in results.failures(outcome)))
    lists.write_list(folder / lists.DUPLICATE, (one.filename for one in results.duplicates))
    lists.write_list(folder / lists.SELECTED, results.names(results.selected))
    lists.write_list(folder / lists.REMOVED, results.names(results.removed))


def _write_corruptness(results: Results, path: Path) -> None:
    """Write the artifact of the corruptness check as the platform defines it."""
    corrupt = {one.filename: one.reason for one in results.failures(Outcome.CORRUPT)}
    content = {"corrupt_samples": corrupt, "corrupt_videos": {}}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
