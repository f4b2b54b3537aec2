"""What a selection by strategies looked at and made of the picks, as it is given to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightly_fs.annotations.objects import Predictions

THRESHOLD = "THRESHOLD"
"""The kind of strategies that remove candidates before anything is picked."""

Numbers = NDArray[np.floating[Any]]
Rows = NDArray[np.integer[Any]]
NearDuplicates = tuple[Rows, Rows, Numbers]
Curve = tuple[Rows, Numbers]


@dataclass(frozen=True, eq=False)
class StrategyLine:
    """One strategy of the configuration.

    Attributes:
        text: What it does: `BALANCE of PREDICTIONS my_task CLASS_DISTRIBUTION (UNIFORM)`.
        input: Title of what it looks at.
        kind: `DIVERSITY`, `WEIGHTS`, `THRESHOLD` …
        objectives: (K,) what it made of each pick at the time it was picked, 1e-6 to 1.
        removed: Candidates that a threshold removes by itself; None where nobody counted them.
    """

    text: str
    input: str
    kind: str
    objectives: Numbers
    removed: int | None = None


@dataclass(frozen=True, eq=False)
class Categories:
    """One label per candidate: (N,) `codes` are places in `labels`, negative for no label."""

    labels: tuple[str, ...]
    codes: Rows


@dataclass(frozen=True, eq=False)
class ClassAmounts:
    """How much of each of C classes a candidate has: `amounts` is (N, C), 0 or more."""

    classes: Sequence[str]
    amounts: Numbers


@dataclass(frozen=True, eq=False)
class CropEmbeddings:
    """All crops of the candidates: (M, D) float32 `vectors`, and (M,) rows of their images."""

    vectors: NDArray[np.float32]
    samples: Rows


@dataclass(frozen=True, eq=False)
class CropFacts:
    """The pieces of images that a task's embeddings are of.

    Attributes:
        n_crops: How many there are of all candidates.
        n_images: Candidates that have at least one.
        samples: (C,) rows of selected candidates, examples of crops.
        boxes: (C, 4) left, top, right, bottom in pixels of the image.
        embedded: All crops; None where their embeddings are not to be told of.
    """

    n_crops: int
    n_images: int
    samples: Rows
    boxes: NDArray[Any]
    embedded: CropEmbeddings | None = None


@dataclass(frozen=True, eq=False)
class SelectionFacts:
    """A selection by strategies, over the N candidates of the report and its K picks.

    Attributes:
        lines: One per strategy, in the order of the configuration; none where a method chose.
        numeric: Active numeric inputs by title, each (N,): metadata, scores, category counts,
            random numbers. NaN where a candidate has no value. The title of metadata is its key,
            which `METADATA ` may precede.
        categorical: Active categorical inputs by title.
        distributions: `CLASS_DISTRIBUTION` inputs by title.
        targets: Ratios that a `BALANCE` aimed at, by title of its input; what they leave of 1 is
            for all other classes together.
        predictions: By task; the samples of each are the candidates.
        scores: Active-learning scores by task and name, each (N,).
        typicality: By title of the embeddings, each (N,); NaN for candidates that thresholds
            removed.
        thresholded: (T,) rows that thresholds removed.
        near_duplicates: Rows that were left out, the row that stands for each, and the distance
            between the two, each (D,); None when nobody looked for them.
        near_duplicate_distance: Below which two images are near duplicates.
        invalid_files: Path and reason of annotations that were left out.
        crops: By title of the embeddings.
        radius: After how many picks (P,), ascending, how far the farthest unselected image is from
            the selection (P,); None when nobody measured it.
        sizes: (N, 2) width and height of the candidates in pixels, after EXIF orientation; needed
            to draw boxes and to cut crops.
    """

    lines: Sequence[StrategyLine]
    numeric: Mapping[str, Numbers] = field(default_factory=dict)
    categorical: Mapping[str, Categories] = field(default_factory=dict)
    distributions: Mapping[str, ClassAmounts] = field(default_factory=dict)
    targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Numbers]] = field(default_factory=dict)
    typicality: Mapping[str, Numbers] = field(default_factory=dict)
    thresholded: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    near_duplicates: NearDuplicates | None = None
    near_duplicate_distance: float = 0.0
    invalid_files: Sequence[tuple[str, str]] = ()
    crops: Mapping[str, CropFacts] = field(default_factory=dict)
    radius: Curve | None = None
    sizes: NDArray[Any] | None = None


def check_facts(facts: SelectionFacts, n: int, k: int) -> None:
    """Refuse facts that do not belong to `n` candidates and `k` picks.

    Raises:
        ValueError: A length is another one, or boxes are to be shown of images without sizes.
    """
    for line in facts.lines:
        if len(line.objectives) != k:
            raise ValueError(
                f"the strategy {line.text!r} has {len(line.objectives)} objectives for {k} picks"
            )
    for name, length in _lengths(facts):
        if length != n:
            raise ValueError(f"{name} has {length} rows for {n} filenames")
    for title, given in facts.categorical.items():
        if len(given.codes) and int(given.codes.max()) >= len(given.labels):
            raise ValueError(f"categorical[{title!r}] has codes beyond its {len(given.labels)}")
    for title, amounts in facts.distributions.items():
        if amounts.amounts.shape[1] != len(amounts.classes):
            raise ValueError(f"distributions[{title!r}] has no amount for each of its classes")
    _check_crops(facts.crops)
    if facts.sizes is None and (facts.predictions or facts.crops):
        raise ValueError("predictions and crops need the sizes of the images")
    if unknown := facts.scores.keys() - facts.predictions.keys():
        raise ValueError(f"scores of tasks without predictions: {sorted(unknown)}")


def _check_crops(crops: Mapping[str, CropFacts]) -> None:
    for title, each in crops.items():
        if each.embedded is None:
            continue
        if not len(each.embedded.vectors) == len(each.embedded.samples) == each.n_crops:
            raise ValueError(f"crops[{title!r}] has another number of embeddings than crops")


def _lengths(facts: SelectionFacts) -> Iterator[tuple[str, int]]:
    if facts.sizes is not None:
        yield "sizes", len(facts.sizes)
    for title, values in facts.numeric.items():
        yield f"numeric[{title!r}]", len(values)
    for title, given in facts.categorical.items():
        yield f"categorical[{title!r}]", len(given.codes)
    for title, amounts in facts.distributions.items():
        yield f"distributions[{title!r}]", len(amounts.amounts)
    for task, predictions in facts.predictions.items():
        yield f"predictions[{task!r}]", len(predictions)
    for task, scores in facts.scores.items():
        for name, values in scores.items():
            yield f"scores[{task!r}][{name!r}]", len(values)
    for title, values in facts.typicality.items():
        yield f"typicality[{title!r}]", len(values)
