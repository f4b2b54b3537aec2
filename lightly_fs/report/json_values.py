"""Numbers and distributions as `report_v2.json` has them."""

from __future__ import annotations

from typing import Any

from lightly_fs.report.classes import ClassComparison
from lightly_fs.report.statistics import Comparison, Distribution

Json = dict[str, Any]


def number(value: float) -> float:
    """Return six significant digits."""
    return float(f"{value:.6g}")


def comparison(compared: Comparison) -> Json:
    """Return a `NumericDistributionPerSet`."""
    distributions = {
        "input": compared.input,
        "selected": compared.selected,
        "random": compared.random,
        "preselectedDatapool": compared.preselected,
        "selectedWithDatapool": compared.with_datapool,
    }
    return {
        "bins": len(compared.edges) - 1,
        "range": [number(compared.edges[0]), number(compared.edges[-1])],
    } | {name: _distribution(made) for name, made in distributions.items() if made is not None}


def _distribution(made: Distribution) -> Json:
    return {
        "counts": made.counts.tolist(),
        "metrics": {
            name: number(getattr(made, name)) for name in ("mean", "std", "min", "median", "max")
        },
    }


def classes(compared: ClassComparison) -> Json:
    """Return a `CategoricalDistributionPerSet` of what was counted."""
    return {
        name: {
            "counts": {
                category: round(amount)
                for category, amount in zip(compared.classes, made.amounts.tolist(), strict=True)
            },
            "metrics": {
                "giniImbalance": number(made.gini_imbalance),
                "normalizedEntropy": number(made.normalized_entropy),
            },
        }
        for name, made in compared.sets().items()
    }
