"""Selections by strategies of any shape, on top of the runs of `made`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lightly_fs.annotations.objects import PredictedObject, Predictions, PredictionsBuilder
from lightly_fs.annotations.scores import active_learning_scores
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.config.run import RunConfig
from lightly_fs.report import ReportInput
from lightly_fs.report.selection import (
    Categories,
    ClassAmounts,
    CropEmbeddings,
    CropFacts,
    SelectionFacts,
    StrategyLine,
)
from lightly_fs.types import Selection
from tests.unit.report.made import vectors

WIDTH, HEIGHT = 800, 600
CLASSES = ("person", "car", "bicycle", "traffic light")


def schema(
    name: str = "detector",
    classes: tuple[str, ...] = CLASSES,
    kind: TaskType = TaskType.OBJECT_DETECTION,
) -> TaskSchema:
    return TaskSchema(name, kind, tuple(Category(3 * i, each) for i, each in enumerate(classes)))


def predictions_of(
    filenames: list[str], objects: list[list[PredictedObject] | None], given: TaskSchema
) -> Predictions:
    """Return the predictions of every sample; None for one without a file."""
    builder = PredictionsBuilder(given, filenames)
    for row, found in enumerate(objects):
        if found is not None:
            builder.skip(row)
            builder.add(found)
    return builder.build()


def detections(filenames: list[str], given: TaskSchema, seed: int = 3) -> Predictions:
    """Return up to five boxes per image with probabilities; every seventh image has no file."""
    rng = np.random.default_rng(seed)
    n_classes = len(given.categories)
    objects = []
    for row in range(len(filenames)):
        if row % 7 == 6:
            objects.append(None)
            continue
        found = []
        for _ in range(rng.integers(0, 6)):
            probabilities = rng.dirichlet(0.3 * np.ones(n_classes))
            left, top = rng.uniform(0, 500), rng.uniform(0, 400)
            found.append(
                PredictedObject(
                    category=int(probabilities.argmax()),
                    score=float(rng.uniform(0.3, 1)),
                    box=(left, top, rng.uniform(30, 350), rng.uniform(30, 250)),
                    probabilities=probabilities.tolist(),
                )
            )
        objects.append(found)
    return predictions_of(filenames, objects, given)


def facts_of(run: ReportInput, **changes) -> SelectionFacts:
    """Return a selection for which everything is active."""
    n, picks = len(run.filenames), run.selection.indices
    k = len(picks)
    rng = np.random.default_rng(2)
    falling = np.clip(1.6 / np.sqrt(np.arange(1, k + 1)), 1e-6, 1)
    boxes = detections(run.filenames, schema())
    pretagged = detections(run.filenames, schema("lightly_pretagging", ("car", "person")), 5)
    left = np.setdiff1d(np.arange(n), picks)
    near = left[1::3]
    weather = Categories(("sunny", "rain", "snow"), rng.choice(3, n, p=[0.8, 0.15, 0.05]))
    numeric = {
        "METADATA lightly.sharpness": rng.gamma(3, 10, n),
        "METADATA weather.temperature": np.where(np.arange(n) % 5, rng.normal(12, 8, n), np.nan),
        "detector CATEGORY_COUNT [person]": np.bincount(
            boxes.samples[boxes.categories == 0], minlength=n
        ).astype(float),
    }
    values = {
        "lines": [
            StrategyLine("DIVERSITY of EMBEDDINGS", "EMBEDDINGS", "DIVERSITY", falling),
            StrategyLine(
                "BALANCE of METADATA weather (TARGET)", "weather", "BALANCE", rng.uniform(0.5, 1, k)
            ),
            StrategyLine(
                "WEIGHTS of SCORES detector uncertainty_margin",
                "detector uncertainty_margin",
                "WEIGHTS",
                np.sort(rng.uniform(0.2, 1, k))[::-1],
            ),
            StrategyLine(
                "THRESHOLD of METADATA lightly.sharpness > 20",
                "lightly.sharpness",
                "THRESHOLD",
                np.ones(k),
                removed=len(left[::4]),
            ),
        ],
        "numeric": numeric,
        "categorical": {"weather": weather},
        "distributions": {
            "detector CLASS_DISTRIBUTION": ClassAmounts(CLASSES, rng.dirichlet([4, 2, 1, 0.5], n))
        },
        "targets": {"weather": {"snow": 0.3, "rain": 0.3}},
        "predictions": {"detector": boxes, "lightly_pretagging": pretagged},
        "scores": {"detector": active_learning_scores(boxes)},
        "typicality": {"EMBEDDINGS": rng.uniform(0.3, 0.9, n)},
        "thresholded": left[::4],
        "near_duplicates": (near, picks[np.arange(len(near)) ** 2 % max(k, 1)] if k else near,
                            rng.uniform(0, 0.05, len(near))),
        "near_duplicate_distance": 0.05,
        "invalid_files": [
            (f".lightly/predictions/detector/{i}.json", "$.predictions[0].bbox: write 4 numbers")
            for i in range(23)
        ],
        "crops": {
            "EMBEDDINGS detector": CropFacts(
                n_crops=len(boxes.boxes),
                n_images=len(np.unique(boxes.samples)),
                samples=boxes.samples,
                boxes=np.concatenate([boxes.boxes[:, :2], boxes.boxes[:, :2] + boxes.boxes[:, 2:]],
                                     axis=1),
                embedded=CropEmbeddings(vectors(len(boxes.boxes), 8), boxes.samples),
            )
        },
        "radius": (np.arange(1, n), 1.5 / np.sqrt(np.arange(1, n))),
        "sizes": np.tile([WIDTH, HEIGHT], (n, 1)),
    }  # fmt: skip
    return SelectionFacts(**(values | changes))


ENTRIES = {
    "DIVERSITY": ({"type": "EMBEDDINGS"}, {}),
    "BALANCE": ({"type": "METADATA", "key": "weather"}, {"target": {"snow": 0.3, "rain": 0.3}}),
    "WEIGHTS": ({"type": "SCORES", "task": "detector", "score": "uncertainty_margin"}, {}),
    "THRESHOLD": (
        {"type": "METADATA", "key": "lightly.sharpness"},
        {"threshold": 20, "operation": "BIGGER"},
    ),
}
"""An input and the keys of a strategy, by kind."""


def configured(run: ReportInput, facts: SelectionFacts, **keys) -> ReportInput:
    """Return the run as it is with these facts: its configuration has their strategies."""
    entries = [
        {"input": ENTRIES[line.kind][0], "strategy": {"type": line.kind, **ENTRIES[line.kind][1]}}
        for line in facts.lines
    ]
    if entries:
        keys |= {"selection_config": {"n_samples": len(run.selection.indices) or 1,
                                      "strategies": entries}}  # fmt: skip
    return replace(run, config=RunConfig.model_validate(keys), strategies=facts)


def with_strategies(run: ReportInput, stopped_by: str = "n_samples", **changes) -> ReportInput:
    """Return the run as a selection by strategies."""
    chosen = Selection(run.selection.indices, run.selection.distances, stopped_by)
    return configured(replace(run, selection=chosen), facts_of(run, **changes))
