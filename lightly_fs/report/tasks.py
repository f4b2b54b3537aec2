"""What a report tells of one prediction task: its objects, classes, confidences and scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.classes import ClassComparison, compare_classes
from lightly_fs.report.counting import Tally, compare_tallies, tally
from lightly_fs.report.statistics import Comparison, Numbers, Sets, compare

if TYPE_CHECKING:
    from lightly_fs.annotations.objects import Predictions


@dataclass(frozen=True, eq=False)
class TaskStatistics:
    """The predictions of one task over the sets.

    Attributes:
        n_predicted: Candidates that have a prediction.
        classes: Objects by class.
        images: Images that show at least one object of a class.
        per_image: Objects per image; images without a prediction have none.
        counts: Objects per image, by class.
        confidences: Of the objects; None where the task gives none.
        scores: Active-learning scores by name.
    """

    predictions: Predictions
    n_predicted: int
    classes: ClassComparison
    images: ClassComparison
    per_image: Comparison
    counts: Mapping[str, Comparison]
    confidences: Comparison | None
    scores: Mapping[str, Comparison]


def task_statistics(
    predictions: Predictions, scores: Mapping[str, Numbers], sets: Sets
) -> TaskStatistics:
    """Return what the sets have of a task; the samples are the candidates."""
    names = predictions.schema.category_names
    members = _members(sets)
    objects = {name: inside[predictions.samples] for name, inside in members.items()}
    cells = _Cells.of(predictions)
    per_object = np.diff(predictions.offsets)
    confidences = None
    if np.isfinite(predictions.scores).any():
        confidences = compare({name: predictions.scores[own] for name, own in objects.items()})
    return TaskStatistics(
        predictions=predictions,
        n_predicted=int(predictions.predicted.sum()),
        classes=compare_classes(
            names,
            {name: _counts(predictions.categories[own], names) for name, own in objects.items()},
        ),
        images=compare_classes(
            names,
            {
                name: _counts(cells.categories[inside[cells.samples]], names)
                for name, inside in members.items()
            },
        ),
        per_image=compare_tallies(
            {name: tally(per_object[inside]) for name, inside in members.items()}
        ),
        counts=_counts_per_image(cells, names, members),
        confidences=confidences,
        scores={
            name: compare({key: values[rows] for key, rows in sets.rows().items()})
            for name, values in scores.items()
        },
    )


def _members(sets: Sets) -> dict[str, NDArray[np.bool_]]:
    """Return (N,) whether a candidate is in a set, by the set's name."""
    made = {}
    for name, rows in sets.rows().items():
        made[name] = np.zeros(sets.n, np.bool_)
        made[name][rows] = True
    return made


def _counts(categories: NDArray[np.integer[Any]], names: tuple[str, ...]) -> NDArray[np.float64]:
    return np.bincount(categories, minlength=len(names)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Pairs of an image and a class that it shows, each once: (P,) arrays.

    Attributes:
        times: How many objects of the class the image shows, 1 or more.
    """

    samples: NDArray[np.int64]
    categories: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, predictions: Predictions) -> _Cells:
        n_categories = len(predictions.schema.categories)
        keys = predictions.samples * n_categories + predictions.categories
        present, times = np.unique(keys, return_counts=True)
        return cls(present // n_categories, present % n_categories, times)


def _counts_per_image(
    cells: _Cells, names: tuple[str, ...], members: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Comparison]:
    tallies = {name: list(_tallies(cells, len(names), inside)) for name, inside in members.items()}
    return {
        category: compare_tallies({name: made[place] for name, made in tallies.items()})
        for place, category in enumerate(names)
    }


def _tallies(cells: _Cells, n_categories: int, inside: NDArray[np.bool_]) -> Iterator[Tally]:
    """Yield for each class how many of the images inside show it how often, 0 times included."""
    own = inside[cells.samples]
    span = int(cells.times.max(initial=0)) + 1
    keys, images = np.unique(cells.categories[own] * span + cells.times[own], return_counts=True)
    ends = np.searchsorted(keys, np.arange(n_categories + 1) * span)
    n = int(inside.sum())
    for first, last in itertools.pairwise(ends.tolist()):
        values, times = keys[first:last] % span, images[first:last].astype(np.int64)
        without = n - int(times.sum())
        if without:
            values, times = np.insert(values, 0, 0), np.insert(times, 0, without)
        yield Tally(values, times)
