"""How different the crops of images are from one another: those of the input and of the picks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.embedding_statistics import EmbeddingStatistics, embedding_statistics
from lightly_fs.report.maps import Map, draw_maps
from lightly_fs.report.selection import CropEmbeddings
from lightly_fs.report.statistics import Sets


@dataclass(frozen=True, eq=False)
class CropMap:
    """Crops as points, and their distances.

    Attributes:
        samples: (M,) the candidate that each of the M crops is of.
        sets: Rows of the crops: those of selected images, and those of the random choice of images.
    """

    samples: NDArray[np.int64]
    sets: Sets
    statistics: EmbeddingStatistics
    maps: Sequence[Map]


def crop_map(given: CropEmbeddings, sets: Sets, memory_gb: float) -> CropMap:
    """Return what is told of the crops of a task.

    Args:
        given: The crops of all candidates.
        sets: Rows of the candidates.
        memory_gb: Bounds the matrix of pairwise distances.
    """
    samples = np.asarray(given.samples, np.int64)
    own = Sets(len(samples), _of(samples, sets.selected), _of(samples, sets.random), sets.seed)
    statistics = embedding_statistics(given.vectors, own, memory_gb)
    return CropMap(samples, own, statistics, draw_maps(given.vectors, own))


def _of(samples: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the crops of some candidates: of those that come first, first."""
    order = np.argsort(samples, kind="stable")
    ordered = samples[order]
    starts = np.searchsorted(ordered, rows, side="left")
    ends = np.searchsorted(ordered, rows, side="right")
    places = [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
    found: NDArray[np.int64] = order[np.concatenate([np.empty(0, np.int64), *places])]
    return found
