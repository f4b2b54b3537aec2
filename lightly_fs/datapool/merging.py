"""Many small parts of a datapool become one with the next update, so that opening stays fast.

The parts that were merged are left as they are: earlier states are made of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.datapool.columns import file_of
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.state import State

_MANY = 32
"""So many small updates in a row are merged."""
_SMALL_BYTES = 8 << 20
"""Up to so much an update is small: the embeddings of some 10,000 images."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a state adds: samples and their files, as `columns` describes them."""

    samples: pa.Table
    files: pa.Table


def merge(base: Pool, rows: Rows) -> tuple[State, Rows]:
    """Return what a next state keeps of a pool's parts, and all that it has to write.

    Only the last parts are merged, so that samples stay in the order in which they were added.
    With a file's row go all of its samples, and both get the number of the next state.

    Args:
        base: The pool.
        rows: What the next state brings. What it replaces in the pool is not written again.
    """
    first = _first_small(base.state)
    if first is None:
        return base.state, rows
    replaced = rows.files["filename"]
    samples = [
        table.filter(pa.array(keep & ~pc.is_in(file_of(table), value_set=replaced).to_numpy()))
        for table, keep in base.pieces(None, since=first)
    ]
    files = base.files.filter(pc.greater_equal(base.files["number"], first))
    last = pc.index_in(files["filename"], value_set=files["filename"])
    is_last = pc.equal(last, pa.array(np.arange(len(files), dtype=np.int32)))
    stays = pc.and_not(is_last, pc.is_in(files["filename"], value_set=replaced))
    files = files.filter(stays).drop_columns(["number"])
    kept = replace(
        base.state,
        samples=tuple(part for part in base.state.samples if part.number < first),
        files=tuple(part for part in base.state.files if part.number < first),
    )
    return kept, Rows(
        pa.concat_tables([*samples, rows.samples], promote_options="default"),
        pa.concat_tables([files, rows.files]),
    )


def _first_small(state: State) -> int | None:
    """Return from which number on all parts are small, when they are many; else None."""
    sizes: dict[int, int] = {}
    for part in state.parts:
        sizes[part.number] = sizes.get(part.number, 0) + part.size
    small = list(
        takewhile(lambda number: sizes[number] <= _SMALL_BYTES, sorted(sizes, reverse=True))
    )
    return small[-1] if len(small) >= _MANY else None
