"""Embeddings from CSV files, `filenames,embedding_0,…,selected,labels`, into a datapool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts.embeddings_csv import (
    LABELS,
    MARKS,
    VIDEO,
    CsvEmbeddings,
    CsvFormat,
    read_embeddings_csv,
)
from lightly_fs.datapool.columns import file_of, imported_files, imported_rows
from lightly_fs.datapool.merging import Rows
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.state import Kind
from lightly_fs.datapool.update import counts_with, next_number, write
from lightly_fs.errors import ArtifactError, ModelError
from lightly_fs.types import ModelInfo, frame_of

LATEST = "datapool_latest.csv"
HISTORY = "history"
_FORMAT = CsvFormat(required=(), optional=(LABELS, *MARKS, VIDEO))


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What an embeddings file holds; rows that it masks are left out.

    Attributes:
        filenames: N texts.
        vectors: (N, D) float32.
        selected: (N,) bool; all, when the file does not say.
        videos: N texts: of a frame, its video; null for an image.
        frame_indices: N integers: which frame; null for an image.
    """

    filenames: pa.Array
    vectors: NDArray[np.float32]
    selected: NDArray[np.bool_]
    videos: pa.Array
    frame_indices: pa.Array

    @property
    def files(self) -> pa.Array:
        """Which file each row is of: a frame's video, or the image itself."""
        return pc.coalesce(self.videos, self.filenames)

    @property
    def keys(self) -> pa.Array:
        """What is equal for rows of the same image or frame, whatever a frame is called."""
        return _keys(self.filenames, self.videos, self.frame_indices)

    def rows(self, keep: NDArray[np.bool_]) -> pa.Table:
        """Return some rows as samples of a datapool."""
        mask = pa.array(keep)
        return imported_rows(
            self.filenames.filter(mask),
            self.vectors[keep],
            self.selected[keep],
            (self.videos.filter(mask), self.frame_indices.filter(mask)),
        )


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


def read_embeddings(path: Path, *, images: bool = False) -> Embeddings:
    """Read a file of embeddings.

    A column `video` says which rows are frames. Without one, names like `a/v-007-mp4.png` are.

    Args:
        path: The CSV file.
        images: Without a column `video` all rows are images, whatever they are called.

    Raises:
        ModelError: It breaks the format.
    """
    found = read_embeddings_csv(path, _FORMAT, skip_masked=True)
    names: list[str] = found.filenames.to_pylist()
    frames = _told_frames(path, found, names)
    if frames is None:
        frames = [None if images else frame_of(name) for name in names]
    selected = found.marked("selected")
    embeddings = Embeddings(
        found.filenames,
        found.vectors,
        np.ones(len(names), dtype=bool) if selected is None else selected,
        pa.array([one and one[0] for one in frames], pa.string()),
        pa.array([one and one[1] for one in frames], pa.int64()),
    )
    _check_twice(path, embeddings)
    return embeddings


def import_embeddings(
    pool: Pool, path: Path, model: ModelInfo | None, *, images: bool = False
) -> list[Pool]:
    """Add the files of an older pool, a state each; what the pool knows stays as it is.

    Args:
        pool: The newest state.
        path: See `files_of`.
        model: What made the embeddings, on the caller's word; None when nobody knows.
        images: See `read_embeddings`.

    Returns:
        The pool after each file that brought something new.

    Raises:
        ModelError: A file breaks the format, or its embeddings do not fit the pool's.
    """
    made, files = [], files_of(path)
    if len(files) > 1:
        _check(pool, files, model, images=images)
    for file in files:
        found = read_embeddings(file, images=images)
        _check_fits(pool, found, model, file)
        rows = _new_rows(pool, found)
        if not len(rows.samples):
            continue
        draft = replace(
            pool.state.following(next_number(pool.store), Kind.IMPORT),
            model=model if not pool.state.dimensions else pool.state.model,
            dimensions=found.vectors.shape[1],
            counts=counts_with(pool, rows),
        )
        pool = write(pool.store, draft, rows, keep_history=True)
        made.append(pool)
    return made


def _check(pool: Pool, files: Sequence[Path], model: ModelInfo | None, *, images: bool) -> None:
    """Let a mistake in any of the files show before the first of them is in the pool."""
    dimensions = {}
    for file in files:
        found = read_embeddings(file, images=images)
        _check_fits(pool, found, model, file)
        dimensions[found.vectors.shape[1]] = file
    if len(dimensions) > 1:
        told = " and ".join(f"{file} has {count}" for count, file in dimensions.items())
        raise ModelError(f"{told} dimensions", hint="import them into different datapools")


def _told_frames(
    path: Path, found: CsvEmbeddings, names: list[str]
) -> list[tuple[str, int] | None] | None:
    """Return which rows are frames by the column `video`; None when there is none."""
    if VIDEO not in found.others.column_names:
        return None
    frames: list[tuple[str, int] | None] = []
    for name, video in zip(names, found.others[VIDEO].to_pylist(), strict=True):
        frame = frame_of(name) if video else None
        if video and (frame is None or frame[0] != video):
            raise ModelError(
                f"{path}: `{name}` is no name of a frame of `{video}`", hint=_FORMAT.hint
            )
        frames.append(frame)
    return frames


def _check_twice(path: Path, found: Embeddings) -> None:
    counts = pc.value_counts(found.keys)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        names = found.filenames.filter(pc.equal(found.keys, twice[0])).to_pylist()
        raise ModelError(f"{path}: `{names[0]}` and `{names[1]}` are the same frame")


def _new_rows(pool: Pool, found: Embeddings) -> Rows:
    """Return what the pool does not know, and of which files that is.

    A run saw all frames of a video. Of one that was imported, more frames may come; a file's
    samples are of one state, so those that the pool holds are written again.
    """
    remembered = pool.files_named(found.files)
    facts = [remembered[name].is_valid() for name in ("size", "etag", "mtime_ns")]
    by_run = remembered["filename"].filter(pc.or_(pc.or_(*facts[:2]), facts[2]))
    there = pool.rows(["filename", "video", "frame_index"])
    keys = _keys(*(there[name] for name in there.column_names))
    known = [
        pc.is_in(found.files, value_set=by_run),
        pc.is_in(found.filenames, value_set=there["filename"]),
        pc.is_in(found.keys, value_set=keys),
    ]
    keep = ~np.logical_or.reduce([one.to_numpy(zero_copy_only=False) for one in known])
    files = pc.unique(found.files.filter(pa.array(keep)))
    samples = [found.rows(keep)]
    begun = pc.is_in(files, value_set=remembered["filename"])
    if pc.any(begun).as_py():
        samples = [*_rows_of(pool, files.filter(begun)), *samples]
    return Rows(pa.concat_tables(samples, promote_options="default"), imported_files(files))


def _rows_of(pool: Pool, files: pa.Array) -> list[pa.Table]:
    """Return everything about the samples of some files."""
    return [
        table.filter(pa.array(keep & pc.is_in(file_of(table), value_set=files).to_numpy()))
        for table, keep in pool.pieces(None)
    ]


def _keys(
    names: pa.Array | pa.ChunkedArray,
    videos: pa.Array | pa.ChunkedArray,
    indices: pa.Array | pa.ChunkedArray,
) -> pa.Array | pa.ChunkedArray:
    # Null in one is null in all: an image keeps its name.
    return pc.coalesce(
        pc.binary_join_element_wise(videos, pc.cast(indices, pa.string()), "#"), names
    )


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
