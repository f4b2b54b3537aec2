"""What a report says of a selection by strategies: how it was made, and what it looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lightly_fs.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Foreign,
    Heading,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.classes import ClassComparison, bars, off_target
from lightly_fs.report.fates import Fate
from lightly_fs.report.lettering import counted, percent
from lightly_fs.report.selection import THRESHOLD
from lightly_fs.report.statistics import Comparison, Distribution
from lightly_fs.report.strategies import StrategyReport, all_numbers
from lightly_fs.report.strategy_figures import (
    MAX_CLASS_CHARTS,
    MAX_CLASSES,
    MAX_NUMBERS,
    MAX_OBJECTIVES,
    picking_lines,
)
from lightly_fs.report.strategy_rows import StrategyRow
from lightly_fs.report.summary import count_of, stopped

MAX_LINES = 24
MEANS = ("Mean, input", "Mean, selected", "Mean, random")


def how_section(report: Report, made: StrategyReport) -> Section | None:
    """Return how the selection was made: its strategies, its course, why it ended.

    None where a method chose among all candidates: then there is nothing to add.
    """
    facts = made.facts
    if not facts.lines:
        if facts.near_duplicates is None and facts.radius is None and not len(facts.thresholded):
            return None
        blocks: list[Block] = [_candidates(report, made), *_budget(made)]
        return Section("strategies", "How the selection was made", "Candidates", blocks)
    blocks = [
        Words(
            "Images were picked one at a time. Before each pick, every strategy gave each image "
            "left an objective of at most 1; the image with the largest product of them, each to "
            f"the power of its strength, was picked. The selection ended because {stopped(report)}."
        )
    ]
    if not report.sets.n:
        blocks = [Words("There was nothing to select from.")]
    blocks += [_strategies(made), _candidates(report, made)]
    if lines := picking_lines(made):
        blocks.append(Heading("What each strategy made of the picks"))
        more = len(lines) - MAX_OBJECTIVES
        left_out = f" {more:,} more {'is' if more == 1 else 'are'} not drawn." if more > 0 else ""
        caption = (
            "The objective of each pick at the time it was picked. A curve that falls shows a "
            "strategy running out of images that it prefers; one that stays low is outweighed by "
            f"the others.{left_out}"
        )
        blocks.append(Charts([Chart("objectives", caption)]))
    blocks += _budget(made)
    return Section("strategies", "How the selection was made", "Strategies", blocks)


def _strategies(made: StrategyReport) -> Table:
    rows: list[Sequence[Cell]] = []
    lines = made.facts.lines
    for number, line in list(enumerate(lines, 1))[:MAX_LINES]:
        if line.kind == THRESHOLD:
            removed = "—" if line.removed is None else f"{line.removed:,}"
            cells = ["—", "—", removed]
        else:
            cells = [_objective(made.starts[number - 1]), _objective(made.ends[number - 1]), ""]
        rows.append([f"{number}", *_words_of(made.rows[number - 1]), *cells])
    if len(lines) > MAX_LINES:
        rows.append(["", f"and {len(lines) - MAX_LINES:,} more", *[""] * 6])
    head = ["", "Strategy", "Looks at", "Parameters"]
    return Table([*head, "Strength", "First tenth", "Last tenth", "Removes"], rows, n_left=4)


def _words_of(row: StrategyRow) -> list[Cell]:
    strength = "" if row.strength is None else f"{row.strength:g}"
    of: Cell = Foreign(row.of, 34, before=row.looks_at) if row.of else row.looks_at
    return [row.name, of, Foreign(row.parameters, 150), strength]


def _objective(value: float) -> str:
    if math.isnan(value):
        return "—"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def _candidates(report: Report, made: StrategyReport) -> Table:
    """Return what became of the candidates."""
    n, facts = report.sets.n, made.facts
    lines: list[tuple[str, int]] = [("Candidates: usable images without exact duplicates", n)]
    if len(facts.thresholded) or any(line.kind == THRESHOLD for line in facts.lines):
        lines.append(("Removed by thresholds", count_of(report, Fate.THRESHOLDED)))
    if facts.near_duplicates is not None:
        within = f"{facts.near_duplicate_distance:.3g}"
        n_near = count_of(report, Fate.NEAR_DUPLICATE)
        lines.append((f"Near duplicates, at a distance of up to {within}", n_near))
    if n_left_over := count_of(report, Fate.LEFT_OVER):
        lines.append(("Left over: shorter than a sequence", n_left_over))
    lines.append(("Not chosen", count_of(report, Fate.NOT_CHOSEN)))
    lines.append(("Selected", count_of(report, Fate.SELECTED)))
    head = ["What became of the candidates", "Images", "Share"]
    return Table(head, [(label, f"{count:,}", percent(count, n)) for label, count in lines])


def _budget(made: StrategyReport) -> Iterator[Block]:
    if made.facts.radius is None or not len(made.facts.radius[0]):
        return
    yield Heading("What more labels would bring")
    yield Charts([Chart("budget", budget_words(made))])


def budget_words(made: StrategyReport) -> str:
    """Return what the curve of the farthest unselected image says of the picks and the next."""
    what = "Distance of the farthest unselected image from the selection, by its size."
    assert made.facts.radius is not None  # noqa: S101 - said only where it was measured
    picks, radius = (np.asarray(part, np.float64) for part in made.facts.radius)
    finite = np.isfinite(radius)
    picks, radius = picks[finite], radius[finite]
    if not len(picks):
        return what
    first, last = int(picks[0]), int(picks[-1])
    here = min(max(made.n_selected, first), last)
    ahead = min(here + 100, last)
    behind = max(here - 100, first)

    def at(n: int) -> str:
        return f"{float(np.interp(n, picks, radius)):.3f}"

    if ahead > here:
        images = counted(ahead - here, "sample")
        return f"{what} The next {images} would bring it from {at(here)} to {at(ahead)}."
    if behind < here:
        images = counted(here - behind, "sample")
        return f"{what} The last {images} brought it from {at(behind)} to {at(here)}."
    return f"{what} It is {at(here)}."


def inputs_section(made: StrategyReport) -> Section | None:
    """Return what the strategies looked at, in the input, the selection and a random choice."""
    blocks = [*_classes(made), *_numbers(made)]
    if not blocks:
        return None
    words = Words(
        "Every input of the selection, over all candidates, the selected images, and a random "
        "choice of as many."
    )
    return Section("inputs", "What the strategies looked at", "Inputs", [words, *blocks])


def _classes(made: StrategyReport) -> Iterator[Block]:
    compared = [*made.labels.items(), *made.amounts.items()]
    if not compared:
        return
    yield Heading("Classes")
    charts = [
        Chart(f"classes_{number}", class_words(each), Foreign(title, 48))
        for number, (title, each) in enumerate(compared[:MAX_CLASS_CHARTS])
    ]
    yield Charts(charts, columns=1 if len(charts) == 1 else 2)
    if len(compared) > MAX_CLASS_CHARTS:
        more = len(compared) - MAX_CLASS_CHARTS
        yield Words(f"{counted(more, 'more input')} with classes: in report_v2.json.", small=True)


def class_words(compared: ClassComparison) -> str:
    """Return how even the classes are, how far from a target, and how many are not drawn."""
    if not compared.input.amounts.any():
        return "No candidate has a class."
    parts = []
    if compared.selected.amounts.any():
        values = ", ".join(
            f"{made.gini_imbalance:.2f} {where}"
            for made, where in (
                (compared.input, "in the input"),
                (compared.selected, "selected"),
                (compared.random, "in a random choice"),
            )
        )
        parts.append(f"Imbalance (Gini; 0 is even, 1 all in one class): {values}.")
    else:
        parts.append("Nothing of it was selected.")
    selected, drawn = (off_target(compared, one) for one in (compared.selected, compared.random))
    if selected is not None and drawn is not None:
        parts.append(
            f"Off the target: {percent(selected, 1)} of the selection, {percent(drawn, 1)} of a "
            "random choice."
        )
    if others := bars(compared, MAX_CLASSES)[1]:
        parts.append(f"The last bar sums up {others:,} classes.")
    return " ".join(parts)


def _numbers(made: StrategyReport) -> Iterator[Block]:
    numbers = all_numbers(made)
    if not numbers:
        return
    yield Heading("Numbers")
    words = "Shares of images; the outermost bars hold the values beyond them."
    if made.facts.typicality:
        words += " Typicality is 1 among identical images, and less where the nearest are farther."
    same = sum(one.only_value is not None for one in numbers.values())
    if same < len(numbers):
        yield Charts([Chart("numbers", words)])
    yield number_table(numbers)
    if same:
        yield Words("Numbers that are the same for every image are not drawn.", small=True)
    if len(numbers) > MAX_NUMBERS:
        more = len(numbers) - MAX_NUMBERS
        yield Words(f"{counted(more, 'more input')}: in report_v2.json.", small=True)


def number_table(compared: Mapping[str, Comparison]) -> Table:
    """Return how many images have a value, and its mean in each set."""
    rows: list[Sequence[Cell]] = []
    for title, each in list(compared.items())[:MAX_NUMBERS]:
        n = each.input.n if each.input is not None else 0
        means = [_mean(one) for one in (each.input, each.selected, each.random)]
        rows.append([Foreign(title, 48), f"{n:,}", *means])
    return Table(["Number", "Images with a value", *MEANS], rows)


def _mean(made: Distribution | None) -> str:
    if made is None or not made.n:
        return "—"
    return number(made.mean)


def number(value: float) -> str:
    """Return four significant digits, thousands as they are."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:#.4g}"
