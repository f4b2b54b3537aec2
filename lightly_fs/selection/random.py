"""`random`: samples in an order drawn by the seed, the baseline that a method has to beat.

The place of a sample depends on the seed and its filename alone. So a larger selection begins with
the smaller one, other threads or a reordered input change nothing, and new files leave the order of
the old ones as it is. With `min_distance`, samples nearer than that to a selected one are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.distances import in_lanes, is_small, squared_distances
from lightly_fs.selection.nearest import Nearest
from lightly_fs.types import Progress, Selection, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.candidates import Candidates

ROWS_AT_ONCE = 256


def select(candidates: Candidates, *, seed: int, progress: Progress) -> Selection:
    """Select in the order of `hash(seed, filename)`."""
    order = _order(candidates, seed)
    count = len(candidates.preselected)
    vectors = np.empty((count + candidates.limit, candidates.vectors.shape[1]), np.float32)
    vectors[:count] = candidates.preselected
    nearest = Nearest(compiled=not is_small(candidates.vectors, len(vectors)))
    rows: list[int] = []
    squared: list[float] = []
    for start in range(0, len(order), ROWS_AT_ONCE):
        if len(rows) == candidates.limit:
            break
        block = order[start : start + ROWS_AT_ONCE]
        best, _ = nearest.squared(candidates.vectors[block], vectors[: count + len(rows)])
        room = candidates.limit - len(rows)
        places = _accept(candidates.vectors[block], best, candidates.min_distance, room)
        added = block[places]
        vectors[count + len(rows) :][: len(added)] = candidates.vectors[added]
        rows.extend(added.tolist())
        squared.extend(best[places].tolist())
        progress(Stage.SELECT, len(rows), candidates.limit)
    return candidates.selection(np.array(rows, np.int64), np.array(squared, np.float64))


def _order(candidates: Candidates, seed: int) -> NDArray[np.int64]:
    """Return the rows by the hash of seed and filename."""
    key = str(seed).encode()
    ranks = [
        blake2b(os.fsencode(n), key=key, digest_size=16).digest() for n in candidates.filenames
    ]
    return np.array(sorted(range(len(ranks)), key=ranks.__getitem__), np.int64)


def _accept(
    vectors: NDArray[np.float32], best: NDArray[np.float64], min_distance: float, room: int
) -> list[int]:
    """Return the places that are selected in turn; `best` is brought up to date on the way."""
    lanes = in_lanes(vectors)
    places: list[int] = []
    for place, vector in enumerate(vectors):
        if len(places) == room:
            break
        if np.sqrt(best[place]) < min_distance:
            continue
        places.append(place)
        later = best[place + 1 :]
        np.minimum(later, squared_distances(lanes[:, :, place + 1 :], vector), out=later)
    return places


def random_numbers(filenames: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Return (N,) numbers in [0, 1), a `Numeric` input: `WEIGHTS` of them picks as `random` does.

    They depend on the seed and the filename alone.
    """
    key = str(seed).encode()
    ranks = (blake2b(os.fsencode(n), key=key, digest_size=16).digest() for n in filenames)
    largest = 2**53 - 1
    numbers = [(largest - (int.from_bytes(rank[:7]) >> 3)) * 2.0**-53 for rank in ranks]
    return np.array(numbers, np.float64)
