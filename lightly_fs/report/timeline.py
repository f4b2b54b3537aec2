"""The drawing of when in each video frames were selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.charts import FAINT, FULL, GRID, ROUND, SELECTED, new_figure
from lightly_fs.report.lettering import mono_letters, shown
from lightly_fs.report.videos import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BROKEN = "#D55E00"
_ROW = 7.0
"""Height of a row in millimetres."""
_MARKS = 800
"""Marks of a row at most: more are not told apart in print."""
_ALIKE = 20
"""By how many times videos may differ in length to have one axis in common."""
_NAME = 30
_HALF_MARK, _HALF_BAR = 0.34, 0.2
_UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
_MONO: Any = {"fontfamily": "DejaVu Sans Mono", "fontsize": 6.2}


def common_axis(lines: Sequence[Timeline]) -> bool:
    """Tell whether the videos can be drawn to one scale: all in seconds, and of like lengths."""
    lengths = [line.length for line in lines]
    timed = all(line.unit == "seconds" for line in lines)
    return timed and 0 < max(lengths) <= _ALIKE * min(lengths)


def timeline_figure(lines: Sequence[Timeline]) -> Figure:
    """Return one row per video: its length as a bar, selected frames as marks across it."""
    import matplotlib as mpl

    # A name may hold dollar signs: it is no formula.
    with mpl.rc_context({"text.parse_math": False}):
        figure, grid = new_figure(FULL, 17 + _ROW * len(lines))
        axes: Axes = grid[0, 0]
        longest = max(line.length for line in lines)
        common = common_axis(lines)
        for place, line in enumerate(lines):
            _draw_row(axes, line, place, 1 / (longest if common else line.length or 1))
        axes.set_ylim(len(lines) - 0.45, -0.55)
        axes.set_yticks(range(len(lines)))
        letters = mono_letters()
        axes.set_yticklabels([shown(line.video, _NAME, letters) for line in lines], **_MONO)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0, 1)
        if common:
            _time_axis(axes, longest)
        else:
            axes.set_xticks([0, 1], ["start", "end"])
        _legend(figure, lines)
    return figure


def _draw_row(axes: Axes, line: Timeline, place: int, scale: float) -> None:
    """Draw a video; one unit of its time is `scale` of the axis."""

    def bar(start: float, end: float, colour: str, least: float = 0.0, order: int = 1) -> None:
        width = max((end - start) * scale, least)
        left = min((start - line.start) * scale, 1 - least)
        axes.barh(place, width, 2 * _HALF_BAR, left, color=colour, linewidth=0, zorder=order)

    bar(line.start, line.end, GRID, 0.002)
    for start, end in line.broken:
        bar(start, end, BROKEN, 0.004, 2)
    marks = _told_apart((line.selected - line.start) * scale)
    _draw_marks(axes, marks, place)
    number = f"{len(line.selected):,} in " + (
        f"{line.length:,.1f} s" if line.unit == "seconds" else f"{line.length:,.0f} frames"
    )
    axes.annotate(
        number, (1, place), (4, 0), xycoords=("axes fraction", "data"), annotation_clip=False,
        textcoords="offset points", va="center", color=FAINT, fontsize=7,
    )  # fmt: skip


def _draw_marks(axes: Axes, marks: NDArray[np.float64], place: int) -> None:
    """Draw all marks of a row as one path: as many as there are would be a large file."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not len(marks):
        return
    corners = np.empty((2 * len(marks), 2))
    corners[:, 0] = np.repeat(marks, 2)
    corners[:, 1] = np.tile([place - _HALF_MARK, place + _HALF_MARK], len(marks))
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(marks))
    path = Path(corners, codes)
    axes.add_patch(
        PathPatch(path, edgecolor=SELECTED, facecolor="none", linewidth=0.8, zorder=3,
                  clip_on=False)
    )  # fmt: skip


def _told_apart(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places, 0 to 1, of which those that would be drawn over one another are one."""
    return np.unique(np.rint(places * _MARKS)) / _MARKS if len(places) > _MARKS else places


def _time_axis(axes: Axes, longest: float) -> None:
    from matplotlib.ticker import MaxNLocator

    unit, name = next((unit, name) for least, unit, name in _UNITS if longest >= least)
    ticks: NDArray[np.float64] = np.asarray(
        MaxNLocator(8, steps=ROUND).tick_values(0, longest / unit)
    )
    ticks = ticks[(ticks >= 0) & (ticks <= longest / unit)]
    axes.set_xticks(ticks * unit / longest, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(f"Time from the beginning, {name}")


def _legend(figure: Figure, lines: Sequence[Timeline]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [
        Line2D([], [], color=SELECTED, marker="|", linestyle="none", label="Selected frame"),
        Patch(color=GRID, label="Video"),
    ]
    if any(line.broken for line in lines):
        handles.append(Patch(color=BROKEN, label="Corrupt or missing"))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
