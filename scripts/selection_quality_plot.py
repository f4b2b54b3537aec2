"""The results of `bench_selection_quality.py` as curves and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightly_fs.config.run import CoresetMethod

METHODS = {"coreset": CoresetMethod.CORESET, "random": CoresetMethod.RANDOM}
CLASSIFIERS = {
    "convnet": "small convnet from scratch",
    "colour-hog": "logistic regression, colour + HOG",
    "embedding": "logistic regression, embedding",
}
COLOURS = {"coreset": "#0b6e99", "random": "#9a9a9a"}
Record = dict[str, object]


def spread(records: Sequence[Record], key: str, **wanted: object) -> tuple[float, float]:
    """Mean and standard deviation over the seeds of what `wanted` describes."""
    values = [
        float(str(record[key]))
        for record in records
        if all(record[name] == value for name, value in wanted.items())
    ]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def values_of(records: Sequence[Record], key: str, **wanted: object) -> list[object]:
    """What a key takes on, in the order of the records."""
    fitting = (r for r in records if all(r[name] == value for name, value in wanted.items()))
    return list(dict.fromkeys(record[key] for record in fitting))


def save_plot(records: Sequence[Record], path: Path) -> None:
    """Balanced accuracy against the size of the selection: a row per pool, bars of one sigma."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = path.stem  # the same file from the same results
    pools = values_of(records, "pool")
    figure, axes = plt.subplots(
        len(pools), len(CLASSIFIERS), figsize=(11, 3.2 * len(pools)), squeeze=False
    )
    for row, pool in zip(axes, pools, strict=True):
        for axis, (classifier, title) in zip(row, CLASSIFIERS.items(), strict=True):
            for method in METHODS:
                wanted = {"pool": pool, "classifier": classifier, "method": method}
                sizes = values_of(records, "n", **wanted)
                points = [spread(records, "balanced_accuracy", n=n, **wanted) for n in sizes]
                means, sigmas = ([100 * point[i] for point in points] for i in range(2))
                axis.errorbar(
                    [int(str(n)) for n in sizes],
                    means,
                    sigmas,
                    label=method,
                    color=COLOURS[method],
                    capsize=3,
                    marker="o",
                    markersize=4,
                )
            axis.set_title(f"{pool}: {title}", fontsize=9)
            axis.set_xlabel("selected images")
            axis.grid(alpha=0.3)
        row[0].set_ylabel("balanced accuracy, %")
        row[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def table(records: Sequence[Record]) -> str:
    """Markdown: mean and standard deviation over the seeds, and the gain in points."""
    lines = [
        "| pool | selected | distinct, coreset / random | classifier | coreset | random | gain |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    for pool in values_of(records, "pool"):
        for n in values_of(records, "n", pool=pool):
            for classifier in CLASSIFIERS:
                wanted = {"pool": pool, "n": n, "classifier": classifier}
                by_method = {
                    method: spread(records, "balanced_accuracy", method=method, **wanted)
                    for method in METHODS
                }
                distinct = [spread(records, "distinct", method=m, **wanted)[0] for m in METHODS]
                cells = [
                    f"{100 * mean:.1f} ± {100 * sigma:.1f}" for mean, sigma in by_method.values()
                ]
                gain = 100 * (by_method["coreset"][0] - by_method["random"][0])
                lines.append(
                    f"| {pool} | {n} | {distinct[0]:.0f} / {distinct[1]:.0f} | {classifier} "
                    f"| {cells[0]} | {cells[1]} | {gain:+.1f} |"
                )
    return "\n".join(lines)
