"""A column of vectors: lists of numbers in memory, their bytes in files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

COLUMN = "vector"


def vector_column(vectors: NDArray[np.float32]) -> tuple[pa.Field, pa.Array]:
    """Return (N, D) vectors as a column of fixed-size lists."""
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    return _lists(pa.array(flat), vectors.shape[1])


def vectors_of(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return a column of vectors as (N, D) float32, without a copy where it is in one piece."""
    dimensions = column.type.list_size
    if column.num_chunks == 0:
        return np.empty((0, dimensions), np.float32)
    pieces = [one.flatten().to_numpy().reshape(-1, dimensions) for one in column.chunks]
    whole: NDArray[np.float32] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return whole


def packed(table: pa.Table) -> pa.Table:
    """Return a table whose vectors are little-endian bytes: Parquet reads lists number by number.

    That takes ten times as long.
    """
    if COLUMN not in table.column_names:
        return table
    rows = vectors_of(table[COLUMN])
    kind = pa.binary(rows.shape[1] * rows.itemsize)
    data = pa.py_buffer(np.ascontiguousarray(rows))
    column = pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, data])
    return _replaced(table, pa.field(COLUMN, kind, nullable=False), column)


def unpacked(table: pa.Table) -> pa.Table:
    """Return what `packed` made of a table, without a copy; a table that it did not make as is."""
    if COLUMN not in table.column_names or not pa.types.is_fixed_size_binary(table[COLUMN].type):
        return table
    dimensions = table[COLUMN].type.byte_width // 4
    chunks = []
    for one in table[COLUMN].chunks:
        numbers = pa.Array.from_buffers(
            pa.float32(),
            len(one) * dimensions,
            [None, one.buffers()[1]],
            offset=one.offset * dimensions,
        )
        chunks.append(_lists(numbers, dimensions)[1])
    field, _ = _lists(pa.array([], pa.float32()), dimensions)
    return _replaced(table, field, pa.chunked_array(chunks, field.type))


def _lists(numbers: pa.Array, dimensions: int) -> tuple[pa.Field, pa.Array]:
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), dimensions)
    values = pa.FixedSizeListArray.from_arrays(numbers, type=kind)
    return pa.field(COLUMN, kind, nullable=False), values


def _replaced(table: pa.Table, field: pa.Field, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(COLUMN), field, column)
