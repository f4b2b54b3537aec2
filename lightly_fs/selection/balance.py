"""`BALANCE`: prefer classes that the selection lacks most.

The classes of the selection should be distributed like the target p. The next sample is worth
p_c / (n_c + 1/2) to the selection, where n_c samples of its class c are selected: the quotient of
Webster and Sainte-Laguë, by which parliaments give out seats one at a time. Taking the largest
quotient every time minimises Pearson's chi-square distance Σ (n_c - n p_c)² / (n p_c) to the
target at every size n (Sainte-Laguë, *La représentation proportionnelle et la méthode des moindres
carrés*, 1910; Balinski & Young, *Fair Representation*, 1982). The objective is the quotient
relative to the largest one: 1 for the class that is lacked most, 1/2 for one that is lacked half as
much. What a pick changes of the distance itself would fade as 1/n, and leave the product to the
other strategies.

A sample with amounts of several classes is worth the mean of their quotients, weighted by the
amounts. One without any leaves the distribution as it is, and is worth the mean over what is
selected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.selection.strategies import Goal

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVERY = slice(None)
REST = None
"""The bin of all classes that a target does not name."""


@dataclass
class Shares:
    """Classes of the selection so far; changes with every pick.

    Attributes:
        target: (C,) ratios.
        counts: (C,) how much of each class is selected.
        occurs: (C,) whether any candidate has it.
    """

    target: NDArray[np.float64]
    counts: NDArray[np.float64]
    occurs: NDArray[np.bool_]

    def worth(self) -> NDArray[np.float64]:
        """Return (C,) what a sample of each class is worth, 1 for the most lacked that occurs."""
        quotients = self.target / (self.counts + 0.5)
        most = quotients[self.occurs].max(initial=0.0)
        return quotients / most if most > 0 else np.ones(len(quotients))

    def fresh(self) -> Shares:
        return replace(self, counts=self.counts.copy())


@dataclass
class LabelBalance:
    """One class per sample: (N,) `members` are indices of the classes."""

    shares: Shares
    members: NDArray[np.int64]
    strength: float

    def fresh(self) -> LabelBalance:
        """Return it with counts of its own."""
        return replace(self, shares=self.shares.fresh())

    def objectives(self, rows: slice | NDArray[np.int64] = EVERY) -> NDArray[np.float64]:
        """Return the rows' objectives of being picked next."""
        worth: NDArray[np.float64] = self.shares.worth()[self.members[rows]]
        return worth

    def add(self, row: int) -> None:
        """Count a pick."""
        self.shares.counts[self.members[row]] += 1.0


@dataclass
class AmountBalance:
    """Amounts of every class in each sample: `amounts` is (N, C), `totals` (N,) their sums."""

    shares: Shares
    amounts: NDArray[np.float64]
    totals: NDArray[np.float64]
    strength: float

    def fresh(self) -> AmountBalance:
        """Return it with counts of its own."""
        return replace(self, shares=self.shares.fresh())

    def objectives(self, rows: slice | NDArray[np.int64] = EVERY) -> NDArray[np.float64]:
        """Return the rows' objectives of being picked next."""
        worth = self.shares.worth()
        totals = self.totals[rows]
        result = np.zeros(len(totals))
        for column, value in enumerate(worth):  # one order of summation
            result += self.amounts[rows, column] * value
        held = self.shares.counts if self.shares.counts.any() else self.shares.target
        neutral = math.fsum(held * worth) / (math.fsum(held) or 1.0)
        empty = totals == 0.0
        result[empty] = neutral
        return result / np.where(empty, 1.0, totals)

    def add(self, row: int) -> None:
        """Count a pick."""
        self.shares.counts += self.amounts[row]


def by_label(
    labels: Sequence[str],
    preselected: Sequence[str],
    goal: Goal,
    target: Mapping[str, float],
    strength: float,
) -> LabelBalance:
    """Return the balance of one class per sample."""
    here = Counter(labels)
    bins = _bins({*here, *preselected}, goal, target)
    place = {label: index for index, label in enumerate(bins)}
    rest = len(bins) - 1
    members = np.array([place.get(label, rest) for label in labels], np.int64)
    given = np.array([place.get(label, rest) for label in preselected], np.int64)
    amounts = np.bincount(members, minlength=len(bins)).astype(np.float64)
    counts = np.bincount(given, minlength=len(bins)).astype(np.float64)
    return LabelBalance(
        Shares(_ratios(bins, goal, target, amounts), counts, amounts > 0), members, strength
    )


def by_amounts(
    classes: Sequence[str],
    amounts: NDArray[np.float64],
    preselected: NDArray[np.float64] | None,
    balanced: tuple[Goal, Mapping[str, float], float],
) -> AmountBalance:
    """Return the balance of class amounts; `balanced` is goal, target and strength."""
    goal, target, strength = balanced
    bins = _bins(set(classes), goal, target)
    given = np.zeros((0, len(classes))) if preselected is None else preselected
    merged = _merge(classes, bins, amounts)
    counts = np.array([math.fsum(column) for column in _merge(classes, bins, given).T])
    sums = np.array([math.fsum(column) for column in merged.T])
    totals = np.zeros(len(merged))
    for column in merged.T:
        totals += column
    shares = Shares(_ratios(bins, goal, target, sums), counts, sums > 0)
    return AmountBalance(shares, merged, totals, strength)


def _bins(labels: set[str], goal: Goal, target: Mapping[str, float]) -> list[str | None]:
    """Return the classes in order; for a target, those that it names and the bin of the others."""
    return [*sorted(target), REST] if goal == Goal.TARGET else [*sorted(labels)]


def _ratios(
    bins: Sequence[str | None],
    goal: Goal,
    target: Mapping[str, float],
    amounts: NDArray[np.float64],
) -> NDArray[np.float64]:
    if goal == Goal.TARGET:
        rest = max(1.0 - math.fsum(target.values()), 0.0)
        return np.array([rest if label is None else target[label] for label in bins])
    if goal == Goal.UNIFORM:
        return np.full(len(bins), 1.0 / max(len(bins), 1))
    return amounts / (math.fsum(amounts) or 1.0)


def _merge(
    classes: Sequence[str], bins: Sequence[str | None], amounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N, bins) amounts, those of classes without a bin of their own in the last."""
    merged = np.zeros((len(amounts), len(bins)))
    places = {label: place for place, label in enumerate(bins)}
    for index in sorted(range(len(classes)), key=classes.__getitem__):
        merged[:, places.get(classes[index], len(bins) - 1)] += amounts[:, index]
    return merged
