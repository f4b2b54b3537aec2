"""Active-learning scores: how much a model has to learn from a sample, from its predictions.

A score is 0 where there is nothing to score: without a prediction, or without an object.
Uncertainty needs `probabilities`; where a task gives none, these scores do not exist, because a
confidence alone does not say how the rest is spread over the other classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.tasks import TaskType
from lightly_fs.errors import ConfigError

Scores = dict[str, NDArray[np.float64]]

FREQUENCY_PENALTY = 0.25
MIN_SCORE = 0.9
UNCERTAINTIES = ("uncertainty_least_confidence", "uncertainty_margin", "uncertainty_entropy")


def active_learning_scores(
    predictions: Predictions,
    *,
    frequency_penalty: float = FREQUENCY_PENALTY,
    min_score: float = MIN_SCORE,
) -> Scores:
    """Compute every score of a task.

    Args:
        predictions: Of N samples.
        frequency_penalty: What a further object of the same class counts in `object_frequency`.
        min_score: The smallest `object_frequency`.

    Returns:
        (N,) float64, 0 to 1, by name; higher is to be preferred. Which there are depends on the
        task's type and on whether it gives probabilities.
    """
    scores = SCORERS[predictions.schema.task_type](predictions)
    if predictions.schema.task_type in _WITH_OBJECTS:
        scores["object_frequency"] = object_frequency(
            predictions, frequency_penalty=frequency_penalty, min_score=min_score
        )
    return scores


def score_named(predictions: Predictions, name: str) -> NDArray[np.float64]:
    """Return one score of a task, (N,) float64.

    Raises:
        ConfigError: The task has no such score.
    """
    scores = active_learning_scores(predictions)
    if name in scores:
        return scores[name]
    task = f"the task `{predictions.schema.name}` ({predictions.schema.task_type})"
    lacks = name in UNCERTAINTIES and not len(predictions.probability_rows)
    reason = ": its predictions have no `probabilities`" if lacks else ""
    raise ConfigError(
        f"{task} has no score `{name}`{reason}",
        hint="Its scores: " + (", ".join(sorted(scores)) or "none"),
    )


def uncertainties(probabilities: NDArray[np.float64]) -> Scores:
    """Compute the three uncertainties of class vectors, scaled to 0 (one-hot) … 1 (uniform).

    `uncertainty_least_confidence` is 1 - p1, `uncertainty_margin` 1 - (p1 - p2) and
    `uncertainty_entropy` the entropy, p1 and p2 being the two largest probabilities.

    Args:
        probabilities: (P, C), rows that add up to 1; with C = 1, p and 1 - p of a binary class.

    Returns:
        (P,) float64 by name.
    """
    if probabilities.shape[1] == 1:
        probabilities = np.concatenate((probabilities, 1 - probabilities), axis=1)
    n_classes = probabilities.shape[1]
    largest = np.partition(probabilities, -2, axis=1)[:, -2:]
    logs = np.log2(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    least = (1 - largest[:, 1]) / (1 - 1 / n_classes)
    margin = 1 - (largest[:, 1] - largest[:, 0])
    entropy = -(probabilities * logs).sum(axis=1) / np.log2(n_classes)
    values = (np.clip(one, 0, 1) for one in (least, margin, entropy))
    return dict(zip(UNCERTAINTIES, values, strict=True))


def object_frequency(
    predictions: Predictions, *, frequency_penalty: float, min_score: float
) -> NDArray[np.float64]:
    """Prefer samples with many objects of many classes.

    A class counts 1 + penalty x (objects - 1); the sums are mapped from their smallest and
    largest over all samples to `min_score` … 1 (all 1 when they are the same).
    """
    n_categories = len(predictions.schema.categories)
    cells = predictions.samples * n_categories + predictions.categories
    present, counts = np.unique(cells, return_counts=True)
    values = 1 + frequency_penalty * (counts - 1)
    sums = np.bincount(present // n_categories, values, minlength=len(predictions))
    if not len(sums) or sums.min() == sums.max():
        return np.ones(len(predictions))
    return np.interp(sums, (sums.min(), sums.max()), (min_score, 1.0))


def _classification(predictions: Predictions) -> Scores:
    """Of several labels per image, the one that is most uncertain counts."""
    return _most_uncertain(predictions)


def _detection(predictions: Predictions) -> Scores:
    doubt = _one_minus_mean(predictions.samples, predictions.scores, len(predictions))
    return {"objectness_least_confidence": doubt, **_most_uncertain(predictions)}


def _segmentation(predictions: Predictions) -> Scores:
    """Mean over pixels; all pixels of a segment have its probabilities, others do not count."""
    rows = predictions.probability_rows
    if not len(rows):
        return {}
    set_counts = predictions.mask_counts.copy()
    starts = predictions.mask_offsets[:-1]
    lengths = np.diff(predictions.mask_offsets)
    position = np.arange(len(set_counts)) - np.repeat(starts, lengths)
    set_counts[position % 2 == 0] = 0
    sums = np.concatenate(([0], np.cumsum(set_counts)))
    areas = (sums[predictions.mask_offsets[1:]] - sums[starts])[rows].astype(np.float64)
    owners, n = predictions.samples[rows], len(predictions)
    total = np.bincount(owners, areas, minlength=n)
    return {
        name: _divide(np.bincount(owners, areas * values, minlength=n), total)
        for name, values in uncertainties(predictions.probabilities).items()
    }


def _keypoints(predictions: Predictions) -> Scores:
    """1 - the mean confidence of a sample's objects, each the mean of its keypoints.

    Values above 1 are visibilities of labels (0, 1, 2), not confidences: then there is no such
    score.
    """
    scores = _detection(predictions)
    confidence = predictions.keypoints[:, 2]
    if not len(confidence) or confidence.max() > 1:
        return scores
    n_objects = len(predictions.categories)
    counts = np.diff(predictions.keypoint_offsets)
    owner = np.repeat(np.arange(n_objects), counts)
    means = _divide(np.bincount(owner, confidence, minlength=n_objects), counts)
    scores["least_confidence"] = _one_minus_mean(predictions.samples, means, len(predictions))
    return scores


def _most_uncertain(predictions: Predictions) -> Scores:
    rows = predictions.probability_rows
    if not len(rows):
        return {}
    scores: Scores = {}
    for name, values in uncertainties(predictions.probabilities).items():
        scores[name] = np.zeros(len(predictions))
        np.maximum.at(scores[name], predictions.samples[rows], values)
    return scores


def _one_minus_mean(
    samples: NDArray[np.int64], values: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    counts = np.bincount(samples, minlength=n)
    means = _divide(np.bincount(samples, values, minlength=n), counts)
    return np.where(counts > 0, np.clip(1 - means, 0, 1), 0.0)


def _divide(sums: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the quotients, 0 where nothing was counted."""
    quotients = np.zeros(len(sums))
    np.divide(sums, counts, out=quotients, where=counts > 0)
    return quotients


_WITH_OBJECTS = frozenset(
    {TaskType.OBJECT_DETECTION, TaskType.INSTANCE_SEGMENTATION, TaskType.KEYPOINT_DETECTION}
)

SCORERS: dict[TaskType, Callable[[Predictions], Scores]] = {
    TaskType.CLASSIFICATION: _classification,
    TaskType.OBJECT_DETECTION: _detection,
    TaskType.SEMANTIC_SEGMENTATION: _segmentation,
    TaskType.INSTANCE_SEGMENTATION: _detection,
    TaskType.KEYPOINT_DETECTION: _keypoints,
}
"""By task type, the scores of each sample without `object_frequency`."""

_OF_OBJECTS = ("objectness_least_confidence", "object_frequency", *UNCERTAINTIES)
SCORE_NAMES: dict[TaskType, tuple[str, ...]] = {
    TaskType.CLASSIFICATION: UNCERTAINTIES,
    TaskType.OBJECT_DETECTION: _OF_OBJECTS,
    TaskType.SEMANTIC_SEGMENTATION: UNCERTAINTIES,
    TaskType.INSTANCE_SEGMENTATION: _OF_OBJECTS,
    TaskType.KEYPOINT_DETECTION: (*_OF_OBJECTS, "least_confidence"),
}
"""The scores that a task of a type may have; uncertainties only where there are probabilities."""
