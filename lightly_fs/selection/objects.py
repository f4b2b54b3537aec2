"""From the objects of each candidate to the candidate: the largest of their values, or the mean.

Candidate i has the rows `offsets[i]` to `offsets[i + 1]`, which may be none: it is worth 0 then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lightly_fs.selection.pool import members_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)


def largest_of(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (N,) largest of each candidate's non-negative values; 0 without any."""
    result = np.zeros(len(offsets) - 1)
    some = offsets[1:] > offsets[:-1]
    if len(values):  # a segment ends where the next that holds something begins
        result[some] = np.maximum.reduceat(values, offsets[:-1][some])
    return result


def mean_of(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (N,) mean of each candidate's values, summed in their order; 0 without any."""
    counts = np.diff(offsets)
    sums = np.bincount(np.repeat(np.arange(len(counts)), counts), values, len(counts))
    means: NDArray[np.float64] = sums / np.maximum(counts, 1)
    return means


@dataclass(frozen=True, eq=False)
class Ownership:
    """Rows that stand for candidates: their M objects, then one row for each without objects.

    Attributes:
        owners: (R,) int64 candidate of each row.
        offsets: (N + 1,) int64 objects of each candidate.
        single: Whether every candidate is its own and only object.
    """

    owners: NDArray[np.int64]
    offsets: NDArray[np.int64]
    single: bool

    def spread(self, values: NDArray[_Value]) -> NDArray[_Value]:
        """Return (R,) the values of the rows' candidates, given (N,)."""
        return values if self.single else values[self.owners]

    def has_objects(self, candidate: int) -> bool:
        return bool(self.offsets[candidate + 1] > self.offsets[candidate])

    def rows(self, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all rows of the candidates."""
        if self.single:
            return candidates
        members, _ = members_of(self.offsets, candidates)
        n_objects = int(self.offsets[-1])
        empty = candidates[self.offsets[candidates + 1] == self.offsets[candidates]]
        return np.concatenate([members, n_objects + self.owners[n_objects:].searchsorted(empty)])


def ownership(count: int, offsets: NDArray[np.int64] | None) -> Ownership:
    """Return who owns which row, of `count` candidates; without offsets, each its own."""
    if offsets is None:
        return Ownership(np.arange(count), np.arange(count + 1), single=True)
    counts = np.diff(offsets)
    owned = np.repeat(np.arange(count), counts)
    return Ownership(np.concatenate([owned, np.flatnonzero(counts == 0)]), offsets, single=False)
