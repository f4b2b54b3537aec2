"""`run()`: from a datasource to a report in a run directory; what is there already is kept."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightly_fs.artifacts import RunDir
from lightly_fs.artifacts.crop_parts import delete_crop_parts
from lightly_fs.artifacts.run_dir import ELSEWHERE
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import Inventory, freeze
from lightly_fs.datasource.lock import locked
from lightly_fs.datasource.output import open_output
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.reader import open_reader
from lightly_fs.datasource.source import Source, open_source
from lightly_fs.pipeline.context import RunContext, place_of
from lightly_fs.pipeline.journal import journal
from lightly_fs.pipeline.relevant_file import relevant_entries
from lightly_fs.types import Counts, Progress, Stage, Timing, silent

if TYPE_CHECKING:
    from lightly_fs.embedding.embedder import Embedder, Network
    from lightly_fs.pipeline.explaining import Explanation
    from lightly_fs.pipeline.training import Trained

    Model = Future[Embedder | Network]

logger = logging.getLogger(__name__)

_STILL_LOADING_S = 1.0
"""How often the progress hears of a model that is being loaded: its weights may be fetched."""


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        directory: The run directory, on the mount when the output is one.
        place: Where people find it: the directory, or `s3://…` when it was mounted for the run.
        counts: None when the run stopped before the samples were counted.
        selected: Filenames in the order they were chosen.
        why: What made each of them win, where the run ended with the selection.
        requests: Requests sent to the object store by this process, by kind.
        training: What was measured of a model that was trained, epoch by epoch.
        was_complete: Nothing was done, an earlier process had finished the run.
    """

    directory: Path
    place: str
    counts: Counts | None = None
    selected: Sequence[str] = ()
    why: Explanation | None = None
    timings: Mapping[Stage, Timing] = field(default_factory=dict)
    read_through: str = ""
    requests: Mapping[str, int] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    was_complete: bool = False

    @property
    def partial(self) -> bool:
        """Some samples could not be read; the others are finished."""
        return self.counts is not None and self.counts.failed + self.counts.unreadable > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "run_directory": self.place,
            "report": f"{self.place}/report.pdf",
            "complete": self.counts is not None,
            "was_complete": self.was_complete,
            "partial": self.partial,
            "counts": None if self.counts is None else asdict(self.counts),
            "read_through": self.read_through,
            "requests": dict(self.requests),
            "training": [dict(entry) for entry in self.training],
            "timings": {
                stage.value: {"seconds": round(one.seconds, 3), "samples": one.samples}
                for stage, one in self.timings.items()
            },
        }


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
    started = time.time()
    with ExitStack() as stack:
        staging = stack.enter_context(private_directory("staging"))
        stack.enter_context(journal(staging))
        output = stack.enter_context(open_output(config, environ))
        source = stack.enter_context(open_source(config, environ))
        run_dir = RunDir.open(output, config, staging, overrides=overrides)
        lease = stack.enter_context(locked(output, run_dir.folder))
        run_dir.check = lease.check
        # The model loads while the bucket is listed; its mistakes show before an image is read.
        loader = stack.enter_context(ThreadPoolExecutor(1, "load-model"))
        model = None if run_dir.complete or until is Stage.LIST else _start_model(config, loader)
        timings: dict[Stage, Timing] = {}
        inventory = _list(config, environ, source, run_dir, progress, timings, model)
        stack.enter_context(_resumable(run_dir))
        if run_dir.complete:
            _forget(config, run_dir)
            return _finished(run_dir, until)
        if until is Stage.LIST:
            return RunResult(*_where(run_dir), timings=timings)
        reader = open_reader(source, config, environ)
        stack.callback(reader.close)
        this = RunContext(
            config,
            environ,
            staging,
            source,
            run_dir,
            lease,
            reader,
            inventory,
            progress,
            timings,
            started,
        )
        return _stages(this, until, model)


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
        if model is not None:
            waited = _wait_for(model, this.config, this.progress, this.timings)
            return cast("Embedder", waited)
        from lightly_fs.embedding.load import load_embedder

        return load_embedder(this.config, this.inventory.table["filename"].to_pylist())

    return loaded


def _list(
    config: RunConfig,
    environ: Mapping[str, str],
    source: Source,
    run_dir: RunDir,
    progress: Progress,
    timings: dict[Stage, Timing],
    model: Model | None,
) -> Inventory:
    """Freeze the inventory; the one that the run directory holds must be the same."""
    since = time.monotonic()
    progress(Stage.LIST, 0, None)
    entries = relevant_entries(config, source)
    inventory = freeze(source, output=run_dir.output.location, relevant=entries, progress=progress)
    timings[Stage.LIST] = Timing(time.monotonic() - since, len(inventory))
    logger.info(
        "Found %d input images in %s (%d other files)",
        *(len(inventory), source.uri, inventory.other_files),
    )
    if not run_dir.frozen:
        _try_model(config, model, inventory, progress, timings)
        _try_selection(config, source, environ, inventory)
        if config.pretagging:
            from lightly_fs.pipeline.pretagging import check_pretagging

            check_pretagging(config)
    run_dir.freeze(inventory)
    return inventory


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
    config: RunConfig,
    model: Model | None,
    inventory: Inventory,
    progress: Progress,
    timings: dict[Stage, Timing],
) -> None:
    """Let a mistake in the model show while its configuration can be corrected: nothing is there.

    Raises:
        ModelError: As `load_embedder`.
    """
    if model is not None:
        _wait_for(model, config, progress, timings)
        progress(Stage.MODEL, 0, None, config.model)
    elif config.embeddings:
        from lightly_fs.embedding.load import load_embedder

        load_embedder(config, inventory.table["filename"].to_pylist())
    elif config.model != "bundled":  # a run that ends with the list; torch takes a second to import
        from lightly_fs.embedding.load import check_model

        check_model(config.model)


def _try_selection(
    config: RunConfig, source: Source, environ: Mapping[str, str], inventory: Inventory
) -> None:
    """Let a mistake in the selection's inputs show while its configuration can be corrected.

    Raises:
        ConfigError: As `check_inputs`.
        DatasourceError: As `check_inputs`.
    """
    if config.selected_sequence_length > 1:
        from lightly_fs.selection.sequences import sequences_of

        sequences_of(inventory.table["filename"].to_pylist(), config.selected_sequence_length)
    if config.selection_config is None:
        return
    from lightly_fs.annotations.files import SourceFiles
    from lightly_fs.pipeline.inputs import check_inputs

    with closing(open_reader(source, config, environ)) as reader:
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
    from lightly_fs.pipeline.reporting import finish
    from lightly_fs.pipeline.selecting import choose

    if trained is None:
        embedded = embed_missing(this, _embedder(this, model))
    else:
        embedded = embed_missing(this, trained.embedder, trained.decoded)
    if until is Stage.EMBED:
        if not embedded:  # by this process; what others embedded is read only then
            require_samples(this.run_dir.read_parts(), len(this.inventory))
        return _result(this, trained)
    choice = choose(this, trained.embedder if trained else _embedder(this, model))
    results = choice.results
    selected = results.names(results.selected)
    if until is Stage.SELECT:
        return replace(_result(this, trained), selected=selected, why=explanation(results))
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
