"""`report_v2.json`: the schema `ReportV2` of the published client, field by field.

`datasetAnalysis` holds nothing of the run itself (no times, no paths of ours): a resumed run writes
the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from lightly_fs import __version__
from lightly_fs.report.build import Map, Report
from lightly_fs.report.json_inputs import metadata, prediction_tasks
from lightly_fs.report.json_values import Json, comparison, number


def render_json(report: Report) -> str:
    """Return the document as text; keys in the schema's order, six significant digits."""
    document = {
        "generalInformation": _general(report),
        "datasetAnalysis": _analysis(report),
        "predictionTaskInformation": prediction_tasks(report),
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


def _general(report: Report) -> Json:
    given = report.given
    facts, counts, names = given.facts, given.counts, given.filenames
    return {
        "workerInformation": {"buildTime": "", "buildVersion": f"lightly-fs {__version__}"},
        "runInformation": {
            "startTimestamp": facts.started,
            "endTimestamp": facts.finished,
            "totalProcessingTimeS": number(facts.finished - facts.started),
            "runId": facts.run_id,
            "runUrl": "",
        },
        "datasetInformation": {
            "datasetSizes": {
                "nInput": counts.inventory,
                "nCorrupt": counts.corrupt,
                "nDuplicate": counts.duplicate,
                "nRemoved": counts.removed,
                "nSelected": counts.selected,
                "nPreselectedDatapool": 0,
                "nSelectedWithDatapool": counts.selected,
            },
            "datasetId": "",
            "datasetUrl": facts.input_uri,
            "datasetName": facts.input_uri.rstrip("/").rsplit("/", 1)[-1],
        },
        "annotationSavings": {
            key: {
                "costSavings": number(saved.dollars),
                "co2Savings": number(saved.kilograms_co2),
            }
            for key, saved in report.savings.items()
        },
        "selectedAndRemovedImageExamples": [
            {
                "selectedImage": names[pair.selected],
                "removedImage": names[pair.removed],
                "distance": number(pair.distance),
            }
            for pair in report.pairs
        ],
    }


def _analysis(report: Report) -> Json:
    statistics = report.statistics
    return {
        "embeddingInformation": {
            "distanceToNearestNeighborInSet": comparison(statistics.neighbour),
            "distanceToCoverInput": comparison(statistics.covering),
            "scatterPlotData": {
                "pcaEmbeddingData": _map(report, 0),
                "umapEmbeddingData": _map(report, 1),
            },
        },
        "metadataInformation": metadata(report),
    }


def _map(report: Report, index: int) -> Json:
    if not report.maps:
        return {
            "input2dEmbeddings": [],
            "selectedExcludingDatapool2dEmbeddings": [],
            "exampleImages": [],
        }
    drawn: Map = report.maps[index]
    chosen = np.isin(drawn.rows, report.sets.selected)
    places = drawn.points[np.searchsorted(drawn.rows, drawn.examples)]
    return {
        "input2dEmbeddings": _points(drawn.points),
        "selectedExcludingDatapool2dEmbeddings": _points(drawn.points[chosen]),
        "exampleImages": [
            {"location": place, "filename": report.given.filenames[row]}
            for place, row in zip(_points(places), drawn.examples.tolist(), strict=True)
        ],
    }


def _points(points: NDArray[np.float32]) -> list[list[float]]:
    return [[number(x), number(y)] for x, y in points.tolist()]
