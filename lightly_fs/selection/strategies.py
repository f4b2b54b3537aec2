"""What a user may ask of a selection: one frozen value per strategy.

`input` names an input of the `Pool`. `strength` is the power of the strategy's objective in the
product that decides: 0 switches it off (its stopping conditions stay), negative turns it round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightly_fs.config import selection as asked
from lightly_fs.errors import ConfigError

MAX_STRENGTH = 1e9


Operation = asked.Operation
Goal = asked.Distribution
"""What `Balance` brings the selected classes close to."""


@dataclass(frozen=True)
class Diversity:
    """Prefer what is far from everything selected; nothing nearer than `minimum_distance` (L2)."""

    input: str
    strength: float = 1.0
    minimum_distance: float = 0.0


@dataclass(frozen=True)
class Weights:
    """Prefer high numbers; stop when their sum over the picks reaches `max_sum`.

    With `target_range` (min_sum, max_sum), prefer instead what keeps the sum on its way there.
    """

    input: str
    strength: float = 1.0
    max_sum: float | None = None
    target_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Threshold:
    """Keep only samples whose number satisfies the operation."""

    input: str
    operation: Operation
    threshold: float


@dataclass(frozen=True)
class Balance:
    """Prefer classes that the selection lacks most; `target` gives ratios for `Goal.TARGET`."""

    input: str
    goal: Goal = Goal.TARGET
    target: Mapping[str, float] = field(default_factory=dict)
    strength: float = 1.0


@dataclass(frozen=True)
class Similarity:
    """Prefer what is near to one of the pool's query embeddings."""

    input: str
    query: str
    strength: float = 1.0


@dataclass(frozen=True)
class Typicality:
    """Prefer dense regions; nothing less typical than `minimum_typicality`."""

    input: str
    num_nearest_neighbors: int = 20
    minimum_typicality: float = 0.0
    strength: float = 1.0


@dataclass(frozen=True)
class Representativeness:
    """Prefer what stands for many samples that nothing selected stands for (facility location)."""

    input: str
    strength: float = 1.0


Strategy = Diversity | Weights | Threshold | Balance | Similarity | Typicality | Representativeness


@dataclass(frozen=True)
class Limits:
    """When to stop whatever the strategies say: at most `n_samples` picks, None for no limit."""

    n_samples: int | None = None


def canonical_order(strategies: list[Strategy]) -> list[int]:
    """Return positions such that the order in the configuration changes no rounding."""

    def key(position: int) -> tuple[str, str]:
        strategy = strategies[position]
        values = sorted(
            (name, sorted(value.items()) if isinstance(value, Mapping) else value)
            for name, value in vars(strategy).items()
        )
        return type(strategy).__name__, repr(values)

    return sorted(range(len(strategies)), key=key)


def check(strategy: Strategy) -> None:
    """Raise `ConfigError` for values that mean nothing."""
    name = f"{type(strategy).__name__.upper()} of {strategy.input!r}"
    if not isinstance(strategy, Threshold) and not abs(strategy.strength) <= MAX_STRENGTH:
        raise ConfigError(f"the strength of {name} is {strategy.strength}, not between ±1e9")
    match strategy:
        case Threshold(threshold=threshold) if not math.isfinite(threshold):
            raise ConfigError(f"the threshold of {name} is {threshold}, not a number")
        case Diversity(minimum_distance=least) if not 0 <= least < math.inf:
            raise ConfigError(f"the minimum distance of {name} is {least}, not 0 or more")
        case Typicality(num_nearest_neighbors=count) if count < 2:
            raise ConfigError(f"{name} looks at {count} neighbours; it takes at least 2")
        case Typicality(minimum_typicality=least) if not 0 <= least <= 1:
            raise ConfigError(f"the minimum typicality of {name} is {least}, not from 0 to 1")
        case Weights(max_sum=float() | int() as most) if not most >= 0:
            raise ConfigError(f"the max_sum of {name} is {most}, not 0 or more")
        case Weights(target_range=(low, high)) if not -math.inf < low <= high < math.inf:
            raise ConfigError(f"the target_range of {name} is {low} to {high}, which holds nothing")
        case Balance():
            _check_target(strategy, name)
        case _:
            pass


def _check_target(strategy: Balance, name: str) -> None:
    if (strategy.goal == Goal.TARGET) != bool(strategy.target):
        raise ConfigError(
            f"{name} has the goal {strategy.goal} and {len(strategy.target)} ratios",
            hint="ratios per class belong to TARGET, and only to it",
        )
    for label, ratio in strategy.target.items():
        if not 0 <= ratio <= 1:
            raise ConfigError(f"the ratio of {label!r} in {name} is {ratio}, not from 0 to 1")
    if math.fsum(strategy.target.values()) > 1 + 1e-6:
        total = math.fsum(strategy.target.values())
        raise ConfigError(f"the ratios of {name} sum to {total:g}, more than 1")
