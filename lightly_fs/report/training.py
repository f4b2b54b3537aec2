"""The page on training: what was measured on held-out images before it and after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightly_fs.report.charts import FAINT, FULL, INPUT, SELECTED, new_figure
from lightly_fs.report.lettering import counted, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]

MEASURES = {
    "loss": "Loss",
    "knn": "Second view finds the first (k-NN)",
    "alignment": "Alignment: distance of two views",
    "uniformity": "Uniformity: crowding of all images",
}
"""What is drawn, with its title; of all but k-NN, lower is better."""


def training_words(history: History) -> str:
    """Return what training changed, in sentences; empty when nothing was trained."""
    if not history:
        return ""
    last = history[-1]
    epochs = counted(last["epoch"], "epoch")
    words = f"The model was trained for {epochs} of {last['images']:,} images"
    if "knn" not in last:
        return f"{words}; there were too few of them to hold some out and measure it."
    before = history[0].get("knn")
    was = "" if before is None else f"; before training in {percent(before, 1)}"
    return (
        f"{words}. On images that were held out, a second random view is nearest to the first view "
        f"of its own image in {percent(last['knn'], 1)}{was}."
    )


def training_rows(history: History) -> list[list[str]]:
    """Return the measures before training, after the first epoch and after the last, as text."""
    shown = dict.fromkeys([0, min(1, len(history) - 1), len(history) - 1]) if history else {}
    return [
        [
            "Before training" if not history[row]["epoch"] else f"After {history[row]['epoch']}",
            *(_text(name, history[row].get(name)) for name in MEASURES),
        ]
        for row in shown
    ]


def training_figure(history: History) -> Figure:
    """Return the curves of all measures over the epochs."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, axes = new_figure(FULL, 116, 2, 2)
    for place, (name, title) in zip(axes.flat, MEASURES.items(), strict=True):
        points = [(one["epoch"], one[name]) for one in history if one.get(name) is not None]
        place.set_title(title)
        place.set_xlabel("Epochs")
        place.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        place.yaxis.set_major_locator(MaxNLocator(4))
        if not points:
            place.text(
                0.5, 0.5, "not measured", ha="center", color=FAINT, transform=place.transAxes
            )
            continue
        x, y = zip(*points, strict=True)
        place.plot(x, y, color=SELECTED, linewidth=1.4, marker="o" if len(x) < 30 else "", ms=2.5)
        if name != "loss":
            place.axhline(y[0], color=INPUT, linewidth=0.8, linestyle=(0, (3, 1.2)))
        if name == "knn":
            place.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    return figure


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return percent(value, 1) if name == "knn" else f"{value:.3f}"
