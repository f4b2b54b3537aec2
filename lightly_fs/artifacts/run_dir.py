"""One run directory: what is there decides what is still to be done.

    config/run.json            the inventory is frozen (with config.yaml, inventory.parquet, …)
    config/model.json          a model was chosen
    parts/embed-00012-….parquet    shard 12 is embedded (of videos: its pieces, see `parts`)
    manifest.json              everything is there; the parts are gone

Each file is written once and whole, so that a killed run leaves a state to go on from.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

import lightly_fs
from lightly_fs.artifacts import parts
from lightly_fs.artifacts.committed import PARTS, Begun, CommittedParts
from lightly_fs.artifacts.difference import (
    config_difference,
    inventory_difference,
    model_difference,
)
from lightly_fs.artifacts.lists import FOLDER as LISTS
from lightly_fs.artifacts.lists import check_lists
from lightly_fs.artifacts.manifest import Manifest
from lightly_fs.artifacts.parts import EmbeddedTable, Piece
from lightly_fs.artifacts.record import (
    CONFIG,
    HYDRA,
    INVENTORY,
    MODEL,
    OVERRIDES,
    RESULTS,
    RUN,
    as_json,
    config_digests,
    config_files,
    now,
    run_folder,
)
from lightly_fs.config.run import RunConfig
from lightly_fs.config.video import VideoConfig
from lightly_fs.datasource.exclusion import MANIFEST_NAME
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.output import WRITERS, Output, Written
from lightly_fs.datasource.shards import Shards
from lightly_fs.errors import ArtifactError
from lightly_fs.types import Counts, EmbeddedSamples, ModelInfo

logger = logging.getLogger(__name__)

LOGS = ("log.txt", "memlog.txt")
"""Files that grow until the end; `commit` publishes what they are then."""
_OWN = ".run_dir"
ELSEWHERE = "choose another `run_directory`, or leave it empty for a new one"


class RunDir:
    """Reads and writes what the stages need and make.

    Attributes:
        output: Where run directories lie.
        folder: This one's name below it.
        complete: The manifest is there, and every file that it names is as it was written.
        check: Called before every write; raises when the lock was lost.
    """

    def __init__(
        self, output: Output, config: RunConfig, staging: Path, overrides: Sequence[str] = ()
    ) -> None:
        self.output = output
        self.config = config
        self.folder = run_folder(config)
        self.complete = False
        self.check: Callable[[], None] = lambda: None  # every write passes
        self._files = output.below(self.folder)
        self._staging = staging
        self._own = staging / _OWN
        self._overrides = list(overrides)
        self._state: dict[str, Any] | None = None
        self._manifest: Manifest | None = None
        self._inventory: Inventory | None = None
        self._committed: CommittedParts | None = None
        self._entries: dict[str, Written] = {}

    @classmethod
    def open(
        cls, output: Output, config: RunConfig, staging: Path, *, overrides: Sequence[str] = ()
    ) -> RunDir:
        """Open a new, unfinished or finished run directory.

        Args:
            output: Where run directories lie.
            config: What the run is to do; its `run_directory` names this one.
            staging: Local directory in which the run's files are made.
            overrides: The words that the configuration was made from, for the record.

        Raises:
            ArtifactError: It holds a run of another configuration, or is damaged.
        """
        run = cls(output, config, staging, overrides)
        run._load()
        return run

    @property
    def directory(self) -> Path:
        return self._files.root

    @property
    def uri(self) -> str:
        return self._files.uri

    @property
    def frozen(self) -> bool:
        return self._state is not None

    @property
    def run_id(self) -> str:
        return str(self._frozen_state()["run_id"])

    def counts(self) -> Counts | None:
        """Return the sums of a complete run."""
        return self._manifest.counts if self._manifest is not None else None

    def freeze(self, inventory: Inventory) -> None:
        """Record configuration and inventory; on a run that is resumed, require the same inventory.

        Raises:
            ArtifactError: The run directory holds a run on another inventory.
        """
        if self._state is None:
            self._load()  # another process may have begun here before this one had the lock
        if self._state is not None:
            if inventory.digest != self._state["inventory_digest"]:
                difference = inventory_difference(self.inventory(), inventory)
                raise ArtifactError(
                    f"{self.uri} holds a run on another inventory: {difference}", hint=ELSEWHERE
                )
            self._inventory = inventory
            if self._state["config_digest"] != self.config.digest():
                self._configure(self._state)
            return
        inventory.write(self._staged(INVENTORY))
        self.publish(INVENTORY)
        self._configure(
            {
                "run_id": secrets.token_hex(12),
                "created": now(),
                "package_version": lightly_fs.__version__,
                "inventory_digest": inventory.digest,
            }
        )
        self._inventory = inventory

    def inventory(self) -> Inventory:
        """Return the frozen inventory.

        Raises:
            ArtifactError: There is none, or it is damaged.
        """
        if self._inventory is None:
            expected = self._frozen_state()["inventory_digest"]
            local = self._staged(INVENTORY)
            local.write_bytes(self._files.read(INVENTORY) or b"")
            self._inventory = Inventory.read(local)
            if self._inventory.digest != expected:
                raise ArtifactError(f"{self.uri}/{INVENTORY} is damaged", hint=ELSEWHERE)
        return self._inventory

    def model(self) -> ModelInfo | None:
        """Return the model that made the embeddings, or None when none was chosen yet."""
        values = self._read_json(MODEL)
        try:
            return None if values is None else ModelInfo(**values)
        except TypeError as error:
            raise self._damaged(MODEL, error) from error

    def set_model(self, model: ModelInfo) -> None:
        """Record the model; embeddings of different models never mix.

        Raises:
            ArtifactError: The run directory holds embeddings of another model.
        """
        there = self.model()
        if there is None:
            self._put(MODEL, as_json(asdict(model)))
            return
        difference = model_difference(there, model)
        if difference:
            raise ArtifactError(
                f"{self.uri} holds embeddings of another model: {difference}", hint=ELSEWHERE
            )

    @property
    def shards(self) -> Shards:
        """The units of work and of resuming."""
        return self.inventory().shards(self.config.shard_size)

    def committed(self) -> dict[int, Sequence[str]]:
        """Return the parts of every shard that is embedded; torn parts are deleted."""
        return self._parts().done

    def begun(self, number: int) -> Begun:
        """Return how far a shard of videos is embedded."""
        return self._parts().begun(number)

    def write_part(
        self, number: int, embedded: EmbeddedSamples, piece: Piece | None = None
    ) -> None:
        """Commit what a shard became, or the next piece of a shard of videos.

        Raises:
            ArtifactError: Its samples are not exactly the shard's, or frames of other videos.
        """
        shard, committed = self.shards[number], self._parts()
        name, local = committed.write(shard, embedded, piece)
        self.check()
        self._files.put(name, local)
        committed.add(shard, local)

    def read_parts(self) -> EmbeddedTable:
        """Return all samples, sorted by filename as the inventory is.

        Raises:
            ArtifactError: A shard is missing, no model is recorded, or not every frame is there.
        """
        paths = self._parts().paths()
        if paths and self.model() is None:
            raise ArtifactError(f"{self.uri}/{MODEL} is missing", hint=ELSEWHERE)
        table = parts.read_parts(paths)
        wrong = table.misfit(every=self.config.video == VideoConfig())
        if wrong:
            raise ArtifactError(f"the sums of {self.uri} do not hold: {wrong}", hint=ELSEWHERE)
        return table

    def publish(self, relative: str) -> None:
        """Write a staged file into the run directory."""
        self._publish(relative, self._staging / relative)

    def publish_bytes(self, relative: str, data: bytes) -> None:
        """Write a file that needs not stay in the staging directory."""
        local = self._own / "bytes" / secrets.token_hex(8)
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(data)
        self._publish(relative, local)
        local.unlink()

    def publish_tree(self) -> None:
        """Write every staged file, but for the logs, which are not finished yet."""
        names = sorted(
            path.relative_to(self._staging).as_posix()
            for path in self._staging.rglob("*")
            if path.is_file() and not path.is_relative_to(self._own)
        )
        with ThreadPoolExecutor(WRITERS) as pool:
            try:
                list(pool.map(self.publish, [name for name in names if name not in LOGS]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def commit(
        self,
        counts: Counts,
        model: ModelInfo,
        frames: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Finish the run: check the sums, publish logs and manifest, drop the parts.

        Args:
            counts: The sums.
            model: It made the embeddings.
            frames: By video, the names of the frames that were taken of it.

        Raises:
            ArtifactError: The counts or the written lists do not add up.
        """
        wrong = counts.check() or check_lists(
            self._staging / LISTS, self.inventory().table["filename"], frames
        )
        if wrong:
            raise ArtifactError(f"the sums of {self.uri} do not hold: {wrong}")
        self._restage()
        for name in LOGS:
            if (self._staging / name).exists():
                self.publish_bytes(name, (self._staging / name).read_bytes())
        state = self._frozen_state()
        entries = tuple(self._entries[name] for name in sorted(self._entries))
        manifest = Manifest(
            run_id=state["run_id"],
            created=now(),
            config_digest=state["config_digest"],
            inventory_digest=state["inventory_digest"],
            counts=counts,
            model=model,
            entries=entries,
        )
        self._put(MANIFEST_NAME, manifest.encode())
        self._manifest, self.complete = manifest, True
        self._files.delete_folder(PARTS)
        shutil.rmtree(self._own, ignore_errors=True)

    def _configure(self, state: Mapping[str, Any]) -> None:
        """Record what the run is to do: before its first sample, or before another selection."""
        for name, data in config_files(self.config, self.folder, self._overrides).items():
            self._put(name, data)
        self._state = {**state, **config_digests(self.config)}
        self._put(RUN, as_json(self._state))

    def _load(self) -> None:
        self._state = self._read_json(RUN)
        if self._state is None:
            return
        self._manifest = Manifest.decode(self._files.read(MANIFEST_NAME))
        self._require_same_config()
        if self._manifest is None:
            return
        broken = self._files.first_broken(self._manifest.entries)
        self.complete = broken is None
        if broken is not None:
            logger.warning("`%s` of the finished run is gone or changed: redoing it", broken)
        else:
            self._files.delete_folder(PARTS)

    def _restage(self) -> None:
        """Take the files that an earlier process wrote at the start into the manifest."""
        self.inventory().write(self._staged(INVENTORY))  # whatever became of the file there
        self.publish(INVENTORY)
        made = config_files(self.config, self.folder, self._overrides)
        for name in {CONFIG, HYDRA, OVERRIDES, RUN, MODEL} - self._entries.keys():
            data = made.get(name) or self._files.read(name)
            if data is None:
                raise ArtifactError(f"{self.uri}/{name} is gone", hint=ELSEWHERE)
            self._put(name, data)

    def _put(self, relative: str, data: bytes) -> None:
        self._staged(relative).write_bytes(data)
        self.publish(relative)

    def _publish(self, relative: str, local: Path) -> None:
        self.check()
        self._entries[relative] = self._files.put(relative, local)

    def _staged(self, relative: str) -> Path:
        path = self._staging / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _parts(self) -> CommittedParts:
        if self._committed is None:
            self._committed = CommittedParts(self._files, self._own / PARTS, self.shards)
        return self._committed

    def _read_json(self, relative: str) -> dict[str, Any] | None:
        """Return a file's values; None when there is none yet, or a killed process left it torn."""
        data = self._files.read(relative)
        if data is None:
            return None
        try:
            return dict(json.loads(data))
        except (ValueError, TypeError) as error:
            # It was written whole before the first part was.
            if self._files.names(PARTS):
                raise self._damaged(relative, error) from error
            return None

    def _damaged(self, relative: str, error: Exception) -> ArtifactError:
        return ArtifactError(f"{self.uri}/{relative} is damaged: {error}", hint=ELSEWHERE)

    def _frozen_state(self) -> dict[str, Any]:
        if self._state is None:
            raise ArtifactError(
                f"{self.uri} holds no inventory", hint="run `lightly-fs list` with it first"
            )
        return self._state

    def _require_same_config(self) -> None:
        state, asked = self._frozen_state(), config_digests(self.config)
        if state.get("config_digest") == asked["config_digest"]:
            return
        there = yaml.safe_load(self._files.read(CONFIG) or b"{}")
        same = state.get("embedding_digest") == asked["embedding_digest"]
        digest = RunConfig.digest if same else RunConfig.embedding_digest
        difference = config_difference(there, self.config, digest)
        if not same or self._manifest is not None or any(map(self._files.names, RESULTS)):
            what = "the results of another selection" if same else "a run of another configuration"
            raise ArtifactError(f"{self.uri} holds {what}: {difference}", hint=ELSEWHERE)
        logger.info("another selection from the embeddings that are there: %s", difference)
