"""Which samples to keep: one file per method, named in `METHODS`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

import numpy as np

from lightly_fs.config.run import CoresetMethod
from lightly_fs.errors import ModelError
from lightly_fs.selection import diversity, random
from lightly_fs.selection.candidates import Candidates
from lightly_fs.types import Progress, Selection, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray


_LARGEST = 1e15
"""Squares of larger values, summed, may overflow float32."""


class _Method(Protocol):
    def __call__(self, candidates: Candidates, *, seed: int, progress: Progress) -> Selection: ...


METHODS: dict[CoresetMethod, _Method] = {
    CoresetMethod.CORESET: diversity.select,
    CoresetMethod.RANDOM: random.select,
}


class StopAt(TypedDict):
    """The stopping conditions; None for no limit."""

    n_samples: int | None
    min_distance: float | None


def select(
    vectors: NDArray[np.float32],
    *,
    method: CoresetMethod,
    seed: int,
    filenames: Sequence[str],
    preselected: NDArray[np.float32] | None = None,
    progress: Progress = silent,
    **stop_at: Unpack[StopAt],
) -> Selection:
    """Choose candidates until the first stopping condition is met.

    The result depends on the set of candidates alone, not on their order, threads or processor.

    Args:
        vectors: (N, D) float32, finite.
        method: `coreset` (farthest first) or `random`.
        seed: Decides the order of `random`; `coreset` needs none.
        filenames: N unique names; ties go to the first in code point order (that of UTF-8).
        preselected: (P, D) samples that are selected already; they are not returned.
        progress: Called about twice a second.
        stop_at: `n_samples`, at most this many; `min_distance`, the smallest L2 distance between
            two selected samples. Both are required, None for no limit.
    """
    order = _name_order(filenames)
    _check(vectors, filenames)
    _check(preselected, None)
    n_samples, min_distance = stop_at["n_samples"], stop_at["min_distance"]
    candidates = Candidates(
        vectors=np.ascontiguousarray(vectors if order is None else vectors[order], np.float32),
        filenames=filenames if order is None else [filenames[row] for row in order],
        preselected=np.ascontiguousarray(
            np.empty((0, vectors.shape[1])) if preselected is None else preselected, np.float32
        ),
        limit=len(filenames) if n_samples is None else min(n_samples, len(filenames)),
        min_distance=min_distance or 0.0,
    )
    chosen = METHODS[method](candidates, seed=seed, progress=progress)
    if order is None:
        return chosen
    return Selection(order[chosen.indices], chosen.distances, chosen.stopped_by)


def _name_order(filenames: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the rows in order of their names, or None when they are (as in an inventory)."""
    if all(first < second for first, second in pairwise(filenames)):
        return None
    return np.array(sorted(range(len(filenames)), key=filenames.__getitem__), np.int64)


def _check(vectors: NDArray[np.float32] | None, filenames: Sequence[str] | None) -> None:
    if vectors is None:
        return
    for start in range(0, len(vectors), 65_536):
        block = vectors[start : start + 65_536]
        if not block.size or -_LARGEST < block.min() <= block.max() < _LARGEST:  # false for NaN
            continue
        row = start + int(np.flatnonzero(~(np.abs(block) < _LARGEST).all(axis=1))[0])
        name = f"of {filenames[row]!r}" if filenames is not None else f"{row} of the preselected"
        raise ModelError(
            f"the embedding {name} holds a value that is not a number below {_LARGEST:.0e}",
            hint="embed again with another `model` or `runtime=torch`",
        )
