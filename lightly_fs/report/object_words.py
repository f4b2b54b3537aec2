"""What a report says of predicted objects, of crops, near duplicates and left out annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightly_fs.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Foreign,
    Heading,
    Photo,
    Photos,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.frames import caption
from lightly_fs.report.lettering import counted
from lightly_fs.report.selection import CropFacts
from lightly_fs.report.strategies import (
    MAX_GROUPS,
    MAX_TASKS,
    StrategyReport,
    is_input,
    shown_groups,
)
from lightly_fs.report.strategy_words import class_words, number_table
from lightly_fs.report.tasks import TaskStatistics

MAX_INVALID = 20
MAX_ROWS = 24


def objects_section(
    report: Report, made: StrategyReport, figures: Mapping[str, Drawing]
) -> Section | None:
    """Return what was predicted in the input, the selection and a random choice."""
    blocks: list[Block] = []
    if made.tasks:
        blocks.append(_tasks(made))
        for number, (task, each) in enumerate(list(made.tasks.items())[:MAX_TASKS]):
            blocks.append(Heading("Task", Foreign(task, 60)))
            blocks += _task(report, made, (number, task, each), figures)
        if len(made.tasks) > MAX_TASKS:
            more = len(made.tasks) - MAX_TASKS
            blocks.append(Words(f"{counted(more, 'more task')}: in report_v2.json.", small=True))
    blocks += _crops(report, made)
    if not blocks:
        return None
    return Section("objects", "Predictions and crops", "Objects", blocks)


def _tasks(made: StrategyReport) -> Table:
    rows: list[Sequence[Cell]] = []
    for task, each in list(made.tasks.items())[:MAX_ROWS]:
        sets = (each.per_image.input, each.per_image.selected, each.per_image.random)
        means = [f"{one.mean:.2f}" if one is not None and one.n else "—" for one in sets]
        kind = each.predictions.schema.task_type.value
        objects = f"{len(each.predictions.categories):,}"
        rows.append([Foreign(task, 40), kind, f"{each.n_predicted:,}", objects, *means])
    head = ["Task", "Type", "Images with one", "Objects", "Per image, input", "selected", "random"]
    return Table(head, rows, n_left=2)


def _task(
    report: Report,
    made: StrategyReport,
    named: tuple[int, str, TaskStatistics],
    figures: Mapping[str, Drawing],
) -> Iterator[Block]:
    number, task, each = named
    charts = [Chart(f"task_{number}_objects", _objects_words(each), "Objects per image")]
    if not is_input(each.classes, made):
        words = class_words(each.classes)
        charts.append(Chart(f"task_{number}_classes", words, "Objects by class"))
    yield Charts(charts, columns=len(charts))
    yield from _scores(each, f"task_{number}_scores" if f"task_{number}_scores" in figures else "")
    if pictures := made.boxes.get(task):
        photos = [
            Photo(each.pixels, Foreign(caption(report.given, each.row), 42)) for each in pictures
        ]
        yield Words("Selected images with their predicted objects.")
        yield Photos(photos, columns=3, height=42, whole=True)


def _scores(each: TaskStatistics, chart: str) -> Iterator[Block]:
    """Say what the scores of a task are; those that are all the same are told, not drawn."""
    if chart:
        caption = "Active-learning scores; images with higher ones are to be preferred."
        yield Charts([Chart(chart, caption)])
    if each.scores:
        yield number_table(each.scores)
    if (value := each.confidences.only_value if each.confidences else None) is not None:
        labels = ", as labels have" if value == 1 else ""
        yield Words(f"Every object has a score of {value:g}{labels}: there is nothing to draw.")
    if any(one.only_value is not None for one in each.scores.values()):
        yield Words("Scores that are the same for every image are not drawn.", small=True)


def _objects_words(each: TaskStatistics) -> str:
    before, after, drawn = each.per_image.input, each.per_image.selected, each.per_image.random
    if before is None or not after.n:
        return "Nothing was selected."
    return (
        f"On average {before.mean:.2f} in the input, {after.mean:.2f} in a selected image, "
        f"{drawn.mean:.2f} in a random one."
    )


def _crops(report: Report, made: StrategyReport) -> Iterator[Block]:
    if not made.facts.crops:
        return
    yield Heading("Crops")
    rows: list[Sequence[Cell]] = [
        [Foreign(title, 60), f"{each.n_images:,}", f"{each.n_crops:,}", _rate(each)]
        for title, each in list(made.facts.crops.items())[:MAX_ROWS]
    ]
    yield Table(["Embeddings of", "Images with a crop", "Crops", "Crops per such image"], rows)
    for title, pictures in made.crops.items():
        if pictures:
            yield Words("Crops of selected images.")
            photos = [
                Photo(each.pixels, Foreign(caption(report.given, each.row), 22), each.note)
                for each in pictures
            ]
            if len(made.crops) > 1:
                yield Heading("Crops of", Foreign(title, 60))
            yield Photos(photos, columns=6, height=22, whole=True)


def _rate(each: CropFacts) -> str:
    return f"{each.n_crops / each.n_images:.1f}" if each.n_images else "—"


def near_duplicate_blocks(report: Report, made: StrategyReport) -> list[Block]:
    """Return the near duplicates as groups with the image that stands for each."""
    if not made.groups:
        return []
    names, n_groups = report.given.filenames, len(made.groups)
    total = sum(len(group.members) for group in made.groups)
    within = f"{made.facts.near_duplicate_distance:.3g}"
    several = f"{n_groups:,} groups" if n_groups > 1 else "one group"
    largest = " The largest of them:" if n_groups > MAX_GROUPS else ""
    be = "is" if total == 1 else "are"
    blocks: list[Block] = [
        Heading("Near duplicates"),
        Words(
            f"{counted(total, 'image')} {be} at a distance of up to {within} from another one that "
            f"stands for them, in {several}. First the image that stands for the group, then those "
            f"that were left out, with their distances to it.{largest}"
        ),
    ]
    for group, (original, members) in zip(made.groups, shown_groups(made.groups), strict=False):
        more = len(group.members) - len(members)
        photos = [
            Photo(names[original], Foreign(caption(report.given, original), 20), "stands for")
        ]
        photos += [
            Photo(names[row], Foreign(caption(report.given, row), 20), f"{distance:.3f}")
            for row, distance in zip(members, group.distances, strict=False)
        ]
        if more:
            photos[-1] = Photo(
                photos[-1].picture, photos[-1].name, f"{photos[-1].note}, {more:,} more"
            )
        blocks.append(Photos(photos, columns=6, height=20))
    return blocks


def invalid_blocks(made: StrategyReport) -> list[Block]:
    """Return the annotation files that were left out, the first of them with their reasons."""
    files = made.facts.invalid_files
    if not files:
        return []
    some = f" The first {MAX_INVALID}:" if len(files) > MAX_INVALID else ""
    were = "file is invalid and was" if len(files) == 1 else "files are invalid and were"
    words = f"{len(files):,} {were} left out, as if they were not there.{some}"
    rows = [(Foreign(path, 62), Foreign(reason, 74)) for path, reason in files[:MAX_INVALID]]
    return [
        Heading("Invalid annotation files"),
        Words(words),
        Table(["File", "Reason"], rows, n_left=2),
    ]
