"""The last stage: tables, lists, copies and the report are made locally, then published."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightly_fs.artifacts import Results, dump_images, require_all, write_results
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.artifacts.tables import write_csv
from lightly_fs.datasource.source import Source
from lightly_fs.decoding.export import exporter, suffix_of
from lightly_fs.decoding.images import CorruptImage, thumbnail
from lightly_fs.errors import ArtifactError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.datapool import OUTCOME, RECORD, PoolRun, outcome_json
from lightly_fs.pipeline.explaining import left_over
from lightly_fs.pipeline.facts import selection_facts
from lightly_fs.pipeline.last_pick import last_pick, write_last_pick
from lightly_fs.pipeline.selecting import Choice
from lightly_fs.report import ReportInput, build_report, write_report
from lightly_fs.types import Counts, Failure, ModelInfo, RunFacts, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def finish(this: RunContext, choice: Choice, training: Sequence[Mapping[str, Any]] = ()) -> Counts:
    """Write everything and commit the manifest; return the sums.

    Args:
        training: What was measured while the model was trained, epoch by epoch.

    Raises:
        ArtifactError: The sums do not hold, or an artifact could not be written whole.
    """
    since = time.monotonic()
    this.progress(Stage.REPORT, 0, None, "writing tables")
    results = _nearest_selected(choice.results)
    counts = results.counts(len(this.inventory))
    wrong = counts.check()
    if wrong:
        raise ArtifactError(f"the sums of {this.run_dir.uri} do not hold: {wrong}")
    write_results(results, this.staging, this.config)
    if (last := last_pick(this.config, replace(choice, results=results))) is not None:
        write_last_pick(last, this.staging)
    if results.preselected is not None and len(results.preselected):
        _write_added(results, results.preselected, this.staging)
    model = this.run_dir.model()
    if model is None:
        raise ArtifactError(f"{this.run_dir.uri} does not say which model made its embeddings")
    this.progress(Stage.REPORT, 0, None, "drawing")
    given = _report_input(this, results, counts, model)
    facts = selection_facts(this.config, replace(choice, results=results))
    report = build_report(replace(given, training=training, strategies=facts))
    write_report(report, this.staging)
    logger.info("Writing report to %s", this.run_dir.uri)
    this.progress(Stage.REPORT, 0, None, "writing to the output")
    this.lease.check()
    this.run_dir.publish_tree()
    if this.config.dump_dataset:
        _dump(this, results)
    _write_crops(this, choice)
    this.lease.check()
    this.took(Stage.REPORT, since, len(results.table))
    logger.info("Done!")
    this.progress(Stage.REPORT, 0, None)
    if this.pool is not None:
        _update_datapool(this, this.pool, results, model)
    this.run_dir.commit(counts, model, results.table.frame_names())
    return counts


def _nearest_selected(results: Results) -> Results:
    """Return the results with, for every removed sample, the nearest selected one."""
    from lightly_fs.selection.nearest import covering_distances

    removed, earlier = results.removed, results.preselected
    if not len(removed) or not len(results.all_selected):
        return results
    vectors = results.table.vectors
    distances, places = covering_distances(vectors[removed], vectors[results.selected])
    if earlier is not None:
        nearer = earlier.distances[removed] < distances
        behind = len(results.selected) + earlier.nearest[removed]
        places = np.where(nearer, behind, places)
        distances = np.where(nearer, earlier.distances[removed], distances)
    return replace(results, nearest=(places, distances))


def _write_added(results: Results, earlier: Preselected, directory: Path) -> None:
    """Write how far each selected sample is from what the datapool had selected before."""
    columns = {
        "filename": results.names(results.selected),
        "nearest_in_datapool": [
            earlier.filenames[place] for place in earlier.nearest[results.selected].tolist()
        ],
        "distance": earlier.distances[results.selected],
    }
    write_csv(directory / "data" / "datapool_added.csv", columns)


def _update_datapool(this: RunContext, pool: PoolRun, results: Results, model: ModelInfo) -> None:
    """Add what the run found to the datapool, and tell what became of it.

    Everything that the run publishes is there by now: a run that is killed after this resumes,
    and finds its own update.
    """
    since = time.monotonic()
    this.progress(Stage.DATAPOOL, 0, None, "writing")
    done = pool.add(results, model, this.run_dir.run_id)
    this.outcome = done.outcome(len(results.selected))
    this.run_dir.publish_bytes(RECORD, pool.record())
    this.run_dir.publish_bytes(OUTCOME, outcome_json(pool, this.outcome))
    this.took(Stage.DATAPOOL, since, len(results.table))
    this.progress(Stage.DATAPOOL, 0, None, this.outcome.told())


def _write_crops(this: RunContext, choice: Choice) -> None:
    """Write the objects of the selected images as images of their own, where that is asked for."""
    crops, results = this.config.crops, choice.results
    if not choice.known.objects:
        return
    from lightly_fs.pipeline.crop_dataset import write_crop_dataset

    for task, found in choice.known.objects.items():
        write_crop_dataset(
            this,
            found,
            results.names(results.selected),
            choice.known.predictions.get(task),
            enable_upload=crops.enable_upload,
            enable_upload_for_tasks=crops.enable_upload_for_tasks,
        )


def _report_input(
    this: RunContext, results: Results, counts: Counts, model: ModelInfo
) -> ReportInput:
    table, rows = results.table, results.candidates
    properties = {name: values[rows] for name, values in table.properties.items()}
    input_uri, mounted_at = input_of(this.source)
    return ReportInput(
        facts=RunFacts(
            run_id=this.run_dir.run_id,
            started=this.started,
            finished=time.time(),
            input_uri=input_uri,
            timings=dict(this.timings),
            bytes_read=this.reader.statistics().bytes_read,
            read_through=this.reader.kind,
            other_files=this.inventory.other_files,
        ),
        config=this.config,
        counts=counts,
        model=model,
        filenames=results.names(rows),
        vectors=table.vectors if len(rows) == len(table) else table.vectors[rows],
        selection=results.selection,
        properties=properties,
        failures=table.failures,
        duplicates=results.duplicates,
        image=_thumbnails(this),
        mounted_at=mounted_at,
        videos=results.videos,
        frames=None if table.frames is None else table.frames.take(rows),
        preselected=None if results.preselected is None else results.preselected.of(rows),
        datapool=None if this.pool is None else this.pool.outcome(len(results.selected)),
        left_over=left_over(results, this.config.selected_sequence_length),
    )


def input_of(source: Source) -> tuple[str, str]:
    """Return how a report names the input, and the mount that shows it ("" for none).

    A bucket means the same everywhere, its mount only on this machine. A mount that was made for
    the run is gone when the report is read, and is not told.
    """
    if source.bucket is None:
        return source.uri, ""
    kept = source.root is not None and not source.owned
    return source.bucket.uri, str(source.root) if kept else ""


def _thumbnails(this: RunContext) -> Callable[[str, int], NDArray[np.uint8] | None]:
    def image(filename: str, side: int) -> NDArray[np.uint8] | None:
        data = this.read(filename)
        if isinstance(data, Failure):
            return None
        try:
            return thumbnail(data, side, this.config.max_image_pixels)
        except CorruptImage:
            return None

    return image


def _dump(this: RunContext, results: Results) -> None:
    # By name, so that the frames of a video are read in one pass.
    filenames = sorted(results.names(results.selected))
    this.progress(Stage.REPORT, 0, None, f"copying the selection ({len(filenames):,})")
    config, suffix = this.config, suffix_of(this.config)
    failures = dump_images(
        this.run_dir, filenames, this.read if suffix else this.read_file, exporter(config), suffix
    )
    what = f"{len(failures)} of the selection of {len(filenames)} could not be copied"
    require_all(failures, what, "leave out dump_dataset")
