"""Which samples to keep: `select` by one method (`METHODS`), `choose.choose` by strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

import numpy as np

from lightly_fs.config.run import CoresetMethod
from lightly_fs.selection import diversity, random
from lightly_fs.selection.candidates import Candidates
from lightly_fs.selection.pool import check_vectors, name_order
from lightly_fs.types import Progress, Selection, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    order = name_order(filenames)
    check_vectors(vectors, filenames)
    check_vectors(preselected, None)
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
