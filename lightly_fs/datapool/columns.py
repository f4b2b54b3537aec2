"""Rows of a datapool: what a run found becomes columns, and columns become a run's values again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.datapool.known import AGAIN, Known
from lightly_fs.datapool.vectors import vector_column
from lightly_fs.errors import ArtifactError
from lightly_fs.types import Duplicate, ModelInfo, Outcome

HASH_BYTES = 32
PROPERTY = "property_"
FRAMES = ("video", "frame_index", "pts", "seconds")
"""Columns that say which frame of which video a sample is; all null for an image."""

SAMPLE_ROWS = pa.schema(
    [
        pa.field("filename", pa.string(), nullable=False),
        pa.field("video", pa.string()),
        pa.field("frame_index", pa.int64()),
        pa.field("pts", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("content_hash", pa.binary(HASH_BYTES)),
        pa.field("pixel_hash", pa.binary(HASH_BYTES)),
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("duplicate_of", pa.string()),
    ]
)
"""What is kept of a sample, beside `property_…` columns and the `vector`."""

FILE_ROWS = pa.schema(
    [
        pa.field("filename", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("video", pa.string()),
    ]
)
"""What is remembered of a file. Size, ETag and time are null when only its name is known.

`video` is JSON, of a video that gave frames: `facts` of it, its `corrupt` frames, and by which
`sampling` the frames were taken.
"""


@dataclass(frozen=True, eq=False)
class Additions:
    """What a run brings to a datapool.

    Attributes:
        table: Everything that it embedded, and the failures.
        selected: (K,) int64 rows of the table.
        duplicates: Rows that show exactly what another row, or a sample of the pool, shows.
        known: Everything that was listed, beside the pool that the run began with; processed
            are the new and changed files, or all.
        run_id: Of the same run the pool takes additions once.
        frames: Which frames the table's rows are, with the columns of `FRAMES`; None for images.
        sampling: Which frames were taken of videos, as JSON values.
    """

    table: EmbeddedTable
    selected: NDArray[np.int64]
    duplicates: Sequence[Duplicate]
    known: Known
    model: ModelInfo
    run_id: str
    frames: pa.Table | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PoolRows:
    """Samples of a datapool.

    Attributes:
        table: Names, vectors, sizes, hashes, properties. Rows that came without a size or hash
            (an imported CSV) have zeros there, and NaN for properties that were off.
        frames: Which frames the rows are, with the columns of `FRAMES`.
        selected: (N,) bool.
    """

    table: EmbeddedTable
    frames: pa.Table
    selected: NDArray[np.bool_]


def sample_rows(additions: Additions) -> pa.Table:
    """Return a row of the format for every row of the table."""
    table, frames = additions.table, additions.frames
    selected = np.zeros(len(table), dtype=bool)
    selected[additions.selected] = True
    names = pa.array(table.filenames, pa.string())
    copies = pa.array([one.filename for one in additions.duplicates], pa.string())
    originals = pa.array([one.original for one in additions.duplicates], pa.string())
    known = {
        "filename": names,
        **({} if frames is None else {name: frames[name] for name in FRAMES}),
        "width": table.widths,
        "height": table.heights,
        "content_hash": hash_array(table.content_hashes),
        "pixel_hash": hash_array(table.pixel_hashes),
        "selected": selected,
        "duplicate_of": originals.take(pc.index_in(names, value_set=copies)),
    }
    rows = _with_vectors(known, table.vectors)
    for name, values in table.properties.items():
        rows = rows.append_column(PROPERTY + name, pa.array(values, pa.float64()))
    return rows


def imported_rows(
    names: pa.Array,
    vectors: NDArray[np.float32],
    selected: NDArray[np.bool_],
    frames: tuple[pa.Array, pa.Array],
) -> pa.Table:
    """Return rows of samples of which nothing but name and embedding is known.

    Args:
        names: N texts.
        vectors: (N, D).
        selected: (N,).
        frames: Video and index of those that are frames; null for images.
    """
    videos, indices = frames
    known = {"filename": names, "video": videos, "frame_index": indices, "selected": selected}
    return _with_vectors(known, vectors)


def imported_files(names: pa.Array) -> pa.Table:
    """Return rows of files of which nothing but the name is known."""
    texts = {"outcome": [Outcome.EMBEDDED.value] * len(names), "reason": [""] * len(names)}
    return _filled(FILE_ROWS, {"filename": names, **texts})


def file_rows(additions: Additions, files_of: pa.ChunkedArray) -> pa.Table:
    """Return a row for every file that this run has a result for.

    Args:
        additions: What the run brings.
        files_of: `file_of` its samples.

    Files that could not be read leave no row, so that they are new again next time; a video of
    which only some frames could be read leaves one that says so.

    Raises:
        ArtifactError: A sample's file is not in the inventory.
    """
    listed = additions.known.inventory.table
    embedded = pc.unique(files_of)
    if not pc.all(pc.is_in(embedded, value_set=listed["filename"]), min_count=0).as_py():
        raise ArtifactError("a sample came to the datapool whose file is not in the inventory")
    worst: dict[str, tuple[str, str]] = {}
    for one in additions.table.failures:
        name = one.frame.video if one.frame else one.filename
        # A corrupt frame says nothing about the video's other frames; a failed read does.
        if name not in worst or one.outcome.value in AGAIN:
            worst[name] = (one.outcome.value, one.reason)
    failed = pa.array(list(worst), pa.string())
    at = pc.index_in(listed["filename"], value_set=failed)
    outcome = pa.array([one for one, _ in worst.values()], pa.string()).take(at)
    reason = pa.array([one for _, one in worst.values()], pa.string()).take(at)
    has_samples = pc.is_in(listed["filename"], value_set=embedded)
    again = pc.is_in(outcome, value_set=pa.array(AGAIN))
    is_good = pc.and_(has_samples, pc.invert(again))
    return pa.table(
        {
            **{name: listed[name] for name in ("filename", "size", "etag", "mtime_ns")},
            "outcome": pc.if_else(is_good, Outcome.EMBEDDED.value, pc.fill_null(outcome, "")),
            "reason": pc.if_else(is_good, "", pc.fill_null(reason, "")),
            "video": _videos(additions, listed["filename"]),
        },
        schema=FILE_ROWS,
    ).filter(pc.or_(has_samples, pc.equal(pc.fill_null(outcome, ""), Outcome.CORRUPT.value)))


def _videos(additions: Additions, names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return by file what is told of videos that gave frames; null for other files."""
    corrupt: dict[str, list[tuple[object, ...]]] = {}
    for one in additions.table.failures:
        if one.frame is not None:
            told = (one.frame.index, one.frame.pts, one.frame.seconds, one.reason)
            corrupt.setdefault(one.frame.video, []).append(told)
    videos = additions.table.videos
    texts = [
        json.dumps(
            {
                "facts": asdict(video),
                "corrupt": corrupt.get(video.filename, []),
                "sampling": dict(additions.sampling),
            },
            ensure_ascii=False,
        )
        for video in videos
    ]
    at = pc.index_in(names, value_set=pa.array([one.filename for one in videos], pa.string()))
    return pa.array(texts, pa.string()).take(at)


def file_of(rows: pa.Table) -> pa.ChunkedArray:
    """Return which file each sample is of: a frame's video, or the image itself."""
    return pc.coalesce(rows["video"], rows["filename"])


def pool_rows(rows: pa.Table, vectors: NDArray[np.float32]) -> PoolRows:
    """Return rows of the format as a run's values.

    Args:
        rows: With all columns but the vector.
        vectors: (N, D) of these rows.
    """
    names = [name for name in rows.column_names if name.startswith(PROPERTY)]
    table = EmbeddedTable(
        filenames=rows["filename"].to_pylist(),
        vectors=vectors,
        widths=pc.fill_null(rows["width"], 0).to_numpy(),
        heights=pc.fill_null(rows["height"], 0).to_numpy(),
        content_hashes=hashes(rows["content_hash"]),
        pixel_hashes=hashes(rows["pixel_hash"]),
        properties={
            name.removeprefix(PROPERTY): pc.fill_null(rows[name], np.nan).to_numpy()
            for name in names
        },
    )
    return PoolRows(table, rows.select(list(FRAMES)), rows["selected"].to_numpy())


def hashes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Return a column of hashes as (N, 32) uint8; zeros where there is none."""
    found = np.zeros((len(column), HASH_BYTES), np.uint8)
    done = 0
    for piece in column.chunks:
        known = piece.is_valid().to_numpy(zero_copy_only=False)
        data = np.frombuffer(piece.buffers()[1], np.uint8).reshape(-1, HASH_BYTES)
        found[done : done + len(piece)][known] = data[piece.offset :][: len(piece)][known]
        done += len(piece)
    return found


def _with_vectors(known: Mapping[str, Any], vectors: NDArray[np.float32]) -> pa.Table:
    return _filled(SAMPLE_ROWS, known).append_column(*vector_column(vectors))


def _filled(schema: pa.Schema, known: Mapping[str, Any]) -> pa.Table:
    """Return a table of a schema; the columns that are not known are null."""
    count = len(known["filename"])
    columns = [
        known[field.name] if field.name in known else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def hash_array(values: NDArray[np.uint8]) -> pa.Array:
    """Return (N, B) bytes, such as hashes, as a column, without a copy."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    kind = pa.binary(values.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, data])
