"""Strategies as a reader knows them: what each does, what it looks at, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightly_fs.config import selection as asked
from lightly_fs.report.lettering import percent, shown

_SIGNS = {"SMALLER": "<", "SMALLER_EQUAL": "≤", "BIGGER": ">", "BIGGER_EQUAL": "≥"}
_CLASS = 24
"""Characters of a class's name; longer ones lose their middle."""
MAX_RATIOS = 8


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """A strategy of the configuration in words.

    Attributes:
        name: `Diversity`, `Balance` …
        looks_at: The kind of its input, such as `embeddings` or `metadata`.
        of: Which one: names of tasks, keys, classes, which are not ours; empty where there is but
            one.
        parameters: All that was set beside the strength.
        strength: None for thresholds, which have none.
    """

    name: str
    looks_at: str
    of: str
    parameters: str
    strength: float | None

    @property
    def title(self) -> str:
        """The strategy in one line, without its parameters."""
        return f"{self.name}: {self.looks_at} {self.of}".rstrip()


def strategy_row(entry: asked.SelectionEntry) -> StrategyRow:
    """Return a strategy of the configuration in words."""
    looks_at, of = _input(entry.input)
    return StrategyRow(
        entry.strategy.type.capitalize(),
        looks_at,
        of,
        _parameters(entry),
        getattr(entry.strategy, "strength", None),
    )


def _input(given: asked.Input) -> tuple[str, str]:
    """Return the kind of an input, and which one it is."""
    match given:
        case asked.EmbeddingsInput(task=None):
            kind, of = "embeddings", ""
        case asked.EmbeddingsInput(task=task):
            kind, of = "embeddings of crops of", task or ""
        case asked.ScoresInput():
            kind, of = "score", f"{given.score} of {given.task}"
        case asked.PredictionsInput(categories=None):
            kind, of = "classes of", given.task
        case asked.PredictionsInput(categories=categories):
            kind, of = "number of objects", f"{', '.join(categories or ())} of {given.task}"
        case asked.MetadataInput():
            kind, of = "metadata", given.key
        case asked.RandomInput(random_seed=seed):
            kind, of = "random numbers", "" if seed is None else f"seed {seed}"
    return kind, of


def _parameters(entry: asked.SelectionEntry) -> str:
    """Return what was set beside the strength."""
    words = ""
    match entry.strategy:
        case asked.DiversityStrategy(stopping_condition_minimum_distance=least):
            words = "" if least is None else f"at least {least:g} apart"
        case asked.WeightsStrategy() as weights:
            words = _sums(weights)
        case asked.ThresholdStrategy(threshold=threshold, operation=operation):
            words = f"{_SIGNS[operation.value]} {threshold:g}"
        case asked.BalanceStrategy(target=target) if target:
            words = _ratios(target)
        case asked.BalanceStrategy(distribution=distribution):
            even = distribution is asked.Distribution.UNIFORM
            words = "all classes alike" if even else "as in the input"
        case asked.SimilarityStrategy():
            words = f"to {getattr(entry.input, 'query', '')}"
        case asked.TypicalityStrategy() as typicality:
            words = f"{typicality.num_nearest_neighbors} neighbours"
            if (least := typicality.stopping_condition_minimum_typicality) is not None:
                words += f", at least {least:g}"
        case asked.RepresentativenessStrategy():
            pass
    return words


def _sums(weights: asked.WeightsStrategy) -> str:
    words = []
    if weights.target_range is not None:
        low, high = weights.target_range.min_sum, weights.target_range.max_sum
        words.append(f"sum between {low:g} and {high:g}")
    if weights.stopping_condition_max_sum is not None:
        words.append(f"ends at a sum of {weights.stopping_condition_max_sum:g}")
    return ", ".join(words)


def _ratios(target: Mapping[str, float]) -> str:
    words = [f"{shown(name, _CLASS)} {percent(ratio, 1)}" for name, ratio in target.items()]
    more = len(words) - MAX_RATIOS
    if more > 0:
        words = [*words[:MAX_RATIOS], f"{more:,} more"]
    rest = max(0.0, 1.0 - sum(target.values()))
    others = f", others {percent(rest, 1)}" if rest > 1e-6 else ""
    return ", ".join(words) + others
