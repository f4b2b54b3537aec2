"""The charts of a report, as PNG for `plots/` and the maps, and as SVG for crisp print."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.report.build import Report
from lightly_fs.report.charts import (
    FAINT,
    FULL,
    HALF,
    INK,
    INPUT,
    SELECTED,
    STYLE,
    Drawing,
    comparison_grid,
    draw_comparison,
    log_bars,
    new_figure,
    rendered,
)
from lightly_fs.report.datapool_figures import draw_datapool
from lightly_fs.report.examples import Pair
from lightly_fs.report.fates import LOOKS, Fate, removal
from lightly_fs.report.frames import caption
from lightly_fs.report.lettering import FONTS, mono_font, mono_letters, shown
from lightly_fs.report.maps import Map
from lightly_fs.report.statistics import Comparison
from lightly_fs.report.thumbnails import SIDE, Pixels
from lightly_fs.report.timeline import timeline_figure
from lightly_fs.report.video_words import TIMELINE
from lightly_fs.report.videos import timelines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def draw(report: Report) -> dict[str, Drawing]:
    """Return all charts of the report by the names of their files in `plots/`."""
    import matplotlib as mpl
    from matplotlib import font_manager

    for font in sorted(FONTS.glob("*.otf")):
        font_manager.fontManager.addfont(font)
    made: dict[str, Drawing] = {}
    with mpl.rc_context(STYLE):
        made |= _distances(report)
        for drawn in report.maps:
            made |= _maps(report, drawn)
        if report.properties:
            made["properties"] = rendered(_property_grid(report.properties))
        if report.given.training:
            from lightly_fs.report.training import training_figure

            made["training"] = rendered(training_figure(report.given.training))
        if lines := timelines(report.given):
            made[TIMELINE] = rendered(timeline_figure(lines))
        if report.datapool is not None:
            made |= draw_datapool(report.datapool)
        for number, pair in enumerate(report.pairs):
            png = _pair(report, pair)
            if png is not None:
                made[f"filter_decision_{11 * number}"] = Drawing(png, None)
        if report.strategies is not None:
            from lightly_fs.report.strategy_figures import draw_strategies

            made |= draw_strategies(report.strategies)
    return made


def _distances(report: Report) -> dict[str, Drawing]:
    statistics = report.statistics
    made = {}
    for name, compared, label in (
        ("distance_to_nearest_neighbor", statistics.neighbour, "Distance to the nearest neighbour"),
        ("distance_to_selection", statistics.covered, "Distance to the nearest image of the set"),
    ):
        figure, axes = new_figure(HALF, 64)
        draw_comparison(axes[0, 0], compared)
        axes[0, 0].set_xlabel(label)
        axes[0, 0].set_ylabel("Share of images")
        if axes[0, 0].get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper right", ncols=3)
        made[name] = rendered(figure)
    pairs = statistics.pairwise
    for name, values, colour, label in (
        ("distance_distr_before", pairs.input, INPUT, "before: all candidates"),
        ("distance_distr_after", pairs.selected, SELECTED, "after: selected images"),
    ):
        figure, axes = new_figure(HALF, 57)
        log_bars(axes[0, 0], pairs.edges, values, colour)
        axes[0, 0].set_xlabel(f"Distance between two images, {label}")
        axes[0, 0].set_ylabel("Pairs")
        made[name] = rendered(figure)
    return made


def _property_grid(properties: Mapping[str, Comparison]) -> Figure:
    known = [*PROPERTY_LABELS, *sorted(set(properties) - set(PROPERTY_LABELS))]
    drawn = [name for name in known if name in properties]
    figure, places = comparison_grid(
        [(PROPERTY_LABELS.get(name, name), properties[name]) for name in drawn]
    )
    for place, name in zip(places, drawn, strict=False):
        if name == "sizeInBytes":
            place.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}")
    return figure


def _maps(report: Report, drawn: Map) -> dict[str, Drawing]:
    name = "scatter_pca" if drawn.key == "pca" else "scatter_pacmap"
    if drawn.key == "pacmap" and drawn.points is report.maps[0].points:
        return {}
    return {
        name: rendered(_map(report, drawn, images=True), svg=False, dpi=200),
        f"{name}_no_overlay": rendered(_map(report, drawn, images=False), svg=False),
    }


def _map(report: Report, drawn: Map, *, images: bool) -> Figure:
    figure, grid = new_figure(FULL, 108)
    axes: Axes = grid[0, 0]
    became = report.fates[drawn.rows]
    size = float(np.clip(9_000 / len(drawn.rows), 1.5, 22))
    for fate in sorted(set(became.tolist())):
        looks = LOOKS[Fate(fate)]
        x, y = drawn.points[became == fate].T
        axes.scatter(
            x, y, s=size * looks.scale, c=looks.colour, marker=looks.marker, linewidths=0,
            label=looks.label, zorder=1 + fate / 10,
        )  # fmt: skip
    if len(drawn.earlier):
        # Above the other candidates, below what was added.
        x, y = drawn.earlier.T
        axes.scatter(
            x, y, s=1.5 * size, c=FAINT, marker="D", linewidths=0, label="Selected before",
            zorder=1 + (Fate.SELECTED - 0.5) / 10,
        )  # fmt: skip
    axes.margins(0.06, 0.09)  # half a photograph: none reaches over the frame
    if images:
        _place_images(axes, report, drawn)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
    larger = max(1.0, (14 / size) ** 0.5)
    figure.legend(loc="outside upper right", ncols=len(LOOKS) + 1, markerscale=larger)
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

    rows = (pair.selected, pair.removed)
    names = [caption(report.given, row) for row in rows]
    pictures = [report.thumbnails.get(report.given.filenames[row]) for row in rows]
    if all(picture is None for picture in pictures):
        return None
    title = ImageFont.truetype(FONTS / "Inter-SemiBold.otf", 17)
    small = ImageFont.truetype(mono_font(), 11)
    column, top, height = SIDE + 16, 34, max(len(p) for p in pictures if p is not None)
    sheet = Image.new("RGB", (2 * column + 16, top + height + 32), "white")
    pen = ImageDraw.Draw(sheet)
    titles = ("Selected", removal(report.fates[pair.removed], pair.distance))
    for side, (words, name, picture) in enumerate(zip(titles, names, pictures, strict=True)):
        left = 16 + side * column
        pen.text((left, 7), words, INK, title)
        pen.text((left, top + height + 8), shown(name, 42, mono_letters()), FAINT, small)
        if picture is not None:
            sheet.paste(Image.fromarray(picture), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
