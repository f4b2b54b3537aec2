"""What a datapool has selected already, and how what a run embedded lies to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.datapool.columns import PROPERTY
from lightly_fs.datapool.known import Known
from lightly_fs.datapool.pool import Pool
from lightly_fs.errors import ModelError
from lightly_fs.selection.nearest import covering_distances

_UNIT = 1e-3
"""How far from 1 the length of a vector that was scaled to unit length may be."""


def preselected_beside(table: EmbeddedTable, pool: Pool, known: Known) -> Preselected:
    """Return what a datapool has selected, beside the rows of a table.

    Everything that looks for the nearest of these samples later takes it from here: of a run on a
    large datapool it is most of the work.

    Args:
        table: What the run embedded.
        pool: The datapool, in the state that the run began with.
        known: Leaves out the samples of files that it calls changed: these are decided anew.

    Raises:
        ModelError: One of the two was scaled to unit length, and the other was not.
    """
    names, vectors = pool.selected_vectors(known)
    vectors = vectors if names else table.vectors[:0]
    _check_lengths(pool.uri, vectors, table.vectors)
    distances, nearest = covering_distances(table.vectors, vectors)
    properties = _properties(pool, known, list(table.properties))
    return Preselected(names, vectors, properties, nearest, distances)


def _properties(pool: Pool, known: Known, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return what was measured of the selected samples, NaN where it was not."""
    found = {name: [np.empty(0)] for name in names}
    columns = ["selected", *(PROPERTY + name for name in names)]
    for rows, keep in pool.pieces(columns, known) if names else ():
        rows = rows.filter(pa.array(keep & rows["selected"].to_numpy()))  # noqa: PLW2901
        for name, values in found.items():
            if PROPERTY + name in rows.column_names:
                values.append(pc.fill_null(rows[PROPERTY + name], np.nan).to_numpy())
            else:
                values.append(np.full(len(rows), np.nan))
    return {name: np.concatenate(values) for name, values in found.items()}


def _check_lengths(uri: str, there: NDArray[np.float32], here: NDArray[np.float32]) -> None:
    if not len(there) or not len(here) or is_unit(there) == is_unit(here):
        return
    which = "the datapool's" if is_unit(there) else "this run's"
    raise ModelError(
        f"the embeddings of the datapool `{uri}` and of this run cannot be compared: only "
        f"{which} were scaled to unit length",
        hint="set normalize_embeddings as it was when the datapool was made",
    )


def is_unit(vectors: NDArray[np.float32]) -> bool:
    """Tell whether all (N, D) vectors were scaled to unit length."""
    squared = np.einsum("nd,nd->n", vectors, vectors)
    return bool((np.abs(squared - 1) < _UNIT).all())
