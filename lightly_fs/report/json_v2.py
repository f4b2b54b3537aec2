"""`report_v2.json`: the schema `ReportV2` of the published client, field by field.

`datasetAnalysis` holds nothing of the run itself (no times, no paths of ours): a resumed run writes
the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs import __version__
from lightly_fs.report.build import Map, Report
from lightly_fs.report.statistics import Comparison, Distribution

Json = dict[str, Any]


def render_json(report: Report) -> str:
    """Return the document as text; keys in the schema's order, six significant digits."""
    document = {
        "generalInformation": _general(report),
        "datasetAnalysis": _analysis(report),
        "predictionTaskInformation": {},
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n"


def _number(value: float) -> float:
    return float(f"{value:.6g}")


def _general(report: Report) -> Json:
    given = report.given
    facts, counts, names = given.facts, given.counts, given.filenames
    return {
        "workerInformation": {"buildTime": "", "buildVersion": f"lightly-fs {__version__}"},
        "runInformation": {
            "startTimestamp": facts.started,
            "endTimestamp": facts.finished,
            "totalProcessingTimeS": _number(facts.finished - facts.started),
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
                "costSavings": _number(saved.dollars),
                "co2Savings": _number(saved.kilograms_co2),
            }
            for key, saved in report.savings.items()
        },
        "selectedAndRemovedImageExamples": [
            {
                "selectedImage": names[pair.selected],
                "removedImage": names[pair.removed],
                "distance": _number(pair.distance),
            }
            for pair in report.pairs
        ],
    }


def _analysis(report: Report) -> Json:
    statistics = report.statistics
    return {
        "embeddingInformation": {
            "distanceToNearestNeighborInSet": _comparison(statistics.neighbour),
            "distanceToCoverInput": _comparison(statistics.covering),
            "scatterPlotData": {
                "pcaEmbeddingData": _map(report, 0),
                "umapEmbeddingData": _map(report, 1),
            },
        },
        "metadataInformation": {
            "lightlyNumeric": {
                name: _comparison(values) for name, values in report.properties.items()
            },
            "customNumeric": {},
            "customCategorical": {},
        },
    }


def _comparison(compared: Comparison) -> Json:
    distributions = {
        "input": compared.input,
        "selected": compared.selected,
        "random": compared.random,
    }
    return {
        "bins": len(compared.edges) - 1,
        "range": [_number(compared.edges[0]), _number(compared.edges[-1])],
    } | {name: _distribution(made) for name, made in distributions.items() if made is not None}


def _distribution(made: Distribution) -> Json:
    return {
        "counts": made.counts.tolist(),
        "metrics": {
            name: _number(getattr(made, name)) for name in ("mean", "std", "min", "median", "max")
        },
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
    return [[_number(x), _number(y)] for x, y in points.tolist()]
