"""What a run added to a datapool: which gaps the samples fill that it had selected before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.report.statistics import (
    BINS,
    Distribution,
    PoolCover,
    Sets,
    summarise,
)

MAX_FARTHEST = 6


class DatapoolFacts(Protocol):
    """What a run found of its input in a datapool.

    Attributes:
        base: The state that the run began with; 0 for an empty one.
        process_all: It began from scratch.
        known: Files that were processed before and are as they were.
        new: Files that the datapool did not know.
        changed: Files that are others now than those that it knew.
        deleted: Files that it knew and that are no longer there.
        selected_before: Samples that it had selected.
    """

    @property
    def base(self) -> int: ...
    @property
    def process_all(self) -> bool: ...
    @property
    def known(self) -> int: ...
    @property
    def new(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def deleted(self) -> int: ...
    @property
    def selected_before(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Farthest:
    """An added sample, as a row, and what of the datapool is nearest to it; `distance` is L2."""

    row: int
    name: str
    distance: float


@dataclass(frozen=True, eq=False)
class DatapoolReport:
    """How the added samples lie to those that the datapool had selected before.

    Attributes:
        n_before: Samples that the datapool had selected; none of files that changed since.
        added: Distances of the added samples to the nearest of these; over `added_edges`.
        before: Distances of the candidates to what was selected before, over `gap_edges`.
        after: To that and what was added.
        farthest: Added samples that differ most from what was selected before, first the most.
    """

    n_before: int
    added_edges: NDArray[np.float64]
    added: Distribution
    gap_edges: NDArray[np.float64]
    before: Distribution
    after: Distribution
    farthest: Sequence[Farthest]


def datapool_report(
    sets: Sets, earlier: Preselected, gaps: PoolCover | None
) -> DatapoolReport | None:
    """Return what is told of a datapool that had selected something; None of an empty one.

    Args:
        sets: Rows of the candidates.
        earlier: What the datapool had selected, beside the candidates.
        gaps: How far candidates are from that, and from all that is selected now.
    """
    if gaps is None:
        return None
    rows = sets.selected
    distances, places = earlier.distances[rows].astype(np.float64), earlier.nearest[rows]
    first = np.argsort(-distances, kind="stable")[:MAX_FARTHEST].tolist()
    added_edges, gap_edges = _edges(distances), _edges(np.concatenate([gaps.before, gaps.after]))
    return DatapoolReport(
        n_before=len(earlier),
        added_edges=added_edges,
        added=summarise(distances, added_edges),
        gap_edges=gap_edges,
        before=summarise(gaps.before, gap_edges),
        after=summarise(gaps.after, gap_edges),
        farthest=[
            Farthest(int(rows[i]), earlier.filenames[int(places[i])], float(distances[i]))
            for i in first
        ],
    )


def _edges(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges from 0 on: how much of a distance is left is what is read from the charts."""
    highest = float(distances.max()) if len(distances) else 0.0
    return np.linspace(0.0, highest or 1.0, BINS + 1)
