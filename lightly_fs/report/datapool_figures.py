"""The charts of a datapool: how new the added samples are, and which gaps they fill."""

from __future__ import annotations

from typing import Any

from lightly_fs.report.charts import FAINT, HALF, INPUT, SELECTED, Drawing, new_figure, rendered
from lightly_fs.report.datapool import DatapoolReport

ADDED, GAPS = "datapool_added", "datapool_gaps"
"""The charts' names in `plots/`."""


def draw_datapool(made: DatapoolReport) -> dict[str, Drawing]:
    """Return the charts by the names of their files in `plots/`."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, grid = new_figure(HALF, 60)
    axes = grid[0, 0]
    style: Any = {"fill": True, "color": SELECTED, "alpha": 0.85, "linewidth": 0}
    axes.stairs(made.added.counts.reshape(-1, 2).sum(axis=1), made.added_edges[::2], **style)
    axes.set_xlim(0, made.added_edges[-1])
    axes.set_xlabel("Distance to the nearest sample selected before")
    axes.set_ylabel("Added samples")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    drawn = {ADDED: rendered(figure)}

    figure, grid = new_figure(HALF, 60)
    axes = grid[0, 0]
    for one, words, given in (
        (made.before, "Datapool alone", {"color": INPUT, "alpha": 0.55, "linewidth": 0}),
        (made.after, "Datapool and added", {"color": SELECTED, "linewidth": 1.4}),
    ):
        shares = one.counts / max(1, one.n)
        axes.stairs(shares, made.gap_edges, label=words, fill=one is made.before, **given)
    axes.set_xlim(0, made.gap_edges[-1])
    axes.set_ylim(bottom=0)
    axes.axvline(made.before.max, color=FAINT, linewidth=0.8, linestyle=(0, (3, 1.5)))
    axes.axvline(made.after.max, color=SELECTED, linewidth=0.8, linestyle=(0, (3, 1.5)))
    axes.set_xlabel("Distance of a candidate to the nearest selected sample")
    axes.set_ylabel("Share of candidates")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    figure.legend(loc="outside upper right", ncols=2)
    return drawn | {GAPS: rendered(figure)}
