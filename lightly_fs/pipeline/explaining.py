"""What became of a sample in a selection and why: what made it win, or what it lost by."""

from __future__ import annotations

import bisect
import difflib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
from numpy.typing import NDArray

from lightly_fs.artifacts import Results, RunDir
from lightly_fs.artifacts.lists import EMBEDDED, FOLDER, SELECTED, parse_list
from lightly_fs.artifacts.results import OBJECTIVES
from lightly_fs.pipeline.last_pick import FILE, LastPick
from lightly_fs.selection.sequences import SHORTER, sequences_of

_OTHERS = ("filename", "distance", "product", "removed_by")
"""Columns that are no strategy's."""
_THRESHOLD = "THRESHOLD "
"""How the lines of thresholds begin; what they leave over, they rate alike."""
_COMPARED = 2_000
"""Names on either side of an unknown one, in their order, that are compared with it."""
_ALIKE = 0.6


@dataclass(frozen=True, eq=False)
class Ends:
    """How the samples ended that were not selected.

    Attributes:
        embedded: All embedded filenames, sorted.
        failures: Outcome and reason of those that were not embedded.
        duplicates: By exact duplicate, the sample that stands for it, and in which way.
        near: By near duplicate, the sample that stands for it, and the distance between them.
        left_over: Why a sample is in no sequence.
        nearest: Returns the selected sample nearest to one, and the distance between them; None
            where nobody knows.
        last: What strategies made of them; None where a method chose, or nobody wrote it down.
    """

    embedded: Sequence[str]
    failures: Mapping[str, tuple[str, str]]
    duplicates: Mapping[str, tuple[str, str]]
    near: Mapping[str, tuple[str, float]]
    left_over: Mapping[str, str]
    nearest: Callable[[str], tuple[str, float] | None]
    last: LastPick | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was known of each selected sample when it was picked, and what became of the others.

    Attributes:
        filenames: K samples in the order they were picked.
        strategies: S lines; none where a method selected.
        distances: (K,) L2 distance to the nearest sample picked before; inf for the first.
        objectives: (K, S) what each strategy made of the sample, 1e-6 to 1, before its strength.
        product: (K,) the objectives to the power of their strengths, multiplied: what decided.
        find_ends: Returns how the others ended; called when one of them is asked for.
    """

    filenames: Sequence[str]
    strategies: Sequence[str]
    distances: NDArray[np.float32]
    objectives: NDArray[np.float64]
    product: NDArray[np.float64]
    find_ends: Callable[[], Ends] = field(repr=False)

    @cached_property
    def ends(self) -> Ends:
        return self.find_ends()

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.filenames)}

    def of(self, filename: str) -> dict[str, Any] | None:
        """Return what became of a sample and why, or None when the run has no such sample.

        `outcome` is `selected`, `not_chosen`, `removed_by_threshold`, `near_duplicate`,
        `exact_duplicate`, `left_over` (of a sequence), or that of a sample that was not embedded.
        """
        if filename in self._places:
            return self._selected(self._places[filename])
        for tell in (self._failed, self._duplicate, self._near, self._left_over):
            if (found := tell(filename)) is not None:
                return {"filename": filename, **found}
        embedded = self.ends.embedded
        place = bisect.bisect_left(embedded, filename)
        if place == len(embedded) or embedded[place] != filename:
            return None
        return {"filename": filename, **self._not_chosen(filename)}

    def closest(self, filename: str) -> list[str]:
        """Return up to three names of samples that an unknown one may have been meant to be."""
        known = [*self.ends.embedded, *self.ends.failures]
        same = [name for name in known if name.rpartition("/")[2] == filename.rpartition("/")[2]]
        if same:
            return same[:3]
        known.sort()
        place = bisect.bisect_left(known, filename)
        around = known[max(0, place - _COMPARED) : place + _COMPARED]
        return difflib.get_close_matches(filename, around, n=3, cutoff=_ALIKE)

    def _selected(self, place: int) -> dict[str, Any]:
        return {
            "filename": self.filenames[place],
            "outcome": "selected",
            "picked": place + 1,
            "of": len(self.filenames),
            "distance": _known(float(self.distances[place])),
            "objectives": self._named(self.objectives[place]),
            "product": float(self.product[place]),
        }

    def _named(self, objectives: NDArray[np.float64]) -> dict[str, float | None]:
        return dict(zip(self.strategies, map(_known, objectives.tolist()), strict=True))

    def _failed(self, filename: str) -> dict[str, Any] | None:
        found = self.ends.failures.get(filename)
        return None if found is None else {"outcome": found[0], "reason": found[1]}

    def _duplicate(self, filename: str) -> dict[str, Any] | None:
        found = self.ends.duplicates.get(filename)
        if found is None:
            return None
        original, reason = found
        outcome = (self.of(original) or {}).get("outcome")
        return {
            "outcome": "exact_duplicate",
            "reason": reason,
            "original": original,
            "original_outcome": outcome,
        }

    def _near(self, filename: str) -> dict[str, Any] | None:
        found = self.ends.near.get(filename)
        if found is None:
            return None
        original, distance = found
        outcome = (self.of(original) or {}).get("outcome")
        return {
            "outcome": "near_duplicate",
            "original": original,
            "distance": distance,
            "original_outcome": outcome,
        }

    def _left_over(self, filename: str) -> dict[str, Any] | None:
        reason = self.ends.left_over.get(filename)
        return None if reason is None else {"outcome": "left_over", "reason": reason}

    @cached_property
    def _rejected(self) -> Mapping[str, int]:
        last = self.ends.last
        return {} if last is None else {name: place for place, name in enumerate(last.filenames)}

    def _not_chosen(self, filename: str) -> dict[str, Any]:
        nearest, distance = self.ends.nearest(filename) or (None, None)
        beside = {"nearest_selected": nearest, "distance": distance}
        last, place = self.ends.last, self._rejected.get(filename)
        known = self._selected(len(self.filenames) - 1) if self.filenames else None
        told: dict[str, Any] = {**beside, "last_pick": known}
        if last is None or place is None:
            return {"outcome": "not_chosen", **told}
        found = self._named(last.objectives[place])
        if line := last.removed_by[place]:
            removed = {"removed_by": line, "value": found[line], **beside}
            return {"outcome": "removed_by_threshold", **removed}
        told["objectives"] = {
            line: value for line, value in found.items() if not line.startswith(_THRESHOLD)
        }
        told["product"] = _known(float(last.product[place]))
        return {"outcome": "not_chosen", **told}


def _known(value: float) -> float | None:
    """Return a number; None for what nobody knows."""
    return value if math.isfinite(value) else None


def explanation(
    results: Results,
    find_last: Callable[[], LastPick | None] = lambda: None,
    sequence_length: int = 1,
) -> Explanation:
    """Return what the selection of this process was made by.

    Args:
        results: Of the selection.
        find_last: Returns what strategies made of the samples that were not selected; called when
            one of them is asked for.
        sequence_length: Samples per selected sequence.
    """
    names, record = results.names(results.selected), results.record
    distances = results.selection.distances

    def ends() -> Ends:
        return _ends_of(results, find_last(), sequence_length)

    if record is None:
        return _by_method(names, distances, ends)
    return Explanation(names, record.strategies, distances, record.objectives, record.product, ends)


def _by_method(
    names: Sequence[str], distances: NDArray[np.float32], ends: Callable[[], Ends]
) -> Explanation:
    empty = np.empty((len(names), 0))
    return Explanation(names, (), distances, empty, np.ones(len(names)), ends)


def _ends_of(results: Results, last: LastPick | None, sequence_length: int) -> Ends:
    """Return how samples ended by the results of this process."""
    table, near = results.table, results.near
    alone = left_over(results, sequence_length)
    removed, originals, apart = ([], [], []) if near is None else (
        results.names(results.candidates[near.removed]),
        results.names(results.candidates[near.original]),
        near.distance.tolist(),
    )  # fmt: skip

    def nearest(filename: str) -> tuple[str, float] | None:
        if not len(results.selected):
            return None
        gaps = table.vectors[results.selected] - table.vectors[table.rows[filename]]
        squared = np.einsum("kd,kd->k", gaps, gaps, dtype=np.float64)
        place = int(squared.argmin())
        return results.names(results.selected[[place]])[0], float(np.sqrt(squared[place]))

    return Ends(
        embedded=sorted(table.filenames),
        failures={one.filename: (one.outcome.value, one.reason) for one in table.failures},
        duplicates={one.filename: (one.original, one.reason) for one in results.duplicates},
        near=dict(zip(removed, zip(originals, apart, strict=True), strict=True)),
        left_over=dict.fromkeys(results.names(results.candidates[alone]), SHORTER),
        nearest=nearest,
        last=last,
    )


def left_over(results: Results, sequence_length: int) -> NDArray[np.int64]:
    """Return the candidates that are in no whole sequence; none where images are selected."""
    if sequence_length == 1:
        return np.empty(0, np.int64)
    names = results.names(results.candidates)
    return sequences_of(names, sequence_length, results.table.taken()).left_out


_EMBEDDED, _SELECTED = f"{FOLDER}/{EMBEDDED}", f"{FOLDER}/{SELECTED}"
_DUPLICATES, _NEAR = "data/duplicates.csv", "data/near_duplicates.csv"
_FAILURES, _NEAREST = "data/failures.csv", "data/removed_samples.csv"
_LEFT_OVER = "data/left_out_of_sequences.csv"
_ENDS = (_EMBEDDED, _DUPLICATES, _NEAR, _FAILURES, _NEAREST, _LEFT_OVER, FILE)
Files = Mapping[str, bytes]


def read_explanation(run_dir: RunDir) -> Explanation:
    """Return what a finished run wrote down of its selection."""
    output = run_dir.output.below(run_dir.folder)
    # Read now, while the output is open, and understood when somebody asks.
    files = {name: output.read(name) or b"" for name in (_SELECTED, OBJECTIVES, *_ENDS)}
    names = parse_list(files[_SELECTED].decode())

    def ends() -> Ends:
        return _read_ends(files)

    table = _table(files[OBJECTIVES])
    if table is None:
        return _by_method(names, np.full(len(names), np.inf, np.float32), ends)
    strategies = [name for name in table.column_names if name not in _OTHERS]
    return Explanation(
        names,
        strategies,
        _numbers(table, "distance").astype(np.float32),
        np.stack([_numbers(table, name) for name in strategies], axis=1),
        _numbers(table, "product"),
        ends,
    )


def _read_ends(files: Files) -> Ends:
    """Return how samples ended by the tables of a finished run."""
    failures = _rows(files[_FAILURES], "outcome", "reason")
    duplicates = _rows(files[_DUPLICATES], "original", "reason")
    near = _rows(files[_NEAR], "original", "distance")
    nearest = _rows(files[_NEAREST], "nearest_selected", "distance")

    def nearest_to(filename: str) -> tuple[str, float] | None:
        found = nearest.get(filename)
        return None if found is None else (found[0], float(found[1]))

    return Ends(
        embedded=sorted(parse_list(files[_EMBEDDED].decode())),
        failures={name: (outcome, reason) for name, (outcome, reason) in failures.items()},
        duplicates={name: (original, reason) for name, (original, reason) in duplicates.items()},
        near={name: (original, float(distance)) for name, (original, distance) in near.items()},
        left_over={name: reason for name, (reason,) in _rows(files[_LEFT_OVER], "reason").items()},
        nearest=nearest_to,
        last=_read_last(files[FILE]),
    )


def _read_last(data: bytes) -> LastPick | None:
    table = _table(data)
    if table is None:
        return None
    lines = [name for name in table.column_names if name not in _OTHERS]
    return LastPick(
        table["filename"].to_pylist(),
        table["removed_by"].to_pylist(),
        lines,
        np.stack([_numbers(table, line) for line in lines], axis=1),
        _numbers(table, "product"),
    )


def _rows(data: bytes, *columns: str) -> dict[str, tuple[str, ...]]:
    """Return some columns by filename; nothing where there is no such table."""
    table = _table(data, columns)
    if table is None:
        return {}
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    return dict(zip(table["filename"].to_pylist(), rows, strict=True))


def _table(data: bytes, texts: Sequence[str] = ()) -> pa.Table | None:
    """Return a table of the run; columns of names, and `texts`, stay texts whatever they hold."""
    if not data:
        return None
    kinds = dict.fromkeys(("filename", "removed_by", *texts), pa.string())
    return pv.read_csv(
        io.BytesIO(data),
        parse_options=pv.ParseOptions(newlines_in_values=True),
        convert_options=pv.ConvertOptions(column_types=kinds, strings_can_be_null=False),
    )


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return numbers
