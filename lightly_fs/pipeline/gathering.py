"""Everything that is known of the candidates of a selection, before it is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.annotations.files import AnnotationFiles, SourceFiles
from lightly_fs.annotations.metadata import read_metadata
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.predictions import prediction_path, read_predictions
from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.config import RunConfig
from lightly_fs.config.selection import (
    PRETAGGING_TASK,
    BalanceStrategy,
    MetadataInput,
    PredictionsInput,
)
from lightly_fs.errors import ModelError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.inputs import Earlier, Known, read_annotations, read_query
from lightly_fs.pipeline.unmatched import ListedOnce, tell_unmatched
from lightly_fs.selection.distances import largest_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.embedding.embedder import Embedder
    from lightly_fs.pipeline.crops import CropVectors

logger = logging.getLogger(__name__)


def gather(
    this: RunContext,
    table: EmbeddedTable,
    rows: NDArray[np.int64],
    embedder: Callable[[], Embedder],
    preselected: Preselected | None = None,
) -> Known:
    """Read, predict and embed what the selection's inputs are made of.

    Args:
        this: The run.
        table: All embedded samples.
        rows: (N,) int64 candidates among the rows of the table, ascending.
        embedder: Gives the model; called only when objects are to be embedded.
        preselected: What the datapool has selected, beside the rows of the table.
    """
    config = this.config
    filenames = [table.filenames[row] for row in rows]
    files = ListedOnce(SourceFiles(this.source, this.reader))
    metadata, predictions = read_annotations(config, files, filenames)
    tell_unmatched(this, table, files, metadata, predictions)
    if config.pretagging:
        from lightly_fs.pipeline.pretagging import pretag

        predictions[PRETAGGING_TASK] = pretag(this, filenames)
    known = Known(
        table,
        rows,
        filenames,
        metadata,
        predictions,
        _objects(this, table, rows, predictions, embedder),
        _queries(config, table),
        None if preselected is None else _earlier(config, files, preselected.of(rows)),
    )
    for file in known.invalid:
        logger.warning("%s was left out: %s", file.path, file.reason)
    return known


def _earlier(config: RunConfig, files: AnnotationFiles, preselected: Preselected) -> Earlier:
    """Read what balances look at, of the samples that are selected already.

    What a detector finds, and how objects look, is known of the run's own samples alone.
    """
    entries = config.selection_config.strategies if config.selection_config else ()
    balanced = [one.input for one in entries if isinstance(one.strategy, BalanceStrategy)]
    names = preselected.filenames
    metadata = None
    if any(isinstance(one, MetadataInput) for one in balanced) and names:
        metadata = read_metadata(files, names)
    predictions = {}
    for task in {one.task for one in balanced if isinstance(one, PredictionsInput)}:
        there = set(files.list(prediction_path(task, "")[: -len(".json")]))
        some = [name for name in names if prediction_path(task, name) in there]
        if some and task != PRETAGGING_TASK:
            predictions[task] = read_predictions(files, task, some)
    return Earlier(_deciding(config, preselected), metadata, predictions)


def _deciding(config: RunConfig, preselected: Preselected) -> Preselected:
    """Return those of the preselected samples that distances to them need.

    Where distances are those of candidates as they are, these are their nearest ones alone: a
    selection then looks at no more of them than it has candidates, however large the datapool is.
    """
    as_they_are = config.selected_sequence_length == 1 and config.near_duplicates.max_distance < 0
    if not (as_they_are and len(preselected) and len(preselected.nearest)):
        return preselected
    fewer = preselected.only_nearest()
    # Embeddings that are not of unit length are measured by the longest of all.
    same_scale = largest_distance(fewer.vectors) == largest_distance(preselected.vectors)
    return fewer if same_scale else preselected


def _objects(
    this: RunContext,
    table: EmbeddedTable,
    rows: NDArray[np.int64],
    predictions: Mapping[str, Predictions],
    embedder: Callable[[], Embedder],
) -> dict[str, CropVectors]:
    """Cut and embed the objects, and the tiles, that inputs look at."""
    chosen = this.config.selection_config
    tasks = chosen.cropped() if chosen else []
    if chosen is None or not tasks:
        return {}
    from lightly_fs.annotations.crops import object_crops, tile_crops
    from lightly_fs.pipeline.crops import embed_crops

    filenames = [table.filenames[row] for row in rows]
    sizes = np.stack([table.widths[rows], table.heights[rows]], axis=1).astype(np.int64)
    tilings = {task.name: task for task in chosen.auto_tasks}
    found = {}
    for task in tasks:
        if (tiles := tilings.get(task)) is not None:
            crops = tile_crops(
                sizes, num_rows=tiles.num_rows, num_cols=tiles.num_cols, overlap=tiles.overlap
            )
        else:
            crops = object_crops(predictions[task], sizes, padding=this.config.crops.padding)
        found[task] = embed_crops(this, embedder, task, filenames, sizes, crops)
    return found


def _queries(config: RunConfig, table: EmbeddedTable) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings to be similar to, by the file that the configuration names."""
    entries = config.selection_config.strategies if config.selection_config else ()
    names = dict.fromkeys(getattr(entry.input, "query", None) for entry in entries)
    found = {name: read_query(name, config) for name in names if name}
    for name, vectors in found.items():
        if vectors.shape[1] != table.vectors.shape[1]:
            raise ModelError(
                f"`{name}` holds embeddings of {vectors.shape[1]} values, those of this run "
                f"have {table.vectors.shape[1]}",
                hint="embed both with the same model",
            )
    return found
