"""Which files of an inventory a datapool knows, and whether they are still what it saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.datasource.inventory import Inventory
from lightly_fs.types import Outcome

AGAIN = (Outcome.FAILED.value, Outcome.GONE.value, Outcome.UNREADABLE.value)
"""Outcomes that are no result: the next run tries such a file again."""
_SECOND = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Known:
    """An inventory beside a datapool.

    Attributes:
        new: (N,) int64 rows of the inventory, ascending, that the pool does not know.
        changed: (C,) int64 rows whose content is another now, or of which a run could read only
            a part; what the pool holds of them is replaced by the next update.
        known: (K,) int64 the other rows.
        deleted: Remembered files that are not in the inventory.
    """

    inventory: Inventory
    new: NDArray[np.int64]
    changed: NDArray[np.int64]
    known: NDArray[np.int64]
    deleted: list[str]

    @property
    def to_process(self) -> NDArray[np.int64]:
        """Return the rows that a run has to read, ascending."""
        return np.sort(np.concatenate([self.new, self.changed]))

    @property
    def changed_files(self) -> pa.ChunkedArray:
        return self.inventory.table["filename"].take(pa.array(self.changed))


def split(inventory: Inventory, files: pa.Table) -> Known:
    """Compare an inventory with what is remembered.

    Args:
        files: Rows of files, those of later states first; the first row of a name counts.
    """
    listed = inventory.table
    at = pc.index_in(listed["filename"], value_set=files["filename"])
    there = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False)).astype(np.int64)
    rows = pc.drop_null(at).to_numpy(zero_copy_only=False).astype(np.int64)
    again = _differs(listed.take(pa.array(there)), files.take(pa.array(rows)))
    is_new = np.ones(len(listed), dtype=bool)
    is_new[there] = False
    return Known(
        inventory=inventory,
        new=np.flatnonzero(is_new).astype(np.int64),
        changed=there[again],
        known=there[~again],
        deleted=_deleted(files, rows, listed["filename"]),
    )


def _differs(now: pa.Table, then: pa.Table) -> NDArray[np.bool_]:
    """Tell for each file whether it is another than the one remembered, or was not finished.

    ETags decide where both are known; the time of change otherwise, to the second when one of
    the two listings was made through a mount. A file of which only the name is known is the same.
    """
    etag_decides = pc.and_(now["etag"].is_valid(), then["etag"].is_valid())
    one_etag = pc.xor(now["etag"].is_valid(), then["etag"].is_valid())
    exact = pc.not_equal(now["mtime_ns"], then["mtime_ns"])
    rough = pc.not_equal(pc.divide(now["mtime_ns"], _SECOND), pc.divide(then["mtime_ns"], _SECOND))
    by_time = pc.if_else(one_etag, rough, exact)
    other = pc.if_else(etag_decides, pc.not_equal(now["etag"], then["etag"]), by_time)
    other = pc.or_(pc.fill_null(other, False), _other_size(now, then))  # noqa: FBT003
    other = pc.or_(other, pc.is_in(then["outcome"], value_set=pa.array(AGAIN)))
    found: NDArray[np.bool_] = other.to_numpy()
    return found


def _other_size(now: pa.Table, then: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(now["size"], then["size"]), False)  # noqa: FBT003


def _deleted(files: pa.Table, found: NDArray[np.int64], listed: pa.ChunkedArray) -> list[str]:
    missing = np.ones(len(files), dtype=bool)
    missing[found] = False
    names = files["filename"].filter(pa.array(missing))
    if not len(names):
        return []
    # An earlier row of a file that is there is also missing among the found ones.
    gone: list[str] = pc.unique(
        names.filter(pc.invert(pc.is_in(names, value_set=listed)))
    ).to_pylist()
    return sorted(gone, key=str.encode)
