"""`embeddings=FILE`: vectors that were made elsewhere, looked up by filename."""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.errors import ModelError
from lightly_fs.types import ModelInfo, frame_of, provisional_name

INPUT_SIZE = 128
"""Images are decoded all the same, for their properties and to find the corrupt ones."""

_FORMAT = "header: filenames,embedding_0,…,embedding_N,labels"
_logger = logging.getLogger(__name__)


class CsvEmbedder:
    """An embeddings file in the place of a model.

    Raises:
        ModelError: The file breaks the format, or none of its names is in the inventory.
    """

    def __init__(self, path: Path, filenames: Iterable[str]) -> None:
        table = _read(path)
        _check_marks(path, table)
        names = _names(path, table)
        self._vectors = _vectors(path, table, names)
        self._rows = {name: row for row, name in enumerate(names)}
        found = self._name_frames(filenames)
        if not found:
            raise ModelError(
                f"none of the {len(names)} filenames of {path} is in the inventory, "
                f"the first is `{names[0]}`",
                hint="filenames are paths below the input directory; frames of a video `a/v.mp4` "
                "are `a/v-007-mp4.png`",
            )
        if found < len(names):
            _logger.warning("%d rows of %s name no sample", len(names) - found, path)
        self.no_vector = f"no row in {path.name}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.info = ModelInfo(
            name=f"csv:{path.name}",
            weights_sha256=digest,
            input_size=INPUT_SIZE,
            dimensions=self._vectors.shape[1],
            preprocessing="none",
            runtime="csv",
            precision="f32",
        )

    def _name_frames(self, filenames: Iterable[str]) -> int:
        """Make frames known by what they are called while decoded; return how many rows are used.

        How many digits a frame's name has is known only when its video is decoded to its end.
        """
        listed = set(filenames)
        found = 0
        for name, row in list(self._rows.items()):
            frame = frame_of(name)
            if name in listed:
                found += 1
            elif frame is not None and frame[0] in listed:
                self._rows[provisional_name(*frame)] = row
                found += 1
        return found

    def embed(self, pixels: Tensor, filenames: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(pixels), self.info.dimensions), np.nan, np.float32)
        for index, name in enumerate(filenames):
            row = self._rows.get(name)
            if row is not None:
                vectors[index] = self._vectors[row]
        return vectors


def read_vectors(path: Path) -> NDArray[np.float32]:
    """Return the (Q, D) vectors of a CSV of embeddings, or of a run's `embeddings.parquet`.

    Raises:
        ModelError: The file breaks the format.
    """
    if path.suffix != ".parquet":
        table = _read(path)
        return _vectors(path, table, _names(path, table))
    try:
        column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
        rows = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        vectors: NDArray[np.float32] = rows.astype(np.float32).reshape(len(column), -1)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}", hint="a column `embedding` of lists") from error
    if not np.isfinite(vectors).all():
        raise ModelError(f"{path}: not all values are finite numbers")
    return vectors


def _read(path: Path) -> pa.Table:
    header = _header(path)
    types = {name: pa.float32() for name in header if name != "filenames"}
    types |= {"filenames": pa.string(), "labels": pa.string()}
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""]),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ModelError(f"{path}: {error}", hint=_FORMAT) from error
    if not table.num_rows:
        raise ModelError(f"{path} has a header but no rows", hint=_FORMAT)
    return table


def _header(path: Path) -> list[str]:
    """Return the column names, checked by the rules of the platform's own files."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError as error:
        raise ModelError(f"there is no embeddings file {path}", hint=_FORMAT) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no UTF-8 text: {error}", hint=_FORMAT) from error
    columns = [name for name in header if re.fullmatch(r"embedding_(0|[1-9][0-9]*)", name)]
    numbers = sorted(int(name.removeprefix("embedding_")) for name in columns)
    known = {"filenames", "labels", "masked", "selected", *columns}
    if header[:1] != ["filenames"] or "labels" not in header:
        problem = "the first column must be `filenames`, and there must be a column `labels`"
    elif len(set(header)) < len(header):
        problem = "two columns have the same name"
    elif not numbers or numbers != list(range(len(numbers))):
        problem = "columns embedding_0, embedding_1, … without a gap are expected"
    elif unknown := [name for name in header if name not in known]:
        problem = f"the column `{unknown[0]}` is unknown"
    else:
        return header
    raise ModelError(f"{path}: {problem}", hint=_FORMAT)


def _check_marks(path: Path, table: pa.Table) -> None:
    for mark in {"masked", "selected"} & set(table.column_names):
        if pc.any(pc.not_equal(table[mark], 0)).as_py():
            raise ModelError(
                f"{path} marks rows as {mark}, which this version does not act on",
                hint=f"leave those rows or the column `{mark}` out",
            )


def _names(path: Path, table: pa.Table) -> list[str]:
    column = table["filenames"]
    names: list[str] = column.to_pylist()
    if not all(names):
        raise ModelError(f"{path}: row {[bool(n) for n in names].index(False) + 2} has no filename")
    if len(set(names)) < len(names):
        counts = pc.value_counts(column)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise ModelError(f"{path} has more than one row for `{twice}`")
    return names


def _vectors(path: Path, table: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    dimensions = sum(name.startswith("embedding_") for name in table.column_names)
    vectors = np.empty((table.num_rows, dimensions), np.float32)
    for index in range(dimensions):
        vectors[:, index] = table[f"embedding_{index}"].to_numpy()  # an empty field is NaN
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise ModelError(f"{path}: the row of `{names[broken[0]]}` is not all finite numbers")
    return vectors
