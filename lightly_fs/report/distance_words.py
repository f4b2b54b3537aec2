"""What a report says of distances between embeddings, in tables and sentences."""

from __future__ import annotations

from lightly_fs.report.build import Report
from lightly_fs.report.statistics import Comparison, Distribution


def distance_rows(report: Report) -> list[tuple[str, ...]]:
    """Return #, mean, min, 10th percentile, 90th percentile, max of pairwise distances by set."""
    compared, sets = report.statistics.pairwise, report.sets
    rows: list[tuple[str, Distribution | None, int]] = [
        ("Before: candidates", compared.input, sets.n),
        ("After: selected", compared.selected, len(sets.selected)),
        ("Random, same size", compared.random, len(sets.random)),
    ]
    return [
        (
            label,
            f"{n:,}",
            *(
                f"{getattr(made, key):.3f}" if made is not None and made.n else "—"
                for key in ("mean", "min", "p10", "p90", "max")
            ),
        )
        for label, made, n in rows
    ]


def set_rows(report: Report) -> list[tuple[str, ...]]:
    """Return quantity, set, measured, mean, median, max of the two nearest-distance statistics."""
    statistics = report.statistics
    to_set = "From a candidate to the set"
    to_set += ", with the earlier selection" if statistics.gaps is not None else ""
    rows: list[tuple[str, ...]] = []
    for quantity, compared in (
        ("To the nearest neighbour in the set", statistics.neighbour),
        (to_set, statistics.covered),
    ):
        for label, made in (
            ("candidates", compared.input),
            ("selected", compared.selected),
            ("random", compared.random),
        ):
            if made is not None and made.n:
                values = (f"{value:.3f}" for value in (made.mean, made.median, made.p90, made.max))
                rows.append((f"{quantity}: {label}", f"{made.n:,}", *values))
    return rows


def findings(report: Report) -> dict[str, str]:
    """Return what one sees in each chart, in a sentence with its numbers."""
    statistics = report.statistics
    measured = "measured " if statistics.covered.n_measured else ""
    pooled = statistics.gaps is not None
    other = "other one that this run selected" if pooled else "other selected one"
    one = "one selected now or earlier" if pooled else "a selected one"
    earlier = " and the earlier selection leave" if pooled else " leaves"
    drawn = f"; a random choice of the same size{earlier} one that is {{1}} away"
    return {
        "neighbour": _versus(
            statistics.neighbour,
            f"Half of the selected images are {{0}} or more away from any {other}; "
            "in a random choice of the same size {1}.",
            "median",
            "Fewer than two images were selected: they have no neighbours.",
        ),
        "covering": _versus(
            statistics.covered,
            f"No {measured}image is farther than {{0}} from {one}"
            f"{drawn if len(report.sets.selected) else ''}.",
            "max",
            "Nothing was selected that could stand for the other images.",
        ),
        "pairwise": _versus(
            statistics.pairwise,
            "The nine in ten selected pairs that differ most are at least {0} apart, those of a "
            "random choice {1}.",
            "p10",
            "Fewer than two images were selected: there are no pairs.",
        ),
    }


def pairs_words(report: Report) -> str:
    """Return which pairs of a selected and a removed image are shown, or that there are none."""
    pooled = report.statistics.gaps is not None
    if not len(report.sets.selected):
        return "Nothing was selected."
    if not report.pairs:
        return f"No image was removed{' for one that this run selected' if pooled else ''}."
    last = "is farthest of these" if pooled else "is farthest from every selected one"
    whose = ", of those that none selected earlier is nearer to" if pooled else ""
    return (
        f"Left a selected image, right a removed one that it stands for{whose}. The first pairs "
        f"are the closest of all; the last shows the removed image that {last}."
    )


def _versus(compared: Comparison, text: str, key: str, empty: str) -> str:
    if not compared.selected.n:
        return empty
    return text.format(
        f"{getattr(compared.selected, key):.2f}", f"{getattr(compared.random, key):.2f}"
    )
