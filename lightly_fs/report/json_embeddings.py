"""Embeddings in `report_v2.json`: distances within and between sets, and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.embedding_statistics import EmbeddingStatistics
from lightly_fs.report.json_values import Json, comparison, number
from lightly_fs.report.maps import Map
from lightly_fs.report.statistics import Sets


def embedding_information(
    statistics: EmbeddingStatistics,
    maps: Sequence[Map],
    sets: Sets,
    filename: Callable[[int], str],
) -> Json:
    """Return an `EmbeddingInformation`.

    Args:
        statistics: Distances of images, or of crops.
        maps: The PCA map and the map of neighbourhoods; none where there is nothing to show.
        sets: Rows of what is on the maps.
        filename: Returns the image that a row is, or is of.
    """
    first, second = (_map(drawn, sets, filename) for drawn in (maps or (None, None)))
    return {
        "distanceToNearestNeighborInSet": comparison(statistics.neighbour),
        "distanceToCoverInput": comparison(statistics.covering),
        "scatterPlotData": {"pcaEmbeddingData": first, "umapEmbeddingData": second},
    }


def _map(drawn: Map | None, sets: Sets, filename: Callable[[int], str]) -> Json:
    if drawn is None:
        return {
            "input2dEmbeddings": [],
            "selectedExcludingDatapool2dEmbeddings": [],
            "exampleImages": [],
        }
    chosen = np.isin(drawn.rows, sets.selected)
    places = drawn.points[np.searchsorted(drawn.rows, drawn.examples)]
    return {
        "input2dEmbeddings": _points(drawn.points),
        **({"datapool2dEmbeddings": _points(drawn.earlier)} if len(drawn.earlier) else {}),
        "selectedExcludingDatapool2dEmbeddings": _points(drawn.points[chosen]),
        "exampleImages": [
            {"location": place, "filename": filename(row)}
            for place, row in zip(_points(places), drawn.examples.tolist(), strict=True)
        ],
    }


def _points(points: NDArray[np.float32]) -> list[list[float]]:
    return [[number(x), number(y)] for x, y in points.tolist()]
