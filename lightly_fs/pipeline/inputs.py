"""What a selection looks at: the inputs of `selection_config`, as a pool of candidates."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightly_fs.annotations.files import AnnotationFiles, InvalidFile
from lightly_fs.annotations.metadata import (
    RESERVED,
    Metadata,
    NumericColumn,
    read_metadata,
    read_metadata_schema,
)
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.predictions import (
    category_count,
    class_distribution,
    read_predictions,
)
from lightly_fs.annotations.scores import SCORE_NAMES, score_named
from lightly_fs.annotations.tasks import TaskSchema, TaskType, read_schema
from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.config import PropertiesMode, RunConfig
from lightly_fs.config import selection as asked
from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.properties import PROPERTIES
from lightly_fs.selection import pool as inputs
from lightly_fs.selection import strategies
from lightly_fs.selection.random import random_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.pipeline.crops import CropVectors

WITH_OBJECTS = (
    TaskType.OBJECT_DETECTION,
    TaskType.KEYPOINT_DETECTION,
    TaskType.INSTANCE_SEGMENTATION,
)
"""Tasks whose predictions are places in an image, so that they can be cut out."""

_PROPERTY = RESERVED + "."
_ALIKE = 0.75
"""How near (1: the same) a name must be to be suggested."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """What is known of the samples that a datapool has selected.

    Attributes:
        samples: Names and embeddings.
        metadata: Of all of them; None when no balance asks for any.
        predictions: By task, of those that have some; the tasks that balances look at.
    """

    samples: Preselected
    metadata: Metadata | None = None
    predictions: Mapping[str, Predictions] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Known:
    """Everything that inputs are made of, for N candidates.

    Attributes:
        table: All embedded samples.
        rows: (N,) int64 candidates among them, ascending.
        filenames: Theirs.
        metadata: Of the candidates; None when no input asks for any.
        predictions: By task, those that inputs ask for and those of pretagging.
        objects: By task, the embeddings of objects or tiles.
        queries: (Q, D) embeddings to be similar to, by the file that gave them.
        earlier: What is selected already; None without a datapool.
    """

    table: EmbeddedTable
    rows: NDArray[np.int64]
    filenames: Sequence[str]
    metadata: Metadata | None = None
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    objects: Mapping[str, CropVectors] = field(default_factory=dict)
    queries: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    earlier: Earlier | None = None

    @property
    def invalid(self) -> list[InvalidFile]:
        """Annotation files that were left out, with reasons."""
        found = [] if self.metadata is None else list(self.metadata.invalid)
        return found + [file for one in self.predictions.values() for file in one.invalid]


def title(given: asked.Input) -> str:
    """Return what reports and messages call an input; equal inputs have equal titles."""
    match given:
        case asked.EmbeddingsInput(task=task):
            return f"EMBEDDINGS {task}" if task else "EMBEDDINGS"
        case asked.ScoresInput():
            return f"SCORES {given.task} {given.score}"
        case asked.PredictionsInput(categories=None):
            return f"PREDICTIONS {given.task} {given.name.value}"
        case asked.PredictionsInput():
            return (
                f"PREDICTIONS {given.task} {given.name.value} {', '.join(given.categories or ())}"
            )
        case asked.MetadataInput():
            return f"METADATA {given.key}"
        case asked.RandomInput():
            seed = "" if given.random_seed is None else f" {given.random_seed}"
            return f"RANDOM{seed}"


def build_pool(config: RunConfig, known: Known) -> inputs.Pool:
    """Return the candidates with their embeddings and every input that the selection names.

    Raises:
        ConfigError: An input does not exist, or is not of the kind that its strategy needs.
    """
    entries = config.selection_config.strategies if config.selection_config else ()
    whole = len(known.rows) == len(known.table)
    vectors = known.table.vectors if whole else known.table.vectors[known.rows]
    earlier = None if known.earlier is None else known.earlier.samples.vectors
    made: dict[str, inputs.Input] = {"EMBEDDINGS": inputs.Embeddings(vectors, earlier)}
    for given in (entry.input for entry in entries):
        if title(given) not in made:
            made[title(given)] = _GIVERS[given.type](known, given, config)
    return inputs.Pool(known.filenames, made, known.queries)


def engine_strategy(entry: asked.SelectionEntry) -> strategies.Strategy:
    """Return a strategy as the engine knows it; its input is called by its title."""
    name, given = title(entry.input), entry.strategy
    made: strategies.Strategy
    match given:
        case asked.DiversityStrategy():
            least = given.stopping_condition_minimum_distance or 0.0
            made = strategies.Diversity(name, given.strength, least)
        case asked.WeightsStrategy():
            span = given.target_range
            made = strategies.Weights(
                name,
                given.strength,
                given.stopping_condition_max_sum,
                None if span is None else (span.min_sum, span.max_sum),
            )
        case asked.ThresholdStrategy():
            made = strategies.Threshold(name, given.operation, given.threshold)
        case asked.BalanceStrategy():
            goal = given.distribution or asked.Distribution.TARGET
            made = strategies.Balance(name, goal, given.target or {}, given.strength)
        case asked.SimilarityStrategy():
            query = getattr(entry.input, "query", None) or ""
            made = strategies.Similarity(name, query, given.strength)
        case asked.TypicalityStrategy():
            least = given.stopping_condition_minimum_typicality or 0.0
            made = strategies.Typicality(name, given.num_nearest_neighbors, least, given.strength)
        case asked.RepresentativenessStrategy():
            made = strategies.Representativeness(name, given.strength)
    return made


def describe(entry: asked.SelectionEntry) -> str:
    """Return a strategy and its input in one line, as reports show it."""
    words = [entry.strategy.type, "of", title(entry.input)]
    match entry.strategy:
        case asked.ThresholdStrategy(threshold=threshold, operation=operation):
            signs = {"SMALLER": "<", "SMALLER_EQUAL": "<=", "BIGGER": ">", "BIGGER_EQUAL": ">="}
            words = [*words, signs[operation.value], f"{threshold:g}"]
        case asked.BalanceStrategy(distribution=distribution):
            words.append(f"({(distribution or asked.Distribution.TARGET).value})")
        case asked.SimilarityStrategy():
            words += ["to", str(getattr(entry.input, "query", ""))]
        case _:
            pass
    strength = getattr(entry.strategy, "strength", 1.0)
    return " ".join(words) + (f", strength {strength:g}" if strength != 1 else "")


def read_annotations(
    config: RunConfig, files: AnnotationFiles, filenames: Sequence[str]
) -> tuple[Metadata | None, dict[str, Predictions]]:
    """Return the custom metadata and the predictions that the selection's inputs name.

    Raises:
        DatasourceError: A schema is missing or invalid, or not one file is valid.
    """
    chosen = config.selection_config
    if chosen is None:
        return None, {}
    keys = _metadata_keys(chosen)
    custom = any(not key.startswith(_PROPERTY) for key in keys)
    metadata = read_metadata(files, filenames) if custom else None
    tasks = [task for task in chosen.tasks() if task != asked.PRETAGGING_TASK]
    return metadata, {task: read_predictions(files, task, filenames) for task in tasks}


def check_inputs(config: RunConfig, files: AnnotationFiles) -> None:
    """Let mistakes show before a single image is read: tasks, classes, keys and files.

    Raises:
        ConfigError: An input names what there is not.
        DatasourceError: A schema is missing or invalid.
    """
    chosen = config.selection_config
    if chosen is None:
        return
    if config.embeddings and chosen.cropped() and not config.enable_training:
        raise ConfigError(
            f"the objects of `{chosen.cropped()[0]}` cannot be embedded by a CSV file",
            hint="leave `embeddings` out, or the strategy that looks at objects",
        )
    custom = [key for key in _metadata_keys(chosen) if not key.startswith(_PROPERTY)]
    entries = {one.path: one for one in read_metadata_schema(files)} if custom else {}
    for place, entry in enumerate(chosen.strategies):
        if isinstance(given := entry.input, asked.MetadataInput):
            where = f"selection_config.strategies[{place}].input.key"
            _require(given.key, _known_keys(given.key, entries), where, "metadata")
    if config.properties is PropertiesMode.OFF:
        _refuse_properties(chosen)
    numeric = {key: key not in custom or entries[key].numeric for key in _metadata_keys(chosen)}
    schemas = {task: read_schema(files, task) for task in _read_tasks(chosen, config)}
    for place, entry in enumerate(chosen.strategies):
        where = f"selection_config.strategies[{place}]"
        if isinstance(entry.input, asked.MetadataInput):
            is_number = numeric[entry.input.key]
            _check_kind(entry.strategy, where, numeric=is_number, classes=not is_number)
        if (task := getattr(entry.input, "task", None)) in schemas:
            _check_task(entry, schemas[task], where)
        if query := getattr(entry.input, "query", None):
            read_query(query, config)


def read_query(query: str, config: RunConfig) -> NDArray[np.float32]:
    """Return the (Q, D) embeddings that samples are to be similar to.

    Raises:
        ConfigError: There is no such file.
        ModelError: It breaks the format, or an embedding is zero.
    """
    from lightly_fs.embedding.csv import read_vectors

    path = Path(config.shared_dir) / query
    if not path.is_file():
        raise ConfigError(
            f"there is no `{path}` to be similar to",
            hint="`query` is a CSV or Parquet of embeddings, relative to `shared_dir`; "
            "a run writes data/selected_embeddings.csv",
        )
    vectors = read_vectors(path)
    if not len(vectors) or not vectors.any(axis=1).all():
        raise ModelError(
            f"{path} holds {'an embedding of zeros' if len(vectors) else 'no embedding'}",
            hint="nothing is similar to that",
        )
    return vectors


def _metadata_keys(chosen: asked.SelectionConfig) -> list[str]:
    found = [e.input.key for e in chosen.strategies if isinstance(e.input, asked.MetadataInput)]
    return list(dict.fromkeys(found))


def _read_tasks(chosen: asked.SelectionConfig, config: RunConfig) -> list[str]:
    """Return the tasks that the bucket has to have; that of pretagging is made by the run."""
    tasks = chosen.tasks()
    if asked.PRETAGGING_TASK in tasks and not config.pretagging:
        raise ConfigError(
            f"the selection looks at `{asked.PRETAGGING_TASK}`, but there is no pretagging",
            hint="set pretagging=True",
        )
    return [task for task in tasks if task != asked.PRETAGGING_TASK]


def _known_keys(key: str, entries: Collection[str]) -> list[str]:
    """Return the keys that a key may have been meant to be: measured, or of the schema."""
    measured = [_PROPERTY + name for name in PROPERTIES]
    return measured if key.startswith(_PROPERTY) else list(entries)


def _refuse_properties(chosen: asked.SelectionConfig) -> None:
    for key in (key for key in _metadata_keys(chosen) if key.startswith(_PROPERTY)):
        raise ConfigError(
            f"the selection looks at `{key}`, but properties=off measures nothing",
            hint="leave `properties` out",
        )


def _check_task(entry: asked.SelectionEntry, schema: TaskSchema, where: str) -> None:
    """Check what an input says of a task against the task's schema."""
    given = entry.input
    if isinstance(given, asked.EmbeddingsInput) and schema.task_type not in WITH_OBJECTS:
        raise ConfigError(
            f"`{where}.input.task`: `{schema.name}` is {schema.task_type.value}, which has no "
            "objects to cut out",
            hint="objects are those of " + ", ".join(one.value for one in WITH_OBJECTS),
        )
    if isinstance(given, asked.ScoresInput):
        names = SCORE_NAMES[schema.task_type]
        _require(given.score, names, f"{where}.input.score", "score")
    named: Sequence[str] = getattr(given, "categories", None) or ()
    place = f"{where}.input.categories"
    if isinstance(given, asked.PredictionsInput) and isinstance(
        entry.strategy, asked.BalanceStrategy
    ):
        named, place = list(entry.strategy.target or {}), f"{where}.strategy.target"
    for name in named:
        _require(name, schema.category_names, place, f"category of `{schema.name}`")


def _require(name: str, known: Collection[str], where: str, kind: str) -> None:
    """Raise `ConfigError`, with what may have been meant, when there is no such name."""
    if name in known:
        return
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=_ALIKE)
    meant = f"; did you mean `{near[0]}`?" if near else ""
    raise ConfigError(
        f"`{where}`: there is no {kind} `{name}`{meant}",
        hint=f"there are {', '.join(list(known)) or 'none'}",
    )


def _check_kind(strategy: asked.Strategy, where: str, *, numeric: bool, classes: bool) -> None:
    if isinstance(strategy, asked.BalanceStrategy) and not classes:
        raise ConfigError(
            f"`{where}`: BALANCE needs classes, and this input is a number",
            hint="WEIGHTS and THRESHOLD look at numbers",
        )
    if isinstance(strategy, asked.WeightsStrategy | asked.ThresholdStrategy) and not numeric:
        raise ConfigError(
            f"`{where}`: {strategy.type} needs a number, and this input is a label",
            hint="BALANCE looks at labels",
        )


def _embeddings(known: Known, given: Any, _config: RunConfig) -> inputs.Input:  # noqa: ANN401
    found = known.objects[given.task]
    return inputs.ObjectEmbeddings(found.vectors, found.offsets)


def _scores(known: Known, given: Any, _config: RunConfig) -> inputs.Input:  # noqa: ANN401
    return inputs.Numeric(score_named(known.predictions[given.task], given.score))


def _predictions(known: Known, given: Any, _config: RunConfig) -> inputs.Input:  # noqa: ANN401
    predictions = known.predictions[given.task]
    if given.name is asked.PredictionName.CATEGORY_COUNT:
        return inputs.Numeric(category_count(predictions, given.categories))
    amounts = class_distribution(predictions).astype(np.float64)
    before = None if known.earlier is None else known.earlier.predictions.get(given.task)
    selected = None if before is None else class_distribution(before).astype(np.float64)
    return inputs.Distributions(predictions.schema.category_names, amounts, selected)


def _metadata(known: Known, given: Any, _config: RunConfig) -> inputs.Input:  # noqa: ANN401
    name = given.key.removeprefix(_PROPERTY)
    if name != given.key:
        return inputs.Numeric(known.table.properties[name][known.rows])
    if known.metadata is None:
        raise ValueError("the metadata was not read")
    column = known.metadata.columns[given.key]
    if isinstance(column, NumericColumn):
        return inputs.Numeric(column.values)
    labels = [column.labels[code] for code in column.codes]
    return inputs.Categorical(labels, _earlier_labels(known.earlier, given.key))


def _earlier_labels(earlier: Earlier | None, key: str) -> Sequence[str]:
    """Return the labels of the samples that are selected already, of those that have any."""
    if earlier is None or earlier.metadata is None:
        return ()
    column = earlier.metadata.columns[key]
    if isinstance(column, NumericColumn):
        raise TypeError(f"{key} is no label")  # it is one in the schema of the same run
    return [column.labels[code] for code in column.codes[earlier.metadata.described]]


def _random(known: Known, given: Any, config: RunConfig) -> inputs.Input:  # noqa: ANN401
    seed = config.seed if given.random_seed is None else given.random_seed
    return inputs.Numeric(random_numbers(known.filenames, seed))


_GIVERS: Mapping[str, Callable[[Known, Any, RunConfig], inputs.Input]] = {
    "EMBEDDINGS": _embeddings,
    "SCORES": _scores,
    "PREDICTIONS": _predictions,
    "METADATA": _metadata,
    "RANDOM": _random,
}
