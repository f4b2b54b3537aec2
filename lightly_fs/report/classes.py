"""How evenly classes are distributed in the input, the selection and a random choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.selection import Categories, ClassAmounts
from lightly_fs.report.statistics import Sets


@dataclass(frozen=True, eq=False)
class ClassDistribution:
    """What a set has of each class.

    Attributes:
        amounts: (C,) float64, whole numbers where things were counted.
        gini_imbalance: 0 when all classes have the same share, 1 when one has everything.
        normalized_entropy: 1 when all classes have the same share, 0 when one has everything.
    """

    amounts: NDArray[np.float64]
    gini_imbalance: float
    normalized_entropy: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """(C,) of the sum of all; zeros when there is nothing."""
        total = self.amounts.sum()
        return self.amounts / total if total > 0 else np.zeros(len(self.amounts))


@dataclass(frozen=True, eq=False)
class ClassComparison:
    """Attributes: `target` holds ratios by class; empty when nothing was aimed at."""

    classes: tuple[str, ...]
    input: ClassDistribution
    selected: ClassDistribution
    random: ClassDistribution
    target: Mapping[str, float] = field(default_factory=dict)

    def sets(self) -> dict[str, ClassDistribution]:
        return {"input": self.input, "selected": self.selected, "random": self.random}


def gini_imbalance(amounts: NDArray[np.float64]) -> float:
    """Return the Gini coefficient of (C,) amounts over its largest value, (C - 1) / C.

    0 for one class, and where there is nothing.
    """
    total = float(amounts.sum())
    if len(amounts) < 2 or total <= 0:
        return 0.0
    n = len(amounts)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(amounts)) / (total * (n - 1))


def normalized_entropy(amounts: NDArray[np.float64]) -> float:
    """Return the entropy of (C,) amounts over that of C equal ones.

    1 for one class, which is as even as it can be; 0 where there is nothing.
    """
    total = float(amounts.sum())
    if total <= 0:
        return 0.0
    if len(amounts) < 2:
        return 1.0
    shares = amounts[amounts > 0] / total
    return max(0.0, float(-(shares * np.log(shares)).sum() / np.log(len(amounts))))


def compare_classes(
    classes: Sequence[str],
    amounts: Mapping[str, NDArray[np.float64]],
    target: Mapping[str, float] | None = None,
) -> ClassComparison:
    """Return the sets' (C,) amounts side by side.

    How even they are is measured over the classes that the input has, the same for all sets.
    Classes that only the target names have none of it.
    """
    target = target or {}
    present = amounts["input"] > 0
    missing = [name for name in target if name not in set(classes)]
    made = {
        name: ClassDistribution(
            np.concatenate([given, np.zeros(len(missing))]),
            gini_imbalance(given[present]),
            normalized_entropy(given[present]),
        )
        for name, given in amounts.items()
    }
    return ClassComparison((*classes, *missing), target=target, **made)


def compare_labels(
    given: Categories, sets: Sets, target: Mapping[str, float] | None = None
) -> ClassComparison:
    """Return how often each label occurs in the sets."""
    n = len(given.labels)
    amounts = {}
    for name, rows in sets.rows().items():
        codes = given.codes[rows]
        amounts[name] = np.bincount(codes[codes >= 0], minlength=n).astype(np.float64)
    return compare_classes(given.labels, amounts, target)


def compare_amounts(
    given: ClassAmounts, sets: Sets, target: Mapping[str, float] | None = None
) -> ClassComparison:
    """Return the sums of the sets' amounts."""
    amounts = {
        "input": given.amounts.sum(axis=0, dtype=np.float64),
        "selected": given.amounts[sets.selected].sum(axis=0, dtype=np.float64),
        "random": given.amounts[sets.random].sum(axis=0, dtype=np.float64),
    }
    return compare_classes(given.classes, amounts, target)


def off_target(compared: ClassComparison, made: ClassDistribution) -> float | None:
    """Return the share of a set that would have to be of other classes to meet the target.

    Half the sum of the differences to it, all classes that it does not name taken together; None
    without a target, and for a set that has nothing.
    """
    if not compared.target or not made.amounts.any():
        return None
    shares: dict[str, float] = dict(zip(compared.classes, made.shares.tolist(), strict=True))
    gaps = [shares.get(name, 0.0) - ratio for name, ratio in compared.target.items()]
    named = sum(shares.get(name, 0.0) for name in compared.target)
    rest = max(1.0 - sum(compared.target.values()), 0.0)
    return (sum(map(abs, gaps)) + abs(1.0 - named - rest)) / 2


@dataclass(frozen=True, eq=False)
class Bar:
    """A class in a chart, with its share of each set; `target` is None where none was set."""

    name: str
    input: float
    selected: float
    random: float
    target: float | None = None


def bars(compared: ClassComparison, most: int) -> tuple[list[Bar], int]:
    """Return the classes to draw, and how many others the last bar sums up (0 for none).

    Classes with a target come first, then by their share of the input, the selection, and name.
    """
    shares = [made.shares for made in compared.sets().values()]
    order = sorted(
        range(len(compared.classes)),
        key=lambda i: (
            -compared.target.get(compared.classes[i], -1.0),
            *(-float(share[i]) for share in shares[:2]),
            compared.classes[i],
        ),
    )
    order = [
        i
        for i in order
        if compared.classes[i] in compared.target or any(share[i] > 0 for share in shares)
    ]
    shown = order if len(order) <= most + 1 else order[:most]
    made = [
        Bar(
            name=compared.classes[i],
            input=float(shares[0][i]),
            selected=float(shares[1][i]),
            random=float(shares[2][i]),
            target=compared.target.get(compared.classes[i]),
        )
        for i in shown
    ]
    rest = order[len(shown) :]
    if rest:
        before, after, drawn = (float(share[rest].sum()) for share in shares)
        made.append(Bar(f"{len(rest):,} other classes", before, after, drawn))
    return made, len(rest)
