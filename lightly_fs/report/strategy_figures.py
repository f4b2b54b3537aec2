"""The charts of a selection by strategies: objectives, label budget, classes, numbers, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.config.selection import PRETAGGING_TASK
from lightly_fs.report.charts import (
    FAINT,
    FULL,
    GRID,
    HALF,
    INK,
    INPUT,
    RANDOM,
    SELECTED,
    Drawing,
    comparison_grid,
    draw_comparison,
    new_figure,
    rendered,
    say_empty,
)
from lightly_fs.report.classes import Bar, ClassComparison, bars
from lightly_fs.report.lettering import mono_letters, shown
from lightly_fs.report.selection import THRESHOLD, StrategyLine
from lightly_fs.report.statistics import Comparison
from lightly_fs.report.strategies import StrategyReport, all_numbers, is_input
from lightly_fs.report.tasks import TaskStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 15
"""Classes of one chart; the others are summed up in a further bar."""
MAX_CLASS_CHARTS = 12
MAX_NUMBERS = 15
"""Charts of numbers on one page, five lines of three."""
MAX_OBJECTIVES = 8
_STEPS = 120
_MONO: Any = {"fontfamily": "DejaVu Sans Mono", "fontsize": 6.2, "fontweight": 400}
_NAME, _TITLE = 22, 36
"""Characters of a class's name and of a title; longer ones lose their middle."""


def draw_strategies(report: StrategyReport) -> dict[str, Drawing]:
    """Return the charts by the names of their files in `plots/`, only of what is active."""
    import matplotlib as mpl

    # A name may hold dollar signs: it is no formula.
    with mpl.rc_context({"text.parse_math": False}):
        return _drawn(report)


def _drawn(report: StrategyReport) -> dict[str, Drawing]:
    made: dict[str, Drawing] = {}
    if picking_lines(report):
        made["objectives"] = rendered(_objectives(report))
    if report.facts.radius is not None and len(report.facts.radius[0]):
        made["budget"] = rendered(_budget(report))
    compared = [*report.labels.values(), *report.amounts.values()][:MAX_CLASS_CHARTS]
    width = FULL if len(compared) == 1 else HALF
    for number, each in enumerate(compared):
        made[f"classes_{number}"] = rendered(_classes(each, width))
    if numbers := _that_differ(all_numbers(report)):
        made["numbers"] = rendered(_numbers(numbers))
    for number, task in enumerate(report.tasks.values()):
        alone = is_input(task.classes, report)
        made[f"task_{number}_objects"] = rendered(_per_image(task, FULL if alone else HALF))
        if not alone:
            made[f"task_{number}_classes"] = rendered(_classes(task.classes, HALF))
        if scores := _score_charts(task):
            made[f"task_{number}_scores"] = rendered(_numbers(scores))
    if PRETAGGING_TASK in report.tasks:
        classes = report.tasks[PRETAGGING_TASK].classes
        before, after = classes.input.amounts, classes.selected.amounts
        # The same classes in the same order, so that the two can be laid beside one another.
        order = np.argsort(-before, kind="stable")[: 2 * MAX_CLASSES]
        names = [classes.classes[i] for i in order]
        for when, amounts, colour in (("before", before, INPUT), ("after", after, SELECTED)):
            figure = _histogram(names, amounts[order], colour)
            made[f"pretagging_histogram_{when}"] = rendered(figure)
    return made


def picking_lines(report: StrategyReport) -> list[tuple[int, StrategyLine]]:
    """Return the strategies that rated picks with their numbers in the table, from 1."""
    numbered = enumerate(report.facts.lines, 1)
    return [
        (number, line)
        for number, line in numbered
        if line.kind != THRESHOLD and len(line.objectives)
    ]


def _objectives(report: StrategyReport) -> Figure:
    lines = picking_lines(report)[:MAX_OBJECTIVES]
    columns = min(2, len(lines))
    rows = -(-len(lines) // columns)
    figure, axes = new_figure(FULL, (29 if rows < 3 else 25) * rows + 6, rows, columns)
    for place, (number, line) in zip(axes.flat, lines, strict=False):
        _course(place, np.asarray(line.objectives, np.float64))
        words = f"{number}  {report.rows[number - 1].title}"
        title = shown(words, 56 if columns > 1 else 110, mono_letters())
        place.set_title(title, **_MONO)
    for place in axes.flat[len(lines) :]:
        place.set_axis_off()
    figure.supxlabel("Picks", fontsize=7.5, color=FAINT)
    return figure


def _course(axes: Axes, values: NDArray[np.float64]) -> None:
    """Draw the mean of the values over the picks, and from least to most of each stretch."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(1 if len(values) > 1 else 0, max(len(values), 2))
    axes.set_ylim(0, max(1.08 * float(values.max()), 1e-9))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    stretches = np.array_split(values, min(_STEPS, len(values)))
    ends = np.cumsum([len(part) for part in stretches])
    middles = ends - (np.array([len(part) for part in stretches]) - 1) / 2
    if len(values) > _STEPS:
        least, most = [part.min() for part in stretches], [part.max() for part in stretches]
        axes.fill_between(middles, least, most, color=SELECTED, alpha=0.18, linewidth=0)
    marker = "o" if len(values) < 30 else ""
    means = [part.mean() for part in stretches]
    axes.plot(middles, means, color=SELECTED, linewidth=1.2, marker=marker, ms=2.5)


def _budget(report: StrategyReport) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, grid = new_figure(FULL, 46)
    axes: Axes = grid[0, 0]
    assert report.facts.radius is not None  # noqa: S101 - drawn only where it was measured
    picks, radius = (np.asarray(part, np.float64) for part in report.facts.radius)
    finite = np.isfinite(radius)
    picks, radius = picks[finite], radius[finite]
    axes.set_xlabel("Selected images")
    axes.set_ylabel("Farthest unselected image")
    if not len(picks):
        say_empty(axes)
        return figure
    made = report.n_selected
    marker = "o" if len(picks) < 30 else ""
    axes.plot(picks, radius, color=SELECTED, linewidth=1.4, marker=marker, ms=2.5)
    axes.set_ylim(0, max(1.08 * float(radius.max()), 1e-9))
    low, high = float(picks[0]), float(picks[-1])
    axes.set_xlim(low if high > low else low - 1, high if high > low else high + 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if low <= made < high:
        axes.axvline(made, color=FAINT, linewidth=0.8, linestyle=(0, (3, 1.2)))
        axes.annotate(
            f"this selection, {made:,}", (made, 1), (3, -8), color=FAINT, fontsize=7,
            xycoords=("data", "axes fraction"), textcoords="offset points",
        )  # fmt: skip
    return figure


def _classes(compared: ClassComparison, width: float) -> Figure:
    """Draw each class as a grey bar above a blue one; marks are random choice and target."""
    drawn, _ = bars(compared, MAX_CLASSES)
    figure, grid = new_figure(width, 15 + 5.2 * max(len(drawn), 2))
    axes: Axes = grid[0, 0]
    if not drawn:
        say_empty(axes)
        return figure
    places = np.arange(len(drawn), dtype=np.float64)
    axes.barh(places - 0.19, [bar.input for bar in drawn], 0.34, color=INPUT, label="Input")
    axes.barh(places + 0.19, [bar.selected for bar in drawn], 0.34, color=SELECTED,
              label="Selected")  # fmt: skip
    axes.vlines(
        [bar.random for bar in drawn], places - 0.4, places + 0.4,
        color=RANDOM, linewidth=1.3, zorder=3, label="Random",
    )  # fmt: skip
    aimed = [(place, bar) for place, bar in zip(places, drawn, strict=True) if bar.target]
    if aimed:
        axes.scatter(
            [bar.target or 0.0 for _, bar in aimed], [place for place, _ in aimed],
            s=16, marker="D", facecolor="white", edgecolor=INK, linewidth=0.9, zorder=4,
            label="Target",
        )  # fmt: skip
    _class_axes(axes, drawn)
    legend = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [name for name in ("Input", "Selected", "Random", "Target") if name in legend]
    handles = [legend[name] for name in labels]
    figure.legend(handles, labels, loc="outside upper right", ncols=4, handlelength=1.2)
    return figure


def _class_axes(axes: Axes, drawn: Sequence[Bar]) -> None:
    from matplotlib.ticker import MaxNLocator

    letters = mono_letters()
    names = [shown(bar.name, _NAME, letters) for bar in drawn]
    axes.set_yticks(range(len(drawn)), names, color=INK, **_MONO)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=GRID)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")


def _numbers(values: Mapping[str, Comparison]) -> Figure:
    charts = [(_title(title), each) for title, each in list(values.items())[:MAX_NUMBERS]]
    return comparison_grid(charts, _MONO)[0]


def _title(text: str) -> str:
    return shown(text, _TITLE, mono_letters())


def _score_charts(task: TaskStatistics) -> dict[str, Comparison]:
    confidences = {"score of each object": task.confidences} if task.confidences else {}
    return _that_differ({**task.scores, **confidences})


def _that_differ(values: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Return what has more than one value: of a single one, a chart is a bar that says nothing."""
    return {title: each for title, each in values.items() if each.only_value is None}


def _per_image(task: TaskStatistics, width: float) -> Figure:
    figure, axes = new_figure(width, 50 if width < FULL else 42)
    draw_comparison(axes[0, 0], task.per_image)
    axes[0, 0].set_xlabel("Objects per image")
    axes[0, 0].set_ylabel("Share of images")
    if axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def _histogram(classes: Sequence[str], amounts: NDArray[np.float64], colour: str) -> Figure:
    """Draw how many objects of each class there are."""
    from matplotlib.ticker import MaxNLocator

    figure, grid = new_figure(HALF, 14 + 4.4 * max(len(classes), 2))
    axes: Axes = grid[0, 0]
    axes.barh(np.arange(len(classes)), amounts, 0.7, color=colour)
    _class_axes(axes, [Bar(name, 0.0, 0.0, 0.0) for name in classes])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlim(0, max(1.05 * float(amounts.max(initial=0)), 1))
    axes.set_xlabel("Objects")
    return figure
