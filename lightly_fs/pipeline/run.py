"""`run()`: from a datasource to a report in a run directory; what is there already is kept."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lightly_fs.artifacts import RunDir
from lightly_fs.artifacts.crop_parts import delete_crop_parts
from lightly_fs.artifacts.run_dir import ELSEWHERE
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import Inventory, freeze
from lightly_fs.datasource.lock import Lease, locked
from lightly_fs.datasource.output import open_output
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.reader import Reader, open_reader
from lightly_fs.datasource.source import Source, open_source
from lightly_fs.pipeline.context import RunContext, place_of
from lightly_fs.pipeline.datapool import RECORD, PoolRun, begin, open_datapool
from lightly_fs.pipeline.journal import journal
from lightly_fs.pipeline.relevant_file import relevant_entries
from lightly_fs.pipeline.result import RunResult
from lightly_fs.types import Progress, Stage, Timing, silent

if TYPE_CHECKING:
    from lightly_fs.datapool.pool import Pool
    from lightly_fs.embedding.embedder import Embedder, Network
    from lightly_fs.pipeline.training import Trained

    Model = Future[Embedder | Network]

logger = logging.getLogger(__name__)

_STILL_LOADING_S = 1.0
"""How often the progress hears of a model that is being loaded: its weights may be fetched."""


def run(
    config: RunConfig,
    environ: Mapping[str, str],
    *,
    until: Stage = Stage.REPORT,
    progress: Progress = silent,
    overrides: Sequence[str] = (),
) -> RunResult:
    """Run the stages up to `until`; those that the run directory holds already are not repeated.

    Args:
        environ: Credentials and endpoints, as the AWS tools name them.
        overrides: The words that were given, for the run's own record.

    Raises:
        LightlyFSError: The system is broken; the run directory can be resumed.
    """
    with ExitStack() as stack:
        staging = stack.enter_context(private_directory("staging"))
        stack.enter_context(journal(staging))
        output = stack.enter_context(open_output(config, environ))
        source = stack.enter_context(open_source(config, environ))
        run_dir = RunDir.open(output, config, staging, overrides=overrides)
        lease = stack.enter_context(locked(output, run_dir.folder))
        run_dir.check = lease.check
        datapool = stack.enter_context(open_datapool(config, environ, run_dir.folder))
        loader = stack.enter_context(ThreadPoolExecutor(1, "load-model"))
        start = _Start(config, environ, staging, source, run_dir, progress)
        # The model loads while the bucket is listed; its mistakes show before an image is read.
        # Where there may be nothing new, it is not loaded for nothing.
        wanted = not run_dir.complete and until is not Stage.LIST
        model = _start_model(config, loader) if wanted and datapool is None else None
        listed = _list(start)
        pool = None if datapool is None else _compare(start, listed, datapool)
        if pool is not None and pool.nothing_new and not run_dir.frozen:
            if wanted and pool.model_is_in_doubt:
                _try_model(start, pool.inventory(), pool, _start_model(config, loader))
            return RunResult(*_where(run_dir), timings=start.timings, datapool=pool.outcome())
        if wanted and model is None:
            model = _start_model(config, loader)
        inventory = _freeze(start, listed, pool, model)
        stack.enter_context(_resumable(run_dir))
        if run_dir.complete:
            _forget(config, run_dir)
            return _finished(run_dir, until)
        if until is Stage.LIST:
            return RunResult(*_where(run_dir), timings=start.timings)
        reader = open_reader(source, config, environ)
        stack.callback(reader.close)
        this = _context(start, lease, reader, inventory, pool)
        stack.callback(this.close)
        return _stages(this, until, model)


@dataclass(frozen=True)
class _Start:
    """What a run has before it has an inventory."""

    config: RunConfig
    environ: Mapping[str, str]
    staging: Path
    source: Source
    run_dir: RunDir
    progress: Progress
    started: float = field(default_factory=time.time)
    timings: dict[Stage, Timing] = field(default_factory=dict)


def _context(
    start: _Start, lease: Lease, reader: Reader, inventory: Inventory, pool: PoolRun | None
) -> RunContext:
    return RunContext(
        start.config,
        start.environ,
        start.staging,
        start.source,
        start.run_dir,
        lease,
        reader,
        inventory,
        start.progress,
        start.timings,
        start.started,
        pool,
    )


def _finished(run_dir: RunDir, until: Stage) -> RunResult:
    """Return what a run left that an earlier process finished."""
    result = RunResult(*_where(run_dir), run_dir.counts(), was_complete=True)
    if until is not Stage.SELECT:
        return result
    from lightly_fs.pipeline.explaining import read_explanation

    why = read_explanation(run_dir)
    return replace(result, selected=why.filenames, why=why)


def _where(run_dir: RunDir) -> tuple[Path, str]:
    return run_dir.directory, place_of(run_dir)


def _start_model(config: RunConfig, loader: ThreadPoolExecutor) -> Model | None:
    """Start loading what embeds, or what is to be trained."""
    if config.embeddings and not config.enable_training:
        return None  # needs the inventory

    def load() -> Embedder | Network:
        if config.enable_training:
            from lightly_fs.training.network import starting_network

            return starting_network(config)
        from lightly_fs.embedding.load import load_embedder

        return load_embedder(config)

    return loader.submit(load)


def _embedder(this: RunContext, model: Model | None) -> Callable[[], Embedder]:
    def loaded() -> Embedder:
        from lightly_fs.embedding.load import load_embedder

        if model is not None:
            waited = _wait_for(model, this.config, this.progress, this.timings)
            embedder = cast("Embedder", waited)
        else:
            embedder = load_embedder(this.config, this.inventory.table["filename"].to_pylist())
        if this.pool is not None:
            this.pool.check_model(embedder.info)
        return embedder

    return loaded


def _list(start: _Start) -> Inventory:
    """List the input."""
    config, source, output = start.config, start.source, start.run_dir.output.location
    since = time.monotonic()
    start.progress(Stage.LIST, 0, None)
    entries = relevant_entries(config, source)
    inventory = freeze(source, output=output, relevant=entries, progress=start.progress)
    start.timings[Stage.LIST] = Timing(time.monotonic() - since, len(inventory))
    others = inventory.other_files
    logger.info("Found %s in %s (%d other files)", _told(inventory), source.uri, others)
    return inventory


def _compare(start: _Start, listed: Inventory, datapool: Pool) -> PoolRun:
    """Find what is new to the datapool."""
    pool = begin(start.config, datapool, listed, start.run_dir)
    start.progress(Stage.LIST, 0, None, pool.told())
    logger.info("The datapool %s: %s", datapool.uri, pool.told())
    return pool


def _freeze(
    start: _Start, listed: Inventory, pool: PoolRun | None, model: Model | None
) -> Inventory:
    """Freeze the run's inventory; the one that the run directory holds must be the same."""
    config, run_dir = start.config, start.run_dir
    inventory = listed if pool is None else pool.inventory()
    if not run_dir.frozen:
        _try_model(start, inventory, pool, model)
        _try_selection(config, start.source, start.environ, inventory)
        if config.pretagging:
            from lightly_fs.pipeline.pretagging import check_pretagging

            check_pretagging(config)
        if pool is not None:
            run_dir.publish_bytes(RECORD, pool.record())
    run_dir.freeze(inventory)
    return inventory


def _told(inventory: Inventory) -> str:
    videos = len(inventory.videos)
    images = f"{len(inventory) - videos} input images"
    return f"{images} and {videos} {'video' if videos == 1 else 'videos'}" if videos else images


def _wait_for(
    model: Model, config: RunConfig, progress: Progress, timings: dict[Stage, Timing]
) -> Embedder | Network:
    """Return what is being loaded; what this waits is a stage of its own."""
    since = time.monotonic()
    if Stage.MODEL not in timings:
        progress(Stage.MODEL, 0, None, "loading")
    while wait([model], _STILL_LOADING_S).not_done:
        progress(Stage.MODEL, 0, None, f"loading {config.model}")
    loaded = model.result()
    timings.setdefault(Stage.MODEL, Timing(time.monotonic() - since, 0))
    return loaded


def _try_model(
    start: _Start, inventory: Inventory, pool: PoolRun | None, model: Model | None
) -> None:
    """Let a mistake in the model show while its configuration can be corrected: nothing is there.

    Raises:
        ModelError: As `load_embedder`; or the datapool's embeddings are of another model.
    """
    config, info = start.config, None
    if model is not None:
        loaded = _wait_for(model, config, start.progress, start.timings)
        start.progress(Stage.MODEL, 0, None, config.model)
        info = None if config.enable_training else cast("Embedder", loaded).info
    elif config.embeddings:
        from lightly_fs.embedding.load import load_embedder

        info = load_embedder(config, inventory.table["filename"].to_pylist()).info
    elif config.model != "bundled":  # a run that ends with the list; torch takes a second to import
        from lightly_fs.embedding.load import check_model

        check_model(config.model)
    if pool is not None and info is not None:
        pool.check_model(info)


def _try_selection(
    config: RunConfig, source: Source, environ: Mapping[str, str], inventory: Inventory
) -> None:
    """Let a mistake in the selection's inputs show while its configuration can be corrected.

    Raises:
        ConfigError: As `check_inputs`.
        DatasourceError: As `check_inputs`.
    """
    if config.selected_sequence_length > 1 and not inventory.videos:
        from lightly_fs.selection.sequences import sequences_of

        sequences_of(inventory.table["filename"].to_pylist(), config.selected_sequence_length)
    if config.selection_config is None:
        return
    from lightly_fs.annotations.files import SourceFiles
    from lightly_fs.pipeline.inputs import check_inputs

    with closing(open_reader(source, config, environ, quiet=True)) as reader:
        check_inputs(config, SourceFiles(source, reader))


@contextmanager
def _resumable(run_dir: RunDir) -> Iterator[None]:
    """Tell whoever meets an end before its time how to go on."""
    try:
        yield
    except BaseException as error:
        if getattr(error, "hint", None) != ELSEWHERE:
            error.add_note(f"run_directory={run_dir.folder} resumes this run")
        raise


def _stages(this: RunContext, until: Stage, model: Model | None) -> RunResult:
    trained = _train(this, model)
    if until is Stage.TRAIN:
        return _result(this, trained)
    from lightly_fs.pipeline.embedding import embed_missing, require_samples
    from lightly_fs.pipeline.explaining import explanation
    from lightly_fs.pipeline.last_pick import last_pick
    from lightly_fs.pipeline.reporting import finish
    from lightly_fs.pipeline.selecting import choose

    if trained is None:
        embedded = embed_missing(this, _embedder(this, model))
    else:
        embedded = embed_missing(this, trained.embedder, trained.decoded)
    if until is Stage.EMBED:
        may_be_none = this.pool is not None and not this.pool.is_empty
        if not embedded and not may_be_none:  # what others embedded is read only then
            require_samples(this.run_dir.read_parts(), len(this.inventory))
        return _result(this, trained)
    choice = choose(this, trained.embedder if trained else _embedder(this, model))
    results = choice.results
    selected = results.names(results.selected)
    if until is Stage.SELECT:
        length = this.config.selected_sequence_length
        why = explanation(results, lambda: last_pick(this.config, choice), length)
        return replace(_result(this, trained), selected=selected, why=why)
    counts = finish(this, choice, trained.history if trained else ())
    _forget(this.config, this.run_dir)
    return replace(_result(this, trained), counts=counts, selected=selected)


def _train(this: RunContext, model: Model | None) -> Trained | None:
    if not this.config.enable_training or model is None:
        return None
    from lightly_fs.pipeline.training import train_network

    network = _wait_for(model, this.config, this.progress, this.timings)
    return train_network(this, cast("Network", network))


def _result(this: RunContext, trained: Trained | None) -> RunResult:
    return RunResult(
        *_where(this.run_dir),
        timings=this.timings,
        read_through=this.reader.kind,
        requests=this.reader.statistics().requests,
        datapool=this.outcome,
        training=trained.history if trained else (),
    )


def _forget(config: RunConfig, run_dir: RunDir) -> None:
    """Delete what a complete run needs no more: decoded images, parts of crops."""
    if config.enable_training:
        from lightly_fs.pipeline.training import pack_directory

        shutil.rmtree(pack_directory(config, run_dir.run_id), ignore_errors=True)
    if config.selection_config is not None and config.selection_config.cropped():
        delete_crop_parts(run_dir)
    if config.pretagging:
        from lightly_fs.pipeline.pretagging import forget_parts

        forget_parts(run_dir)
