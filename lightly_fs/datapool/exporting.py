"""The samples of a datapool as one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightly_fs.artifacts.embeddings_csv import VIDEO
from lightly_fs.artifacts.lists import write_list
from lightly_fs.artifacts.tables import write_embeddings_csv
from lightly_fs.datapool.columns import SAMPLE_ROWS, PoolRows
from lightly_fs.datapool.pool import Pool
from lightly_fs.types import frame_of


def export_pool(pool: Pool, path: Path, format_: str, *, selected_only: bool) -> int:
    """Write the samples that count, in the order in which they were added; return how many.

    Args:
        path: The file.
        format_: `csv` (`selected`, 0 or 1, before the labels, which are all 0; behind them `video`
            where a name is that of a frame), `parquet` (all columns) or `filenames`.
        selected_only: Leave out what was seen only.
    """
    if format_ == "csv":
        rows = pool.selected() if selected_only else pool.samples()
        _write_csv(path, rows)
        return len(rows.table)
    columns = ["filename", "selected"] if format_ == "filenames" else None
    tables = [SAMPLE_ROWS.empty_table().select(columns or SAMPLE_ROWS.names)]
    for table, keep in pool.pieces(columns):
        mask = keep & table["selected"].to_numpy() if selected_only else keep
        tables.append(table.filter(pa.array(mask)))
    whole = pa.concat_tables(tables, promote_options="default")
    if format_ == "filenames":
        write_list(path, whole["filename"].to_pylist())
    else:
        pq.write_table(whole, path, compression="zstd", use_dictionary=False)
    return int(whole.num_rows)


def _write_csv(path: Path, rows: PoolRows) -> None:
    every = np.arange(len(rows.table), dtype=np.int64)
    texts = {}
    if any(frame_of(name) is not None for name in rows.table.filenames):
        # An image may be called as a frame is.
        texts[VIDEO] = rows.frames["video"].combine_chunks()
    marks = {"selected": rows.selected.astype(np.float64)}
    write_embeddings_csv(path, rows.table, every, marks, texts)
