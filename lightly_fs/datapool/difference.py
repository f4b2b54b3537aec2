"""What differs between two states of a datapool."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.datapool.pool import Pool


@dataclass(frozen=True)
class Difference:
    """Filenames of samples by what became of them, each list in the order of the pool.

    Attributes:
        added: In the second state only.
        removed: In the first state only.
        replaced: In both, with other content.
        selected: Selected in the second state, and not in the first.
        deselected: The other way round.
    """

    added: list[str]
    removed: list[str]
    replaced: list[str]
    selected: list[str]
    deselected: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def difference(first: Pool, second: Pool) -> Difference:
    """Compare two states of a pool."""
    columns = ["filename", "content_hash", "selected"]
    old, new = first.rows(columns), second.rows(columns)
    at = pc.index_in(new["filename"], value_set=old["filename"])
    before = old.take(at)
    same = pc.equal(new["content_hash"], before["content_hash"])
    stayed = pc.is_in(old["filename"], value_set=new["filename"]).to_numpy()
    was_selected = _known(before["selected"])
    is_selected = new["selected"].to_numpy()
    of_old = new.take(pc.index_in(old["filename"], value_set=new["filename"]))
    return Difference(
        added=_names(new, before["selected"].is_null().to_numpy()),
        removed=_names(old, ~stayed),
        replaced=_names(new, ~_known(pc.fill_null(same, True))),  # noqa: FBT003
        selected=_names(new, is_selected & ~was_selected),
        deselected=_names(old, old["selected"].to_numpy() & ~_known(of_old["selected"])),
    )


def _known(mask: pa.ChunkedArray) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy()  # noqa: FBT003
    return values


def _names(rows: pa.Table, mask: NDArray[np.bool_]) -> list[str]:
    names: list[str] = rows["filename"].filter(pa.array(mask)).to_pylist()
    return names
