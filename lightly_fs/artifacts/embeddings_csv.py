"""Embeddings in CSV files, `filenames,embedding_0,…,labels`: read, with every mistake named.

Rows are counted as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from lightly_fs.errors import ModelError

LABELS = "labels"
MARKS = ("masked", "selected")
"""Columns of 0 and 1; an empty field is a 0."""
VIDEO = "video"
"""Of a frame, the filename of its video; empty for an image."""

_FIRST = "filenames"
_NUMBER = r"embedding_(0|[1-9][0-9]*)"
_BROKEN_TEXT = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class CsvFormat:
    """Which columns there are beside the names, which come first, and the numbers.

    Attributes:
        required: Those that must be there.
        optional: Those that may be there. Others are a mistake.
    """

    required: tuple[str, ...] = (LABELS,)
    optional: tuple[str, ...] = MARKS

    @property
    def hint(self) -> str:
        """Say what a file must look like."""
        last = "".join(f", `{name}`" for name in self.required)
        return (
            f"columns: first `{_FIRST}`, then `embedding_0`, `embedding_1`, …{last}; "
            f"may be missing: {', '.join(f'`{name}`' for name in self.optional)}"
        )


@dataclass(frozen=True, eq=False)
class CsvEmbeddings:
    """What a file holds.

    Attributes:
        filenames: N texts, none of them empty or twice.
        vectors: (N, D) float32, all finite.
        others: The other columns: texts, and numbers for `MARKS`.
    """

    filenames: pa.Array
    vectors: NDArray[np.float32]
    others: pa.Table

    def marked(self, mark: str) -> NDArray[np.bool_] | None:
        """Return (N,) which rows a column of `MARKS` marks; None when there is no such column."""
        return _marked(self.others, mark) if mark in self.others.column_names else None


def read_embeddings_csv(
    path: Path, given: CsvFormat, *, skip_masked: bool = False
) -> CsvEmbeddings:
    """Read a file of embeddings.

    Args:
        path: UTF-8 text.
        given: The format that is expected.
        skip_masked: Leave out the rows that are `masked`, whatever else they hold.

    Raises:
        ModelError: It breaks the format. The message names row and column.
    """
    header = _header(path, given)
    numbers = [name for name in header if re.fullmatch(_NUMBER, name)]
    table = _read(path, given, header, [*numbers, *MARKS])
    rows = np.arange(2, len(table) + 2)
    if skip_masked and "masked" in header:
        keep = ~_marked(table, "masked")
        table, rows = table.filter(pa.array(keep)), rows[keep]
    names = pa.chunked_array(table[_FIRST].chunks, pa.string()).combine_chunks()
    vectors = np.empty((len(table), len(numbers)), np.float32)
    for index in range(len(numbers)):
        vectors[:, index] = table[f"embedding_{index}"].to_numpy()  # an empty field is NaN
    problem = _wrong(names, vectors, rows) or _wrong_mark(table, rows)
    if problem:
        raise ModelError(f"{path}: {problem}", hint=given.hint)
    return CsvEmbeddings(names, vectors, table.drop_columns([_FIRST, *numbers]))


def _header(path: Path, given: CsvFormat) -> list[str]:
    """Return the column names, checked by the rules of the platform's own files."""
    try:
        with _opened(path) as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError as error:
        raise ModelError(f"there is no embeddings file {path}", hint=given.hint) from error
    except (OSError, csv.Error) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint=given.hint) from error
    columns = [name for name in header if re.fullmatch(_NUMBER, name)]
    numbers = sorted(int(name.removeprefix("embedding_")) for name in columns)
    known = {_FIRST, *given.required, *given.optional, *columns}
    missing = [name for name in given.required if name not in header]
    if any(map(_BROKEN_TEXT.search, header)):
        problem = "the header is no UTF-8 text"
    elif header[:1] != [_FIRST]:
        there = f"`{header[0]}`" if header else "nothing"
        problem = f"the first column must be `{_FIRST}`, not {there}"
    elif missing:
        problem = f"there is no column `{missing[0]}`"
    elif len(set(header)) < len(header):
        problem = "two columns have the same name"
    elif not numbers or numbers != list(range(len(numbers))):
        problem = "columns embedding_0, embedding_1, … without a gap are expected"
    elif unknown := [name for name in header if name not in known]:
        problem = f"the column `{unknown[0]}` is unknown"
    else:
        return header
    raise ModelError(f"{path}: {problem}", hint=given.hint)


def _read(path: Path, given: CsvFormat, header: Sequence[str], numbers: Sequence[str]) -> pa.Table:
    types = dict.fromkeys(header, pa.string()) | dict.fromkeys(numbers, pa.float32())
    try:
        return pv.read_csv(
            path,
            parse_options=pv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pv.ConvertOptions(column_types=types, null_values=[""]),
        )
    except (pa.ArrowInvalid, OSError) as error:
        # Arrow names the value, but not where it stands.
        found = _first_mistake(path, header, numbers) or str(error)
        raise ModelError(f"{path}: {found}", hint=given.hint) from error


def _first_mistake(path: Path, header: Sequence[str], numbers: Sequence[str]) -> str | None:
    """Return what is wrong with the first row that Arrow cannot take."""
    columns = [index for index, name in enumerate(header) if name in numbers]
    try:
        with _opened(path) as file:
            rows = enumerate(csv.reader(file, strict=True), start=1)
            next(rows)
            return next(_mistakes(rows, header, columns), None)
    except (OSError, csv.Error):
        return None


def _mistakes(
    rows: Iterator[tuple[int, list[str]]], header: Sequence[str], numbers: Sequence[int]
) -> Iterator[str]:
    for number, fields in rows:
        if len(fields) != len(header):
            yield f"row {number} has {len(fields)} fields, and the header {len(header)}"
        elif any(map(_BROKEN_TEXT.search, fields)):
            yield f"row {number} is no UTF-8 text"
        elif not _are_numbers([fields[index] for index in numbers]):
            wrong = next(index for index in numbers if not _are_numbers([fields[index]]))
            yield f"row {number}, column `{header[wrong]}`: `{fields[wrong]}` is no number"


def _are_numbers(texts: Sequence[str]) -> bool:
    values = pa.array([text.strip(" \t") or None for text in texts], pa.string())
    try:
        pc.cast(values, pa.float32())
    except pa.ArrowInvalid:
        return False
    return True


def _wrong(names: pa.Array, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> str | None:
    """Return what is wrong with the values, or None.

    Args:
        rows: (N,) where they stand in the file.
    """
    without = pc.equal(pc.fill_null(names, ""), "").to_numpy(zero_copy_only=False)
    if without.any():
        return f"row {rows[int(without.argmax())]} has no filename"
    if pc.count_distinct(names).as_py() < len(names):
        counts = pc.value_counts(names)
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0]
        places = rows[pc.equal(names, twice).to_numpy(zero_copy_only=False)]
        return f"there is more than one row for `{twice.as_py()}`: {places[0]} and {places[1]}"
    finite = np.isfinite(vectors)
    if finite.all():
        return None
    row, column = np.argwhere(~finite)[0]
    return (
        f"row {rows[row]}, column `embedding_{column}`: there is no finite number for "
        f"`{names[int(row)].as_py()}`"
    )


def _wrong_mark(table: pa.Table, rows: NDArray[np.int64]) -> str | None:
    for mark in (name for name in MARKS if name in table.column_names):
        values = table[mark].to_numpy()
        wrong = ~np.isin(values, (0, 1)) & table[mark].is_valid().to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            return f"row {rows[row]}, column `{mark}`: `{values[row]:g}` is neither 0 nor 1"
    return None


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _marked(table: pa.Table, mark: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.equal(pc.fill_null(table[mark], 0), 1).to_numpy()
    return found
