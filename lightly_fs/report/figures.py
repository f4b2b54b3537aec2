"""The charts of a report, as PNG for `plots/` and the maps, and as SVG for crisp print."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.build import Map, Report
from lightly_fs.report.examples import Pair
from lightly_fs.report.lettering import FONTS, mono_font, mono_letters, shown
from lightly_fs.report.statistics import Comparison, Distribution
from lightly_fs.report.thumbnails import SIDE, Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUT, SELECTED, RANDOM = "#98A2B3", "#0072B2", "#D55E00"
"""Of the palette of Okabe and Ito 2008, told apart with every colour vision, beside a grey."""
INK, FAINT, GRID = "#1D2939", "#667085", "#E4E7EC"
MILLIMETRE = 1 / 25.4
HALF, FULL = 84.0, 174.0
"""Widths on the page in millimetres: one column, both columns."""

PROPERTY_LABELS = {
    "width": "Width, pixels",
    "height": "Height, pixels",
    "sizeInBytes": "File size, kB",
    "meanRed": "Mean, red",
    "meanGreen": "Mean, green",
    "meanBlue": "Mean, blue",
    "stdRed": "Standard deviation, red",
    "stdGreen": "Standard deviation, green",
    "stdBlue": "Standard deviation, blue",
    "sharpness": "Sharpness",
    "snr": "Signal to noise",
    "uniformRowRatio": "Share of uniform rows",
    "luminance": "Luminance, 0 to 100",
    "contrast": "Contrast",
}
"""What charts call the properties, in the order in which they are drawn, three to a line."""

_ROUND = [1, 2, 2.5, 5, 10]
"""Steps between ticks that people count in; the default has 1.5, 3 and 8 as well."""

_STYLE: Any = {
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


def draw(report: Report) -> dict[str, Drawing]:
    """Return all charts of the report by the names of their files in `plots/`."""
    import matplotlib as mpl
    from matplotlib import font_manager

    for font in sorted(FONTS.glob("*.otf")):
        font_manager.fontManager.addfont(font)
    made: dict[str, Drawing] = {}
    with mpl.rc_context(_STYLE):
        made |= _distances(report)
        for drawn in report.maps:
            made |= _maps(report, drawn)
        if report.properties:
            made["properties"] = _rendered(_property_grid(report.properties))
        if report.given.training:
            from lightly_fs.report.training import training_figure

            made["training"] = _rendered(training_figure(report.given.training))
        for number, pair in enumerate(report.pairs):
            png = _pair(report, pair)
            if png is not None:
                made[f"filter_decision_{11 * number}"] = Drawing(png, None)
    return made


def _rendered(figure: Figure, *, svg: bool = True, dpi: int = 160) -> Drawing:
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


def _distances(report: Report) -> dict[str, Drawing]:
    statistics = report.statistics
    made = {}
    for name, compared, label in (
        ("distance_to_nearest_neighbor", statistics.neighbour, "Distance to the nearest neighbour"),
        ("distance_to_selection", statistics.covering, "Distance to the nearest image of the set"),
    ):
        figure, axes = new_figure(HALF, 64)
        _compare(axes[0, 0], compared)
        axes[0, 0].set_xlabel(label)
        axes[0, 0].set_ylabel("Share of images")
        if axes[0, 0].get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper right", ncols=3)
        made[name] = _rendered(figure)
    pairs = statistics.pairwise
    for name, values, colour, label in (
        ("distance_distr_before", pairs.input, INPUT, "before: all candidates"),
        ("distance_distr_after", pairs.selected, SELECTED, "after: selected images"),
    ):
        figure, axes = new_figure(HALF, 57)
        _log_bars(axes[0, 0], pairs.edges, values, colour)
        axes[0, 0].set_xlabel(f"Distance between two images, {label}")
        axes[0, 0].set_ylabel("Pairs")
        made[name] = _rendered(figure)
    return made


def _compare(axes: Axes, compared: Comparison) -> None:
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
    group = 2 if compared.selected.n >= 100 else 4
    edges = compared.edges[::group]
    for label, made, style in styles:
        if made is not None and made.n:
            axes.stairs(
                made.counts.reshape(-1, group).sum(axis=1) / made.n, edges, label=label, **style
            )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_ROUND))
    _value_axis(axes, [made for _, made, _ in styles if made is not None and made.n], edges)
    axes.set_ylim(bottom=0)
    if not axes.patches:
        _say_empty(axes)


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
    axes.xaxis.set_major_locator(MaxNLocator(3 if wide else 5, steps=_ROUND, min_n_ticks=3))
    if wide:
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)


def _log_bars(
    axes: Axes, edges: NDArray[np.float64], made: Distribution | None, colour: str
) -> None:
    axes.set_xlim(edges[0], edges[-1])
    if made is None or not made.n:
        _say_empty(axes)
        return
    axes.stairs(made.counts, edges, fill=True, color=colour, alpha=0.85, linewidth=0)
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(1.5 * int(made.counts.max()), 12))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _say_empty(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "nothing to show", ha="center", color=FAINT, transform=axes.transAxes)


def _property_grid(properties: Mapping[str, Comparison]) -> Figure:
    columns = 3
    rows = -(-len(properties) // columns)
    figure, axes = new_figure(FULL, 8 + 42 * rows, rows, columns)
    known = [*PROPERTY_LABELS, *sorted(set(properties) - set(PROPERTY_LABELS))]
    drawn = [name for name in known if name in properties]
    for place, name in zip(axes.flat, drawn, strict=False):
        _compare(place, properties[name])
        place.set_title(PROPERTY_LABELS.get(name, name))
        if name == "sizeInBytes":
            place.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}")
    for place in axes.flat[len(drawn) :]:
        place.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
    return figure


def _maps(report: Report, drawn: Map) -> dict[str, Drawing]:
    name = "scatter_pca" if drawn.key == "pca" else "scatter_pacmap"
    if drawn.key == "pacmap" and drawn.points is report.maps[0].points:
        return {}
    return {
        name: _rendered(_map(report, drawn, images=True), svg=False, dpi=200),
        f"{name}_no_overlay": _rendered(_map(report, drawn, images=False), svg=False),
    }


def _map(report: Report, drawn: Map, *, images: bool) -> Figure:
    figure, grid = new_figure(FULL, 108)
    axes: Axes = grid[0, 0]
    chosen = np.isin(drawn.rows, report.sets.selected)
    size = float(np.clip(9_000 / len(drawn.rows), 1.5, 22))
    for label, members, colour, scale in (
        ("Not selected", ~chosen, INPUT, 1.0),
        ("Selected", chosen, SELECTED, 1.3),
    ):
        if members.any():
            x, y = drawn.points[members].T
            axes.scatter(x, y, s=size * scale, c=colour, linewidths=0, label=label)
    axes.margins(0.06, 0.09)  # half a photograph: none reaches over the frame
    if images:
        _place_images(axes, report, drawn)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    figure.legend(loc="outside upper right", ncols=2, markerscale=max(1.0, (14 / size) ** 0.5))
    return figure


def _place_images(axes: Axes, report: Report, drawn: Map) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    places = drawn.points[np.searchsorted(drawn.rows, drawn.examples)]
    for row, place in zip(drawn.examples.tolist(), places, strict=True):
        pixels = report.thumbnails.get(report.given.filenames[row])
        if pixels is not None:
            small = _small(pixels, 96)
            height, width = small.shape[:2]
            picture = OffsetImage(small, zoom=min(40 / width, 24.5 / height))
            edge = SELECTED if row in report.sets.selected else INPUT
            frame = {"edgecolor": edge, "linewidth": 0.9, "facecolor": "white"}
            axes.add_artist(
                AnnotationBbox(picture, tuple(place), pad=0.06, bboxprops=frame, frameon=True)
            )


def _small(pixels: Pixels, side: int) -> Pixels:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _pair(report: Report, pair: Pair) -> bytes | None:
    """Return the selected beside the removed image as PNG, or None when neither could be read."""
    from PIL import Image, ImageDraw, ImageFont

    names = [report.given.filenames[row] for row in (pair.selected, pair.removed)]
    pictures = [report.thumbnails.get(name) for name in names]
    if all(picture is None for picture in pictures):
        return None
    title = ImageFont.truetype(FONTS / "Inter-SemiBold.otf", 17)
    small = ImageFont.truetype(mono_font(), 11)
    column, top, height = SIDE + 16, 34, max(len(p) for p in pictures if p is not None)
    sheet = Image.new("RGB", (2 * column + 16, top + height + 32), "white")
    pen = ImageDraw.Draw(sheet)
    titles = ("Selected", f"Removed, distance {pair.distance:.3f}")
    for side, (words, name, picture) in enumerate(zip(titles, names, pictures, strict=True)):
        left = 16 + side * column
        pen.text((left, 7), words, INK, title)
        pen.text((left, top + height + 8), shown(name, 42, mono_letters()), FAINT, small)
        if picture is not None:
            sheet.paste(Image.fromarray(picture), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
