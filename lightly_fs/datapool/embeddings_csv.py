"""Embeddings from CSV files, `filenames,embedding_0,…,selected,labels`, into a datapool."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from lightly_fs.datapool.columns import imported_files, imported_rows
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.state import Kind
from lightly_fs.datapool.update import Rows, counts_with, next_number, write
from lightly_fs.errors import ArtifactError, ModelError
from lightly_fs.types import ModelInfo

LATEST = "datapool_latest.csv"
HISTORY = "history"
_FORMAT = "header: filenames,embedding_0,…,embedding_N,labels; optional: masked, selected"
_MARKS = ("masked", "selected")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What an embeddings file holds; rows that it masks are left out.

    Attributes:
        vectors: (N, D) float32.
        selected: (N,) bool; all, when the file does not say.
    """

    filenames: pa.Array
    vectors: NDArray[np.float32]
    selected: NDArray[np.bool_]


def files_of(path: Path) -> list[Path]:
    """Return the embeddings files of an older pool, the oldest first; of a file, itself.

    Args:
        path: A CSV file, or a folder with `datapool_latest.csv` and perhaps `history/*.csv`.

    Raises:
        ArtifactError: There is no such file.
    """
    if path.is_file():
        return [path]
    if not (path / LATEST).is_file():
        raise ArtifactError(
            f"{path} is no embeddings file, and holds no {LATEST}",
            hint="name a CSV file of embeddings, or the folder of an older datapool",
        )
    return [*sorted((path / HISTORY).glob("*.csv")), path / LATEST]


def read_embeddings(path: Path) -> Embeddings:
    """Read a file of embeddings.

    Raises:
        ModelError: It breaks the format.
    """
    header = _header(path)
    numbers = [name for name in header if name.startswith("embedding_")]
    types = dict.fromkeys(numbers, pa.float32()) | dict.fromkeys(_MARKS, pa.float32())
    types |= {"filenames": pa.string(), "labels": pa.string()}
    try:
        table = pv.read_csv(
            path,
            parse_options=pv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pv.ConvertOptions(column_types=types, null_values=[""]),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ModelError(f"{path}: {error}", hint=_FORMAT) from error
    if "masked" in header:
        table = table.filter(pc.equal(pc.fill_null(table["masked"], 0), 0))
    names = table["filenames"]
    vectors = np.empty((len(table), len(numbers)), np.float32)
    for index in range(len(numbers)):
        vectors[:, index] = table[f"embedding_{index}"].to_numpy()
    selected = np.ones(len(table), dtype=bool)
    if "selected" in header:
        selected = pc.not_equal(pc.fill_null(table["selected"], 0), 0).to_numpy()
    whole = pa.array([], pa.string()) if not names.num_chunks else names.combine_chunks()
    _check(path, whole, vectors)
    return Embeddings(whole, vectors, selected)


def import_embeddings(pool: Pool, path: Path, model: ModelInfo | None) -> list[Pool]:
    """Add the files of an older pool, a state each; names that the pool knows stay as they are.

    Args:
        pool: The newest state.
        path: See `files_of`.
        model: What made the embeddings, on the caller's word; None when nobody knows.

    Returns:
        The pool after each file that brought something new.

    Raises:
        ModelError: A file breaks the format, or its embeddings do not fit the pool's.
    """
    made = []
    for file in files_of(path):
        found = read_embeddings(file)
        _check_fits(pool, found, model, file)
        is_new = pc.invert(pc.is_in(found.filenames, value_set=pool.files["filename"]))
        keep = is_new.to_numpy(zero_copy_only=False)
        if not keep.any():
            continue
        names = found.filenames.filter(is_new)
        rows = Rows(
            imported_rows(names, found.vectors[keep], found.selected[keep]), imported_files(names)
        )
        draft = replace(
            pool.state.following(next_number(pool.store), Kind.IMPORT),
            model=model if not pool.state.dimensions else pool.state.model,
            dimensions=found.vectors.shape[1],
            counts=counts_with(pool, rows),
        )
        pool = write(pool.store, draft, rows, keep_history=True)
        made.append(pool)
    return made


def _check_fits(pool: Pool, found: Embeddings, model: ModelInfo | None, file: Path) -> None:
    dimensions = found.vectors.shape[1]
    if model is not None and model.dimensions != dimensions:
        raise ModelError(f"{file} has {dimensions} dimensions, the model {model.dimensions}")
    if not pool.state.dimensions:
        return
    if pool.state.dimensions != dimensions:
        raise ModelError(
            f"{file} has {dimensions} dimensions, the datapool {pool.state.dimensions}",
            hint="import it into another, new datapool",
        )
    if model is not None:
        pool.check_model(model)
    elif pool.state.model is not None:
        raise ModelError(
            f"the datapool holds embeddings of {pool.state.model.name}, and nobody says what "
            f"made those of {file}",
            hint="--model RUN_DIR/config/model.json of a run with the same model, if it is the "
            "same; or import into another, new datapool",
        )


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read as UTF-8 text: {error}", hint=_FORMAT) from error
    columns = [name for name in header if re.fullmatch(r"embedding_(0|[1-9][0-9]*)", name)]
    numbers = sorted(int(name.removeprefix("embedding_")) for name in columns)
    if header[:1] != ["filenames"] or "labels" not in header:
        problem = "the first column must be `filenames`, and there must be a column `labels`"
    elif len(set(header)) < len(header):
        problem = "two columns have the same name"
    elif not numbers or numbers != list(range(len(numbers))):
        problem = "columns embedding_0, embedding_1, … without a gap are expected"
    elif unknown := [n for n in header if n not in {"filenames", "labels", *_MARKS, *columns}]:
        problem = f"the column `{unknown[0]}` is unknown"
    else:
        return header
    raise ModelError(f"{path}: {problem}", hint=_FORMAT)


def _check(path: Path, names: pa.Array, vectors: NDArray[np.float32]) -> None:
    if pc.any(pc.equal(names, "")).as_py():
        raise ModelError(f"{path}: a row has no filename", hint=_FORMAT)
    if pc.count_distinct(names).as_py() < len(names):
        counts = pc.value_counts(names)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise ModelError(f"{path} has more than one row for `{twice}`", hint=_FORMAT)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise ModelError(
            f"{path}: the row of `{names[int(broken[0])].as_py()}` is not all finite numbers",
            hint=_FORMAT,
        )
