"""Near duplicates as groups, and which crops a report shows of the selected images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.selection import CropFacts, NearDuplicates


@dataclass(frozen=True, eq=False)
class Group:
    """An image that stands for others: (M,) `members`, nearest first, and their distances."""

    original: int
    members: NDArray[np.int64]
    distances: NDArray[np.float64]


def near_duplicate_groups(given: NearDuplicates | None) -> list[Group]:
    """Return the groups, the largest first, then by the row of the image that stands for it."""
    if given is None or not len(given[0]):
        return []
    rows, originals, distances = (np.asarray(part) for part in given)
    order = np.lexsort((rows, distances, originals))
    firsts = np.flatnonzero(np.diff(originals[order], prepend=-1))
    groups = [
        Group(int(originals[part[0]]), rows[part].astype(np.int64), distances[part].astype(float))
        for part in np.split(order, firsts[1:])
    ]
    return sorted(groups, key=lambda group: (-len(group.members), group.original))


def choose_crops(given: CropFacts, selected: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return up to `n` places in the crops: of the first selected images, one of each at first."""
    rank = {int(row): place for place, row in enumerate(selected)}
    taken: dict[int, int] = {}
    keys = []
    for place, sample in enumerate(given.samples.tolist()):
        if sample in rank:
            keys.append((taken.setdefault(sample, 0), rank[sample], place))
            taken[sample] += 1
    return np.array([place for *_, place in sorted(keys)[:n]], np.int64)
