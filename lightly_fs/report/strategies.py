"""What a report tells of a selection by strategies, as values: comparisons, groups, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.boxes import LARGE, choose_images, cut, draw_boxes
from lightly_fs.report.classes import ClassComparison, compare_amounts, compare_labels
from lightly_fs.report.counting import compare_tallies, is_whole, tally
from lightly_fs.report.crop_maps import CropMap, crop_map
from lightly_fs.report.groups import Group, choose_crops, near_duplicate_groups
from lightly_fs.report.selection import CropFacts, SelectionFacts
from lightly_fs.report.statistics import Comparison, Numbers, Sets, compare
from lightly_fs.report.strategy_rows import StrategyRow, strategy_row
from lightly_fs.report.tasks import TaskStatistics, task_statistics
from lightly_fs.report.thumbnails import Pixels, fetch

if TYPE_CHECKING:
    from lightly_fs.config.selection import SelectionConfig

MAX_GROUPS = 6
MAX_MEMBERS = 5
"""Near duplicates that are shown of a group, beside the image that stands for them."""
MAX_BOX_IMAGES = 6
MAX_CROPS = 18
MAX_TASKS = 6
"""Tasks and kinds of crops of which pictures are shown."""

Image = Callable[[str, int], Pixels | None]


@dataclass(frozen=True, eq=False)
class Picture:
    """An example: what is seen on it, and whose image it is (a row of the candidates)."""

    pixels: Pixels
    row: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class StrategyReport:
    """A selection by strategies.

    Attributes:
        rows: S strategies in words, as `facts.lines`.
        starts: (S,) mean objective of the first tenth of the picks by strategy, `ends` (S,) of the
            last; NaN when nothing was picked.
        labels: Categorical inputs by title; `amounts` those of `CLASS_DISTRIBUTION`.
        numbers: Numeric inputs by title, without those that are scores of a task.
        typicality: By title.
        tasks: By name.
        groups: Near duplicates, the largest group first.
        examples: Rows of the images whose boxes are shown, by task.
        boxes: These images with drawn boxes, where they could be read.
        crops: Examples of crops by title.
        crop_maps: How different crops are from one another, by title.
        n_selected: Number of picks.
    """

    facts: SelectionFacts
    rows: Sequence[StrategyRow]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    labels: Mapping[str, ClassComparison]
    amounts: Mapping[str, ClassComparison]
    numbers: Mapping[str, Comparison]
    typicality: Mapping[str, Comparison]
    tasks: Mapping[str, TaskStatistics]
    groups: Sequence[Group]
    examples: Mapping[str, Sequence[int]]
    boxes: Mapping[str, Sequence[Picture]]
    crops: Mapping[str, Sequence[Picture]]
    crop_maps: Mapping[str, CropMap]
    n_selected: int


def strategy_report(
    facts: SelectionFacts,
    config: SelectionConfig | None,
    sets: Sets,
    firsts: NDArray[np.int64],
    readable: tuple[Sequence[str], Image],
    memory_gb: float,
) -> StrategyReport:
    """Compute what is told of the selection; images are read for drawn boxes and crops alone.

    Args:
        facts: What the selection looked at and made of the picks.
        config: Its strategies, those of `facts.lines`; None where a method chose.
        sets: Rows that are compared.
        firsts: Selected rows that may be shown with their boxes: of a sequence the first.
        readable: The filenames of the candidates, and what reads their images.
        memory_gb: Bounds the matrix of distances between crops.

    Raises:
        ValueError: The strategies are not those of the configuration.
    """
    entries = () if config is None else config.strategies
    if len(entries) != len(facts.lines):
        raise ValueError(f"{len(facts.lines)} strategies of a configuration of {len(entries)}")
    starts, ends = _tenths(facts)
    examples = {
        task: choose_images(predictions, firsts, MAX_BOX_IMAGES)
        for task, predictions in list(facts.predictions.items())[:MAX_TASKS]
    }
    boxes, crops = _pictures(facts, sets, examples, readable)
    return StrategyReport(
        facts=facts,
        rows=[strategy_row(entry) for entry in entries],
        starts=starts,
        ends=ends,
        labels={
            title: compare_labels(given, sets, facts.targets.get(title))
            for title, given in facts.categorical.items()
        },
        amounts={
            title: compare_amounts(given, sets, facts.targets.get(title))
            for title, given in facts.distributions.items()
        },
        numbers={
            title: compare_numbers(values, sets)
            for title, values in facts.numeric.items()
            if not _is_score(facts, values)
        },
        typicality={
            title: compare_numbers(values, sets) for title, values in facts.typicality.items()
        },
        tasks=_tasks(facts, sets),
        groups=near_duplicate_groups(facts.near_duplicates),
        examples=examples,
        boxes=boxes,
        crops=crops,
        crop_maps=_crop_maps(facts, sets, memory_gb),
        n_selected=len(sets.selected),
    )


def _tasks(facts: SelectionFacts, sets: Sets) -> dict[str, TaskStatistics]:
    return {
        task: task_statistics(predictions, facts.scores.get(task, {}), sets)
        for task, predictions in facts.predictions.items()
    }


def _crop_maps(facts: SelectionFacts, sets: Sets, memory_gb: float) -> dict[str, CropMap]:
    return {
        title: crop_map(given.embedded, sets, memory_gb)
        for title, given in facts.crops.items()
        if given.embedded is not None
    }


def compare_numbers(values: Numbers, sets: Sets) -> Comparison:
    """Return the values over the sets; few whole numbers have a bin each."""
    members = {name: values[rows] for name, rows in sets.rows().items()}
    if is_whole(values):
        return compare_tallies({name: tally(own) for name, own in members.items()})
    return compare(members)


def _is_score(facts: SelectionFacts, values: Numbers) -> bool:
    """Tell whether an input is shown among the scores of its task already."""
    return any(
        np.array_equal(values, score, equal_nan=True)
        for scores in facts.scores.values()
        for score in scores.values()
    )


def all_numbers(report: StrategyReport) -> dict[str, Comparison]:
    """Return what is a number per candidate, by title: inputs, and what typicality is."""
    typicality = {f"TYPICALITY of {title}": made for title, made in report.typicality.items()}
    return {**report.numbers, **typicality}


def is_input(classes: ClassComparison, report: StrategyReport) -> bool:
    """Tell whether the objects of a task by class are a `CLASS_DISTRIBUTION` that is shown."""
    n = len(classes.classes)
    return any(
        other.classes[:n] == classes.classes
        and np.allclose(other.input.amounts[:n], classes.input.amounts, rtol=1e-9)
        for other in report.amounts.values()
    )


def _tenths(facts: SelectionFacts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    starts, ends = [], []
    for line in facts.lines:
        size = -(-len(line.objectives) // 10)
        starts.append(float(np.mean(line.objectives[:size])) if size else np.nan)
        ends.append(float(np.mean(line.objectives[-size:])) if size else np.nan)
    return np.array(starts), np.array(ends)


def shown_groups(groups: Sequence[Group]) -> Iterator[tuple[int, list[int]]]:
    """Yield the image that stands for a group and the members to show, of the first groups."""
    for group in groups[:MAX_GROUPS]:
        yield group.original, group.members[:MAX_MEMBERS].tolist()


def wanted_rows(report: StrategyReport) -> list[int]:
    """Return the rows of the candidates whose thumbnails are shown as they are."""
    return [
        row for original, members in shown_groups(report.groups) for row in (original, *members)
    ]


def _pictures(
    facts: SelectionFacts,
    sets: Sets,
    examples: Mapping[str, Sequence[int]],
    readable: tuple[Sequence[str], Image],
) -> tuple[dict[str, list[Picture]], dict[str, list[Picture]]]:
    """Return images with boxes by task and crops by title; every image is read once for both."""
    if facts.sizes is None:
        return {}, {}
    filenames, image = readable
    places = {
        title: choose_crops(given, sets.selected, MAX_CROPS)
        for title, given in list(facts.crops.items())[:MAX_TASKS]
    }
    rows = [row for found in examples.values() for row in found]
    rows += [int(row) for title, at in places.items() for row in facts.crops[title].samples[at]]
    names = list(dict.fromkeys(filenames[row] for row in rows))
    large = fetch(names, lambda filename, _: image(filename, LARGE))
    boxes = {
        task: [
            Picture(_with_boxes(facts, task, row, large[filenames[row]]), row)
            for row in found
            if filenames[row] in large
        ]
        for task, found in examples.items()
    }
    crops = {
        title: _crops(facts.crops[title], at, facts.sizes, (filenames, large))
        for title, at in places.items()
    }
    return boxes, crops


def _with_boxes(facts: SelectionFacts, task: str, row: int, pixels: Pixels) -> Pixels:
    assert facts.sizes is not None  # noqa: S101 - checked with the facts
    return draw_boxes(pixels, facts.predictions[task], row, _size(facts.sizes, row))


def _crops(
    given: CropFacts,
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    images: tuple[Sequence[str], Mapping[str, Pixels]],
) -> list[Picture]:
    filenames, large = images
    made = []
    for place in places:
        row, box = int(given.samples[place]), given.boxes[place].tolist()
        if filenames[row] in large:
            piece = cut(large[filenames[row]], tuple(box), _size(sizes, row))
            width, height = (round(box[2] - box[0]), round(box[3] - box[1]))
            made.append(Picture(piece, row, f"{width:,} by {height:,} pixels"))
    return made


def _size(sizes: NDArray[np.int64], row: int) -> tuple[int, int]:
    return int(sizes[row, 0]), int(sizes[row, 1])
