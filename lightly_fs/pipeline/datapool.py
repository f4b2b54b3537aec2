"""A run with a datapool: what is new to it, what is selected already, and what the run adds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.artifacts import EmbeddedTable, Results, RunDir
from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.artifacts.tables import FRAME_FIELDS, frame_columns
from lightly_fs.config import RunConfig
from lightly_fs.datapool.columns import Additions
from lightly_fs.datapool.known import Known
from lightly_fs.datapool.opening import open_pool, read_pool
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.state import State
from lightly_fs.datapool.update import update
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.errors import ArtifactError, ConfigError
from lightly_fs.pipeline.preselecting import preselected_beside
from lightly_fs.types import Duplicate, ModelInfo

logger = logging.getLogger(__name__)

RECORD = "config/datapool.json"
"""What a run began with: the state of the datapool, and what of the input it knew."""
OUTCOME = "data/datapool.json"
"""What became of it."""


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """What a run did with a datapool.

    Attributes:
        base: The state that it began with.
        state: The state that it left; None when it left the datapool as it was.
        process_all: It began from scratch.
        listed: Files that were listed; each of them is `known`, `new` or `changed`.
        deleted: Files that the datapool remembers and the input no longer holds.
        selected_before: Samples that the datapool had selected.
        selected: Those that it has selected now.
        added: Samples that this run selected.
    """

    location: str
    base: int
    state: int | None
    process_all: bool
    listed: int
    known: int
    new: int
    changed: int
    deleted: int
    selected_before: int
    selected: int
    added: int

    @property
    def nothing_new(self) -> bool:
        return not self.process_all and not self.new + self.changed

    def told(self) -> str:
        """Say what was done."""
        if self.state is None:
            return f"state {self.base}: {self.selected_before:,} selected, left as it is"
        how = "from scratch" if self.process_all else f"+{self.added:,}"
        return f"state {self.state}: {self.selected:,} selected ({how})"

    def told_nothing_new(self) -> str:
        """Say that there was nothing to do."""
        gone = f" ({self.deleted:,} deleted since)" if self.deleted else ""
        is_are = "file is" if self.known == 1 else "files are"
        return f"nothing new: {self.known:,} {is_are} in the datapool already{gone}"


@dataclass(frozen=True, eq=False)
class PoolRun:
    """The datapool of a run.

    Attributes:
        pool: In the state that the run began with.
        known: Everything that was listed, beside it.
        after: In the state that the run left.
    """

    config: RunConfig
    pool: Pool
    known: Known
    after: Pool | None = None

    @property
    def from_scratch(self) -> bool:
        """Everything is processed and decided anew."""
        return self.config.datasource.process_all

    @property
    def is_empty(self) -> bool:
        """The run begins with nothing."""
        return self.from_scratch or not self.pool.state.counts.files

    @property
    def nothing_new(self) -> bool:
        return not self.from_scratch and not len(self.known.to_process)

    @property
    def model_is_in_doubt(self) -> bool:
        """Only when it is loaded can be told whether the run's model is that of the datapool."""
        config, there = self.config, self.pool.state.model
        if config.embeddings or config.enable_training or there is None:
            return False
        return bool(config.weights or config.checkpoint) or config.model != there.name

    @property
    def listed(self) -> Inventory:
        """Everything that was listed."""
        return self.known.inventory

    def inventory(self) -> Inventory:
        """Return what the run processes."""
        if self.from_scratch:
            return self.listed
        rows = pa.array(self.known.to_process)
        videos = [video.filename for video in self.listed.videos] + self.pool.videos()
        return Inventory(self.listed.table.take(rows), self.listed.other_files, videos)

    def told(self) -> str:
        """Say in one line what is new."""
        known, listed = self.known, self.listed
        noun = "file" if listed.videos else "image"
        new = f"{len(known.new):,} new"
        if len(known.changed):
            new += f", {len(known.changed):,} changed"
        total = f"{len(listed):,} {noun}" + ("" if len(listed) == 1 else "s")
        there = f"{len(known.known):,} in the datapool"
        if known.deleted:
            there += f", {len(known.deleted):,} deleted"
        every = "; all are processed" if self.from_scratch else ""
        return f"{new} of {total} ({there}{every})"

    def check_model(self, model: ModelInfo) -> None:
        """Refuse embeddings that cannot be compared with those of the datapool.

        Raises:
            ModelError: They are of another model, and the run does not begin from scratch.
        """
        if not self.from_scratch:
            self.pool.check_model(model)

    def preselected(self, table: EmbeddedTable) -> Preselected | None:
        """Return what is selected already, beside the rows of a table; None from scratch.

        Args:
            table: What the run embedded.

        Raises:
            ModelError: One of the two was scaled to unit length, and the other was not.
        """
        if self.from_scratch:
            return None
        return preselected_beside(table, self.pool, self.known)

    def duplicates(self, table: EmbeddedTable, among: Sequence[Duplicate]) -> list[Duplicate]:
        """Return the rows that show exactly what another row, or a sample of the datapool, shows.

        Args:
            table: What the run embedded.
            among: Those that show what another row shows.

        Returns:
            In the order of the table; an `original` of the table is never itself a duplicate.
        """
        if self.from_scratch:
            return list(among)
        seen = {
            one.filename: one
            if table.frame(table.rows[one.filename]) is None
            # A frame has no bytes of its own.
            else replace(one, reason="pixels")
            for one in self.pool.same_content(table, self.known)
        }
        found = dict(seen)
        for one in among:
            if one.filename not in seen:
                first = seen.get(one.original)
                found[one.filename] = (
                    one if first is None else replace(one, original=first.original)
                )
        return sorted(found.values(), key=lambda one: table.rows[one.filename])

    def count(self) -> tuple[int, int]:
        """Return how many samples of the datapool are usable, and how many of them selected.

        Samples of files that changed are decided anew, and not counted; nor are duplicates.
        """
        usable = selected = 0
        for rows, keep in self.pool.pieces(["selected", "duplicate_of"], self.known):
            usable += int((keep & ~rows["duplicate_of"].is_valid().to_numpy()).sum())
            selected += int((keep & rows["selected"].to_numpy()).sum())
        return usable, selected

    def add(self, results: Results, model: ModelInfo, run_id: str) -> PoolRun:
        """Add what the run found to the datapool, unless it is only to be read.

        Raises:
            ArtifactError: Another run updated it meanwhile.
        """
        if not self.config.datasource.enable_datapool_update:
            return self
        table = results.table
        additions = Additions(
            table=table,
            selected=results.selected,
            duplicates=results.duplicates,
            known=self.known,
            model=model,
            run_id=run_id,
            frames=_frames(table),
            sampling=self.config.video.model_dump(mode="json"),
        )
        keep_history = self.config.datapool.keep_history
        after = update(self.pool, additions, fresh=self.from_scratch, keep_history=keep_history)
        return replace(self, after=after)

    def outcome(self, added: int = 0) -> PoolOutcome:
        """Return what the run did, when it selected so many samples."""
        before, known = self.pool.state, self.known
        after = before if self.after is None else self.after.state
        return PoolOutcome(
            location=self.pool.uri,
            base=before.number,
            state=after.number if after.number != before.number else None,
            process_all=self.from_scratch,
            listed=len(self.listed),
            known=len(known.known),
            new=len(known.new),
            changed=len(known.changed),
            deleted=len(known.deleted),
            selected_before=before.counts.selected,
            selected=after.counts.selected,
            added=added,
        )

    def record(self) -> bytes:
        """Return what the run began with, for its own record."""
        known = self.known
        return _as_json(
            {
                "location": self.pool.uri,
                "state": self.pool.state.as_json(),
                "listed": len(self.listed),
                "known": len(known.known),
                "new": len(known.new),
                "changed": known.changed_files.to_pylist(),
                "deleted": known.deleted,
            }
        )


@contextmanager
def open_datapool(
    config: RunConfig, environ: Mapping[str, str], owner: str
) -> Iterator[Pool | None]:
    """Open the datapool that the configuration names, if it names one.

    Args:
        config: Without `enable_datapool_update` nobody is kept from writing to it.
        environ: Where credentials are found.
        owner: The run, for others that want to write.

    Raises:
        DatasourceError: It is only to be read, and not there.
        RunLockedError: Another run writes to it.
    """
    location = config.datapool.location(config.shared_dir)
    if not location:
        yield None
        return
    opened = (
        open_pool(location, environ, s3=config.s3, owner=owner)
        if config.datasource.enable_datapool_update
        else read_pool(location, environ, s3=config.s3)
    )
    with opened as pool:
        yield pool


def begin(config: RunConfig, pool: Pool, listed: Inventory, run_dir: RunDir) -> PoolRun:
    """Compare what was listed with the datapool, in the state that the run began with.

    Raises:
        ArtifactError: The run is resumed, and the datapool was changed since it began.
        ConfigError: A model is to be trained, and the datapool holds embeddings; or frames of a new
            video would be called like images of the datapool.
    """
    if run_dir.frozen:
        found = _resumed(config, pool, listed, run_dir)
    else:
        found = PoolRun(config, pool, pool.split(listed))
        if not found.from_scratch:
            pool.check_sampling(found.known, config.video.model_dump(mode="json"))
            pool.check_names(found.known)
    if config.enable_training and not found.from_scratch:
        if found.pool.state.dimensions:
            raise ConfigError(
                f"training gives a new model, and the datapool `{pool.uri}` holds embeddings of "
                "another one",
                hint="leave enable_training out and embed with `checkpoint`: that of the run that "
                "trained; or process everything again: datasource.process_all=True",
            )
        logger.warning("later runs with this datapool need the `checkpoint` that this run trains")
    return found


def _resumed(config: RunConfig, newest: Pool, listed: Inventory, run_dir: RunDir) -> PoolRun:
    record = _read_record(run_dir)
    began = State.decode(RECORD, json.dumps(record["state"]).encode())
    now, where = newest.state, record["location"]
    updated = now.run_id == run_dir.run_id and now.parent == (began.number or None)
    only_read = run_dir.complete or not config.datasource.enable_datapool_update
    if where != newest.uri or not (updated or only_read or now.number == began.number):
        raise ArtifactError(
            f"the run in {run_dir.uri} began with state {began.number} of the datapool `{where}`, "
            f"and `{newest.uri}` is in state {now.number}",
            hint="start a new run: leave `run_directory` out, or choose another one",
        )
    pool = Pool(newest.store, began)
    if updated and config.datasource.process_all:
        # Without history, this very run deleted what it began with; it needs that no more.
        return PoolRun(config, pool, _recorded(record, listed))
    return PoolRun(config, pool, pool.split(listed))


def _recorded(record: Mapping[str, Any], listed: Inventory) -> Known:
    """Return what a run noted when it began. Which of the known rows were new is not told."""
    names = pa.array(record["changed"], pa.string())
    changed = pc.index_in(names, value_set=listed.table["filename"]).to_numpy().astype(np.int64)
    others = np.setdiff1d(np.arange(len(listed), dtype=np.int64), changed)
    new, known = others[: record["new"]], others[record["new"] :]
    return Known(listed, new, changed, known, list(record["deleted"]))


def _read_record(run_dir: RunDir) -> dict[str, Any]:
    data = run_dir.output.below(run_dir.folder).read(RECORD)
    try:
        return dict(json.loads(data or b""))
    except ValueError as error:
        raise ArtifactError(
            f"{run_dir.uri}/{RECORD} is {'gone' if data is None else 'damaged'}",
            hint="choose another `run_directory`, or leave it empty for a new one",
        ) from error


def outcome_json(found: PoolRun, outcome: PoolOutcome) -> bytes:
    """Return what `data/datapool.json` says."""
    return _as_json(
        {
            **asdict(outcome),
            "changed_filenames": found.known.changed_files.to_pylist(),
            "deleted_filenames": found.known.deleted,
        }
    )


def _as_json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _frames(table: EmbeddedTable) -> pa.Table | None:
    if table.frames is None:
        return None
    columns = frame_columns(table, table.frames, np.arange(len(table)))
    return pa.table(columns, schema=pa.schema(FRAME_FIELDS))
