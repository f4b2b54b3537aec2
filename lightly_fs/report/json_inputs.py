"""Metadata and prediction tasks in `report_v2.json`, as a selection by strategies saw them."""

from __future__ import annotations

import math

import numpy as np

from lightly_fs.report.boxes import drawn_objects
from lightly_fs.report.build import Report
from lightly_fs.report.classes import ClassComparison
from lightly_fs.report.json_embeddings import embedding_information
from lightly_fs.report.json_values import Json, classes, comparison, number
from lightly_fs.report.statistics import Comparison
from lightly_fs.report.strategies import StrategyReport
from lightly_fs.report.tasks import TaskStatistics

PROBABILITY_TOLERANCE = 0.02
"""By how much probabilities of an object may miss a sum of 1, as they are read."""
_METADATA, _MEASURED, _CROPS_OF = "METADATA ", "lightly.", "EMBEDDINGS "


def metadata(report: Report) -> Json:
    """Return a `MetadataInformation`: what is measured, and the inputs that are not."""
    measured = dict(report.properties)
    numeric: dict[str, Comparison] = {}
    categorical: dict[str, ClassComparison] = {}
    if report.strategies is not None:
        for title, values in report.strategies.numbers.items():
            key = title.removeprefix(_METADATA)
            if key.startswith(_MEASURED):
                measured.setdefault(key.removeprefix(_MEASURED), values)
            else:
                numeric[key] = values
        for title, labels in report.strategies.labels.items():
            categorical[title.removeprefix(_METADATA)] = labels
    return {
        "lightlyNumeric": {name: comparison(values) for name, values in measured.items()},
        "customNumeric": {title: comparison(values) for title, values in numeric.items()},
        "customCategorical": {title: classes(values) for title, values in categorical.items()},
    }


def prediction_tasks(report: Report) -> Json:
    """Return the `PredictionTaskInformation` of each task."""
    made = report.strategies
    if made is None:
        return {}
    return {task: _task(report, made, task, each) for task, each in made.tasks.items()}


def _task(report: Report, made: StrategyReport, task: str, each: TaskStatistics) -> Json:
    schema = each.predictions.schema
    information: Json = {
        "taskType": schema.task_type.value,
        "categoryIdToName": {str(category.id): category.name for category in schema.categories},
        "activeLearningScoreDistributions": {
            name: comparison(values) for name, values in each.scores.items()
        },
        "categoryDistribution": classes(each.classes),
        "categoryToCountsPerSample": {
            name: comparison(values) for name, values in each.counts.items()
        },
    }
    if each.confidences is not None:
        information["predictionScoreDistribution"] = comparison(each.confidences)
    examples = [_frame(report, made, task, row) for row in made.examples.get(task, ())]
    crops = made.crop_maps.get(f"{_CROPS_OF}{task}")
    if examples or crops is not None:
        information["detectionTaskInformation"] = {"bboxExamples": examples}
    if crops is not None:
        names, samples = report.given.filenames, crops.samples
        information["detectionTaskInformation"]["cropEmbeddingInformation"] = embedding_information(
            crops.statistics, crops.maps, crops.sets, lambda row: names[int(samples[row])]
        )
    information["categoryToImageWithCategoryCount"] = classes(each.images)
    return information


def _frame(report: Report, made: StrategyReport, task: str, row: int) -> Json:
    """Return a `DetectionFramePrediction`: the objects that are drawn and have a confidence."""
    predictions, sizes = made.facts.predictions[task], made.facts.sizes
    assert sizes is not None  # noqa: S101 - without them nothing is drawn
    size = (int(sizes[row, 0]), int(sizes[row, 1]))
    objects = []
    for place, box in drawn_objects(predictions, row, size):
        score = float(predictions.scores[place])
        if math.isnan(score):
            continue
        category = predictions.schema.categories[int(predictions.categories[place])]
        one: Json = {
            "categoryId": category.id,
            "bbox": [number(value) for value in box],
            "score": number(score),
        }
        given = int(np.searchsorted(predictions.probability_rows, place))
        if place in predictions.probability_rows[given : given + 1]:
            one["probabilities"] = list(map(number, predictions.probabilities[given].tolist()))
        objects.append(one | {"epsilon": PROBABILITY_TOLERANCE})
    return {"filename": report.given.filenames[row], "predictions": objects}
