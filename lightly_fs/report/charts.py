"""How charts of a report look: palette, style, and the drawing of one comparison of sets."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.statistics import Comparison, Distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUT, SELECTED, RANDOM = "#98A2B3", "#0072B2", "#D55E00"
"""Of the palette of Okabe and Ito 2008, told apart with every colour vision, beside a grey."""
INK, FAINT, GRID = "#1D2939", "#667085", "#E4E7EC"
MILLIMETRE = 1 / 25.4
HALF, FULL = 84.0, 174.0
"""Widths on the page in millimetres: one column, both columns."""

ROUND = [1, 2, 2.5, 5, 10]
"""Steps between ticks that people count in; the default has 1.5, 3 and 8 as well."""

STYLE: Any = {
    "font.family": "Inter",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": 600,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "svg.fonttype": "path",
    "svg.hashsalt": "lightly-fs",
    "figure.facecolor": "white",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """Attributes: `svg` is None where points or photographs would make it huge."""

    png: bytes
    svg: bytes | None


def rendered(figure: Figure, *, svg: bool = True, dpi: int = 160) -> Drawing:
    """Return the figure as PNG of so many dots per inch, and as SVG."""
    png, vector = io.BytesIO(), io.BytesIO()
    engine = figure.get_layout_engine()
    if engine is not None:
        # Once, and not again for each of the two formats: it takes longer than drawing.
        engine.execute(figure)
        figure.set_layout_engine("none")
    figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    if svg:
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(png.getvalue(), vector.getvalue() if svg else None)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of so many millimetres, and its axes (rows, columns)."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(width * MILLIMETRE, height * MILLIMETRE), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_comparison(axes: Axes, compared: Comparison) -> None:
    """Draw the input as an area, the two choices as outlines; each sums to 1."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    styles: tuple[tuple[str, Distribution | None, dict[str, Any]], ...] = (
        ("Input", compared.input, {"color": INPUT, "fill": True, "alpha": 0.55, "linewidth": 0}),
        (
            "Random",
            compared.random,
            {"color": RANDOM, "linewidth": 1.0, "linestyle": (0, (3, 1.2))},
        ),
        ("Selected", compared.selected, {"color": SELECTED, "linewidth": 1.4}),
    )
    # Few values in narrow bins are a comb; forty bins are merged to twenty or ten.
    group = 1 if compared.whole else 2 if compared.selected.n >= 100 else 4
    edges = compared.edges[::group]
    for label, made, style in styles:
        if made is not None and made.n:
            axes.stairs(
                made.counts.reshape(-1, group).sum(axis=1) / made.n, edges, label=label, **style
            )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
    drawn = [made for _, made, _ in styles if made is not None and made.n]
    if compared.whole:
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(
            MaxNLocator(5, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
        )
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    else:
        _value_axis(axes, drawn, edges)
    axes.set_ylim(bottom=0)
    if not axes.patches:
        say_empty(axes)


def _value_axis(axes: Axes, drawn: Sequence[Distribution], edges: NDArray[np.float64]) -> None:
    """Label the axis of values: round ones, and the value itself where there is but one."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    # One single value has edges around it: they may lie below 0 where no value can.
    positive = all(made.min >= 0 for made in drawn)
    axes.set_xlim(max(edges[0], 0) if positive else edges[0], edges[-1])
    values = {value for made in drawn for value in (made.min, made.max)}
    if len(values) == 1:
        digits = ".4g" if max(values) < 1_000 else ",.0f"
        axes.set_xticks([*values])
        axes.xaxis.set_major_formatter(StrMethodFormatter(f"{{x:{digits}}}"))
        return
    wide = edges[-1] >= 10_000
    axes.xaxis.set_major_locator(MaxNLocator(3 if wide else 5, steps=ROUND, min_n_ticks=3))
    if wide:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)


def comparison_grid(
    charts: Sequence[tuple[str, Comparison]], title_style: Mapping[str, Any] | None = None
) -> tuple[Figure, Sequence[Axes]]:
    """Return the comparisons with their titles, three to a line, and the axes of each."""
    columns = 3
    rows = -(-len(charts) // columns)
    figure, axes = new_figure(FULL, 8 + 42 * rows, rows, columns)
    for place, (title, compared) in zip(axes.flat, charts, strict=False):
        draw_comparison(place, compared)
        place.set_title(title, **(title_style or {}))
    for place in axes.flat[len(charts) :]:
        place.set_axis_off()
    # One set may have no value of one quantity: the fullest legend tells them all.
    legends = [place.get_legend_handles_labels() for place in axes.flat]
    handles, labels = max(legends, key=lambda legend: len(legend[0]))
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure, list(axes.flat[: len(charts)])


def log_bars(
    axes: Axes, edges: NDArray[np.float64], made: Distribution | None, colour: str
) -> None:
    """Draw one histogram with a logarithmic axis of counts."""
    axes.set_xlim(edges[0], edges[-1])
    if made is None or not made.n:
        say_empty(axes)
        return
    axes.stairs(made.counts, edges, fill=True, color=colour, alpha=0.85, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(1.5 * int(made.counts.max()), 12))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def say_empty(axes: Axes) -> None:
    """Write into a chart that there is nothing to draw."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "nothing to show", ha="center", color=FAINT, transform=axes.transAxes)
