"""`lightly_epoch_X.ckpt`: all that a training needs to go on, and a model to embed with.

The parameters lie under `state_dict` as `model.backbone.*` and `model.projection_head.*`, the way
the container's checkpoints had them. Tensors and plain values only: loading runs no code. First in
the file is whose it is, so that a torn one tells it too: what another wrote is never deleted.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from lightly_fs.datasource.output import Output
from lightly_fs.embedding.checkpoint import RECORD
from lightly_fs.errors import ArtifactError

Content = Mapping[str, Any]
REQUIRED = ("state_dict", "epoch", "optimizer_states", "history", "loss")
_NAME = re.compile(r"lightly_epoch_(0|[1-9][0-9]*)\.ckpt")
_HEAD_BYTES = 4096
"""Within so many bytes the id of the run is found."""
_AWAY = "move it out of the run directory, and the same command goes on"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which training a checkpoint is of.

    Attributes:
        run_id: Of the run directory.
        digest: SHA-256 over all that shapes the training: keys, images, starting network.
    """

    run_id: str
    digest: str


def checkpoint_name(epoch: int) -> str:
    """Return the name of the checkpoint after an epoch (the first is 0)."""
    return f"lightly_epoch_{epoch}.ckpt"


def epochs_of(names: Iterable[str]) -> list[int]:
    """Return the epochs of the checkpoints among the names of files, ascending."""
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def write_checkpoint(content: Content, path: Path) -> None:
    """Write a checkpoint to a local file, its record first."""
    torch.save({RECORD: content[RECORD], **content}, path)


def damage(data: bytes) -> str | None:
    """Say what is wrong with the archive that a checkpoint is; None when all its sums hold."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            broken = archive.testzip()
    except Exception as error:  # noqa: BLE001 - a damaged file fails anywhere in its reader
        return str(error) or type(error).__name__
    return None if broken is None else f"the checksum of {broken} is wrong"


def load_checkpoint(data: bytes) -> Content | None:
    """Return a checkpoint of this module, or None for a damaged or foreign file."""
    if damage(data) is not None:
        return None
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - what others save fails anywhere too
        _logger.debug("no checkpoint: %s", error)
        return None
    whole = isinstance(content, Mapping) and all(key in content for key in REQUIRED)
    return content if whole else None


def misfit(content: Content, network: str) -> ArtifactError:
    """Return the error for a checkpoint whose tensors are not those of a network."""
    name = checkpoint_name(int(content["epoch"]))
    return ArtifactError(f"the tensors in {name} do not fit {network}", hint=_AWAY)


def kept(losses: Mapping[int, float], top_k: int) -> set[int]:
    """Return which epochs' checkpoints stay: the last, and `top_k` with the lowest loss (-1: all).

    Args:
        losses: Of the epochs that have a checkpoint.
    """
    if top_k == -1:
        return set(losses)
    best: Sequence[int] = sorted(losses, key=lambda epoch: (losses[epoch], epoch))
    return {*best[:top_k], max(losses)} if losses else set()


class Checkpoints:
    """The checkpoints of one training in its run directory; no other file is touched.

    Args:
        files: The run directory.
        origin: Whose they are.
        max_epochs: How many epochs the training has.
        top_k: How many stay beside the last, as for `kept`.
    """

    def __init__(self, files: Output, origin: Origin, *, max_epochs: int, top_k: int) -> None:
        self._files, self._origin = files, origin
        self._max_epochs, self._top_k = max_epochs, top_k
        self._own: set[int] = set()

    def last(self) -> Content | None:
        """Return the newest one that is whole; damaged ones of this run are deleted.

        Raises:
            ArtifactError: A file of this name is not of this training, or cannot be read.
        """
        content: Content | None = None
        damaged: dict[int, str] = {}
        for epoch in reversed(epochs_of(self._files.names())):
            data = self._read(epoch)
            if data is None:
                continue
            self._require_own(epoch, data)
            problem = damage(data)
            if problem is not None:
                damaged[epoch] = problem
                continue
            if content is None:
                content = self._loaded(epoch, data)
            self._own.add(epoch)
        for epoch, problem in damaged.items():  # only now: nothing foreign is there
            self._drop(epoch, problem, content)
        return content

    def write(self, content: Content, local: Path) -> None:
        """Write a checkpoint, then delete those of this training that nobody needs any more.

        Args:
            local: Folder in which the file is made.

        Raises:
            ArtifactError: A file of another is in its place.
        """
        epoch = int(content["epoch"])
        draft = local / checkpoint_name(epoch)
        write_checkpoint(content, draft)
        there = self._read(epoch)
        if there is not None:
            self._require_own(epoch, there)
        self._files.put(draft.name, draft)
        draft.unlink()
        self._own.add(epoch)
        for old in self._own - self._kept(content):
            self._files.delete(checkpoint_name(old))
            self._own.discard(old)

    def stage(self, content: Content, staging: Path) -> None:
        """Copy those that stay to a local folder.

        Raises:
            ArtifactError: One is gone.
        """
        for epoch in self._kept(content):
            data = self._read(epoch)
            if data is None:
                raise ArtifactError(
                    f"{self._place(epoch)} is gone", hint="the same command makes it again"
                )
            (staging / checkpoint_name(epoch)).write_bytes(data)

    def _kept(self, content: Content) -> set[int]:
        measured = {int(one["epoch"]) - 1: one["loss"] for one in content["history"]}
        losses = {epoch: float(measured[epoch]) for epoch in self._own if epoch in measured}
        return kept(losses, self._top_k)

    def _read(self, epoch: int) -> bytes | None:
        """Return a file's bytes; None for no file, or the empty one of an upload that was killed.

        Raises:
            ArtifactError: There is content, but it may not be read.
        """
        name = checkpoint_name(epoch)
        data = self._files.read(name)
        if data:
            return data
        path = self._files.path(name)
        size = self._files.anchor.call(lambda: self._files.anchor.size(path))
        if size:  # a mount may answer with nothing what may not be read
            raise ArtifactError(
                f"{self._place(epoch)} has {size:,} bytes, but cannot be read",
                hint="give access to it, or move it out of the run directory",
            )
        return None

    def _require_own(self, epoch: int, data: bytes) -> None:
        if self._origin.run_id.encode() not in data[:_HEAD_BYTES]:
            raise ArtifactError(
                f"{self._place(epoch)} was not written by this run",
                hint=f"{_AWAY}; checkpoint=FILE goes on from the training of another run",
            )

    def _loaded(self, epoch: int, data: bytes) -> Content:
        place = self._place(epoch)
        content = load_checkpoint(data)
        record = None if content is None else content.get(RECORD)
        if content is None or not isinstance(record, Mapping):
            raise ArtifactError(f"{place} is no checkpoint of a training", hint=_AWAY)
        if content["epoch"] != epoch or epoch >= self._max_epochs:
            raise ArtifactError(
                f"{place} holds epoch {content['epoch']} of a training of "
                f"{self._max_epochs} epochs (the first is 0)",
                hint=_AWAY,
            )
        if record.get("digest") != self._origin.digest:
            raise ArtifactError(
                f"{place} comes from other keys, images or starting weights than these",
                hint="give the weights of before, or choose another `run_directory`",
            )
        return content

    def _drop(self, epoch: int, problem: str, content: Content | None) -> None:
        _logger.warning(
            "%s is damaged (%s) and removed; %s",
            self._place(epoch),
            problem,
            "training begins again"
            if content is None
            else f"training goes on from {checkpoint_name(content['epoch'])}",
        )
        self._files.delete(checkpoint_name(epoch))

    def _place(self, epoch: int) -> str:
        return f"{self._files.uri}/{checkpoint_name(epoch)}"
