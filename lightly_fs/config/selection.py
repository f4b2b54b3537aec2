"""`selection_config`: what to select by, in the documented spelling. No torch, no I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lightly_fs.config.mistakes import lines_of, wrong
from lightly_fs.errors import ConfigError

PRETAGGING_TASK = "lightly_pretagging"
"""The task of the detector that `pretagging=True` runs."""

Strength = Annotated[float, Field(ge=-1e9, le=1e9)]
Text = Annotated[str, Field(min_length=1)]


def floor_of(fraction: float, n: int) -> int:
    """Return floor(fraction x n), computed on the decimal that was written.

    0.3 of 10 is 3, although 0.3 * 10 < 3 in binary would floor to 2 for some values.
    """
    return math.floor(Fraction(repr(fraction)) * n)


class _Part(BaseModel):
    """As `Frozen`; a validator of single fields would not go with unions told apart by `type`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_booleans(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, bool):
                raise wrong(f"a number or a text is expected, not {value}", str(name))
        return values


class EmbeddingsInput(_Part):
    """Embeddings of the images, or of the objects or tiles of a `task`."""

    type: Literal["EMBEDDINGS"]
    task: Text | None = None
    query: Text | None = Field(None, description="Embeddings to be similar to: a CSV or Parquet.")
    dataset_id: str | None = None
    tag_name: str | None = None


class ScoresInput(_Part):
    """An active-learning score of a task's predictions."""

    type: Literal["SCORES"]
    task: Text
    score: Text


class PredictionName(StrEnum):
    CLASS_DISTRIBUTION = "CLASS_DISTRIBUTION"
    CATEGORY_COUNT = "CATEGORY_COUNT"


class PredictionsInput(_Part):
    """What a task predicts: how much of each class, or how many objects of some classes."""

    type: Literal["PREDICTIONS"]
    task: Text
    name: PredictionName
    categories: tuple[Text, ...] | None = None

    @model_validator(mode="after")
    def _categories(self) -> PredictionsInput:
        if (self.name is PredictionName.CATEGORY_COUNT) != (self.categories is not None):
            raise wrong("`categories` belongs to CATEGORY_COUNT, which needs it", "categories")
        if self.categories is not None and not self.categories:
            raise wrong("at least one category is expected", "categories")
        twice = [name for name, n in Counter(self.categories or ()).items() if n > 1]
        if twice:
            raise wrong(f"`{twice[0]}` is there twice", "categories")
        return self


class MetadataInput(_Part):
    """A value of the custom metadata, or a measured property (`lightly.sharpness`)."""

    type: Literal["METADATA"]
    key: Text


class RandomInput(_Part):
    """A random number per sample."""

    type: Literal["RANDOM"]
    random_seed: Annotated[int, Field(ge=0)] | None = None


class DiversityStrategy(_Part):
    type: Literal["DIVERSITY"]
    stopping_condition_minimum_distance: Annotated[float, Field(ge=0, lt=math.inf)] | None = None
    strength: Strength = 1.0


class TargetRange(_Part):
    min_sum: float = Field(allow_inf_nan=False)
    max_sum: float = Field(allow_inf_nan=False)

    @model_validator(mode="after")
    def _order(self) -> TargetRange:
        if self.min_sum > self.max_sum:
            raise wrong(f"min_sum={self.min_sum:g} is above max_sum={self.max_sum:g}")
        return self


class WeightsStrategy(_Part):
    type: Literal["WEIGHTS"]
    strength: Strength = 1.0
    stopping_condition_max_sum: Annotated[float, Field(ge=0, lt=math.inf)] | None = None
    target_range: TargetRange | None = None


class Operation(StrEnum):
    SMALLER = "SMALLER"
    SMALLER_EQUAL = "SMALLER_EQUAL"
    BIGGER = "BIGGER"
    BIGGER_EQUAL = "BIGGER_EQUAL"


class ThresholdStrategy(_Part):
    type: Literal["THRESHOLD"]
    threshold: float = Field(allow_inf_nan=False)
    operation: Operation


class Distribution(StrEnum):
    TARGET = "TARGET"
    UNIFORM = "UNIFORM"
    INPUT = "INPUT"


class BalanceStrategy(_Part):
    type: Literal["BALANCE"]
    target: dict[Text, Annotated[float, Field(ge=0, le=1)]] | None = None
    distribution: Distribution | None = Field(None, description="TARGET where a target is given.")
    strength: Strength = 1.0

    @field_validator("target", mode="before")
    @classmethod
    def _labels(cls, given: object) -> object:
        """Take `true` and `1`, which YAML reads as other than texts, for the labels they are."""
        if not isinstance(given, Mapping):
            return given
        words = {True: "true", False: "false"}
        return {
            words[key]
            if isinstance(key, bool)
            else str(key)
            if isinstance(key, int)
            else key: ratio
            for key, ratio in given.items()
        }

    @model_validator(mode="after")
    def _ratios(self) -> BalanceStrategy:
        aims_at_target = self.distribution in (None, Distribution.TARGET)
        if aims_at_target and not self.target:
            raise wrong(
                "ratios by class are expected, or a `distribution` UNIFORM or INPUT", "target"
            )
        if not aims_at_target and self.target:
            raise wrong(f"{self.distribution} has no ratios; leave `target` or it out", "target")
        total = math.fsum((self.target or {}).values())
        if total > 1 + 1e-6:
            raise wrong(f"the ratios sum to {total:g}, more than 1", "target")
        return self


class SimilarityStrategy(_Part):
    type: Literal["SIMILARITY"]
    strength: Strength = 1.0


class TypicalityStrategy(_Part):
    type: Literal["TYPICALITY"]
    num_nearest_neighbors: int = Field(20, ge=2)
    stopping_condition_minimum_typicality: Annotated[float, Field(gt=0, le=1)] | None = None
    strength: Strength = 1.0


class RepresentativenessStrategy(_Part):
    type: Literal["REPRESENTATIVENESS"]
    strength: Strength = 1.0


Input = Annotated[
    EmbeddingsInput | ScoresInput | PredictionsInput | MetadataInput | RandomInput,
    Field(discriminator="type"),
]
Strategy = Annotated[
    DiversityStrategy
    | WeightsStrategy
    | ThresholdStrategy
    | BalanceStrategy
    | SimilarityStrategy
    | TypicalityStrategy
    | RepresentativenessStrategy,
    Field(discriminator="type"),
]

COMBINATIONS: Mapping[str, Sequence[str]] = {
    "EMBEDDINGS": ("DIVERSITY", "SIMILARITY", "TYPICALITY", "REPRESENTATIVENESS"),
    "SCORES": ("WEIGHTS", "THRESHOLD"),
    "METADATA": ("WEIGHTS", "THRESHOLD", "BALANCE"),
    "CLASS_DISTRIBUTION": ("BALANCE",),
    "CATEGORY_COUNT": ("WEIGHTS", "THRESHOLD"),
    "RANDOM": ("WEIGHTS", "THRESHOLD"),
}
"""Which strategies an input has. Of metadata, numbers have the first two and labels the third."""


class SelectionEntry(_Part):
    """One strategy and what it looks at."""

    input: Input
    strategy: Strategy

    @model_validator(mode="after")
    def _fit(self) -> SelectionEntry:
        given, strategy = self.input, self.strategy.type
        name = given.name.value if isinstance(given, PredictionsInput) else given.type
        if strategy not in COMBINATIONS[name]:
            fitting = ", ".join(COMBINATIONS[name])
            raise wrong(f"{strategy} cannot use {name}, which is for {fitting}", "strategy")
        if isinstance(given, EmbeddingsInput):
            self._check_embeddings(given, strategy)
        return self

    def _check_embeddings(self, given: EmbeddingsInput, strategy: str) -> None:
        if given.dataset_id or given.tag_name:
            raise wrong(
                "`dataset_id` and `tag_name` need the platform, which is not part of this "
                "version; write `query` with the embeddings file of a run instead",
                "input",
            )
        if (strategy == "SIMILARITY") != (given.query is not None):
            raise wrong("`query` belongs to SIMILARITY, which needs it", "input")
        if given.task and strategy == "REPRESENTATIVENESS":
            raise wrong("REPRESENTATIVENESS looks at images, not at the objects of a task", "input")


class TilingTask(_Part):
    """Every image cut into tiles, as if they were predicted objects."""

    type: Literal["TILING"]
    name: Text
    num_rows: int = Field(ge=1, le=100)
    num_cols: int = Field(ge=1, le=100)
    overlap: float = Field(0.0, ge=0, lt=1)


class SelectionConfig(_Part):
    """Strategies in any order, and how many samples they may select."""

    n_samples: Annotated[int, Field(ge=-1)] | None = None
    proportion_samples: Annotated[float, Field(ge=0, le=1)] | None = None
    strategies: tuple[SelectionEntry, ...] = Field(min_length=1)
    auto_tasks: tuple[TilingTask, ...] = ()
    lightly_path_regex: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> SelectionConfig:
        if (self.n_samples is None) == (self.proportion_samples is None):
            raise wrong(
                "exactly one of `n_samples` and `proportion_samples` is expected; "
                "n_samples: -1 sets no limit"
            )
        if self.lightly_path_regex:
            raise wrong("its meaning was never documented; leave it out", "lightly_path_regex")
        for name, n in Counter(task.name for task in self.auto_tasks).items():
            if n > 1:
                raise wrong(f"two tasks are called `{name}`", "auto_tasks")
        return self

    def count(self, n_usable: int) -> int | None:
        """Return how many of `n_usable` samples to select at most, or None for no limit."""
        if self.proportion_samples is not None:
            return floor_of(self.proportion_samples, n_usable)
        n_samples = -1 if self.n_samples is None else self.n_samples
        return None if n_samples == -1 else min(n_samples, n_usable)

    def tasks(self) -> list[str]:
        """Return the tasks whose predictions are needed, in the order of their first use."""
        automatic = {task.name for task in self.auto_tasks}
        used = (getattr(entry.input, "task", None) for entry in self.strategies)
        return list(dict.fromkeys(task for task in used if task and task not in automatic))

    def cropped(self) -> list[str]:
        """Return the tasks, predicted or automatic, whose objects are embedded."""
        used = (e.input.task for e in self.strategies if isinstance(e.input, EmbeddingsInput))
        return list(dict.fromkeys(task for task in used if task))


def parse_selection(given: object, where: str = "selection_config.") -> SelectionConfig:
    """Return the checked configuration.

    Args:
        given: What JSON or YAML gave.
        where: What its paths begin with in messages.

    Raises:
        ConfigError: Every mistake, one a line, with its path and what is allowed.
    """
    if not isinstance(given, Mapping):
        kind = "a list" if isinstance(given, list) else repr(given)[:60]
        raise ConfigError(
            f"`{where.rstrip('.: ')}` must hold n_samples and strategies, not {kind}",
            hint="docs/guides/selection.md has examples",
        )
    try:
        return SelectionConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(
            "\n  ".join(lines_of(error, SelectionConfig, where)),
            hint="docs/guides/selection.md lists every input and strategy",
        ) from error
