"""Tables: embeddings as CSV and Parquet, and small CSV files of reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightly_fs.artifacts.embedded_table import NO_PTS, EmbeddedTable, FrameColumns

FRAME_FIELDS = (
    pa.field("video", pa.string()),
    pa.field("frame_index", pa.int64()),
    pa.field("pts", pa.int64()),
    pa.field("seconds", pa.float64()),
)
"""Columns of `embeddings.parquet` where there are frames."""

_ROWS = 8192
_CSV_SPECIAL = r'[",\r\n]'


class Embedded(Protocol):
    """N filenames, and their (N, D) float32 vectors."""

    @property
    def filenames(self) -> Sequence[str]: ...
    @property
    def vectors(self) -> NDArray[np.float32]: ...


def write_embeddings_csv(
    path: Path,
    table: Embedded,
    rows: NDArray[np.int64],
    scores: Mapping[str, NDArray[np.float64]] | None = None,
    texts: Mapping[str, pa.Array] | None = None,
) -> None:
    """Write `filenames,embedding_0,…,labels`, the format of the `lightly` client.

    Numbers are the shortest that read back as the same float32; all labels are 0.

    Args:
        path: The file to write.
        table: Filenames and vectors.
        rows: (M,) rows of the table to write, in this order.
        scores: (M,) columns of their own between the vector and the label.
        texts: M texts each: columns behind the label, where the client looks at none.
    """
    scores, texts = scores or {}, texts or {}
    names = [f"embedding_{index}" for index in range(table.vectors.shape[1])]
    schema = pa.schema(
        [
            pa.field("filenames", pa.string()),
            *(pa.field(name, pa.float32()) for name in names),
            *(pa.field(name, pa.float64()) for name in scores),
            pa.field("labels", pa.int64()),
            *(pa.field(name, pa.string()) for name in texts),
        ]
    )
    batches = (
        pa.record_batch(
            [
                pa.array([table.filenames[row] for row in chunk], pa.string()),
                *(pa.array(column) for column in np.ascontiguousarray(table.vectors[chunk].T)),
                *(pa.array(values[start : start + len(chunk)]) for values in scores.values()),
                pa.array(np.zeros(len(chunk), np.int64)),
                *(column.slice(start, len(chunk)) for column in texts.values()),
            ],
            schema=schema,
        )
        for start, chunk in zip(range(0, len(rows), _ROWS), _chunks(rows), strict=True)
    )
    quoted = any(map(_needs_quotes, (table.filenames, *texts.values())))
    _write_csv(path, schema, batches, quoted=quoted)


def write_embeddings_parquet(path: Path, table: EmbeddedTable, rows: NDArray[np.int64]) -> None:
    """Write filename, width, height, content_hash, the properties and the vector of each row.

    Where there are frames of videos, each row also says of which video it is which frame, and when
    it is shown: `video`, `frame_index`, `pts`, `seconds`, all null for an image.
    """
    frames = table.frames
    schema = pa.schema(
        [
            pa.field("filename", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("content_hash", pa.binary(32)),
            *(() if frames is None else FRAME_FIELDS),
            *(pa.field(name, pa.float64()) for name in _own(table)),
            pa.field("embedding", pa.list_(pa.float32(), table.vectors.shape[1])),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for chunk in _chunks(rows):
            vectors = np.ascontiguousarray(table.vectors[chunk]).reshape(-1)
            columns = [
                pa.array([table.filenames[row] for row in chunk], pa.string()),
                pa.array(table.widths[chunk], pa.int32()),
                pa.array(table.heights[chunk], pa.int32()),
                pa.array([hash_.tobytes() for hash_ in table.content_hashes[chunk]], pa.binary(32)),
                *(() if frames is None else frame_columns(table, frames, chunk)),
                *(pa.array(table.properties[name][chunk], pa.float64()) for name in _own(table)),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors), table.vectors.shape[1]),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def frame_columns(
    table: EmbeddedTable, frames: FrameColumns, rows: NDArray[np.int64]
) -> list[pa.Array]:
    """Return the columns of `FRAME_FIELDS` for some rows of a table that has frames."""
    taken = frames.take(rows)
    places = taken.videos
    names = pa.array([video.filename for video in table.videos], pa.string())
    return [
        names.take(pa.array(places, pa.int64(), mask=places < 0)),
        pa.array(taken.indices, pa.int64(), mask=places < 0),
        pa.array(taken.pts, pa.int64(), mask=taken.pts == NO_PTS),
        pa.array(taken.seconds, pa.float64(), mask=np.isnan(taken.seconds)),
    ]


Column: TypeAlias = "Iterable[str] | NDArray[np.floating] | pa.Array"


def write_csv(path: Path, columns: Mapping[str, Column]) -> None:
    """Write a small table of texts and numbers with a header line."""
    table = pa.table({name: _column(values) for name, values in columns.items()})
    texts = [table[name] for name in table.column_names if pa.types.is_string(table[name].type)]
    quoted = any(_needs_quotes(column) for column in texts)
    _write_csv(path, table.schema, iter(table.to_batches()), quoted=quoted)


def _column(values: Column) -> pa.Array:
    if isinstance(values, np.ndarray | pa.Array):
        return pa.array(values)
    return pa.array(list(values), pa.string())


def _own(table: EmbeddedTable) -> list[str]:
    """Return the properties that have no column of their own."""
    return [name for name in table.properties if name not in ("width", "height")]


def _write_csv(
    path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, quoted: bool
) -> None:
    # Arrow quotes every text or none: only a file that needs quotes gets them.
    style = pv.WriteOptions(
        include_header=False, batch_size=_ROWS, quoting_style="needed" if quoted else "none"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write((",".join(map(_header, schema.names)) + "\n").encode())
        with pv.CSVWriter(file, schema, write_options=style) as writer:
            for batch in batches:
                writer.write_batch(batch)


def _header(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(_CSV_SPECIAL, name) else name


def _needs_quotes(names: Sequence[str] | pa.Array | pa.ChunkedArray) -> bool:
    is_column = isinstance(names, pa.Array | pa.ChunkedArray)
    column = names if is_column else pa.array(names, pa.string())
    return bool(pc.any(pc.match_substring_regex(column, _CSV_SPECIAL)).as_py())


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))
