"""`lightly_epoch_X.ckpt`: all that a training needs to go on, and a model to embed with.

The parameters lie under `state_dict` as `model.backbone.*` and `model.projection_head.*`, the way
the container's checkpoints had them. Tensors and plain values only: loading runs no code.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from lightly_fs.datasource.output import Output

Content = Mapping[str, Any]
REQUIRED = ("state_dict", "epoch", "optimizer_states", "history", "loss")
_NAME = re.compile(r"lightly_epoch_(\d+)\.ckpt")
_logger = logging.getLogger(__name__)


def checkpoint_name(epoch: int) -> str:
    """Return the name of the checkpoint after an epoch (the first is 0)."""
    return f"lightly_epoch_{epoch}.ckpt"


def epochs_of(names: Iterable[str]) -> list[int]:
    """Return the epochs of the checkpoints among the names of files, ascending."""
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def write_checkpoint(content: Content, path: Path) -> None:
    """Write a checkpoint to a local file."""
    torch.save(dict(content), path)


def load_checkpoint(data: bytes) -> Content | None:
    """Return a checkpoint of this module, or None for a torn or foreign file."""
    try:
        content = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a torn file fails anywhere in its reader
        _logger.debug("no checkpoint: %s", error)
        return None
    whole = isinstance(content, Mapping) and all(key in content for key in REQUIRED)
    return content if whole else None


def last_checkpoint(files: Output) -> Content | None:
    """Return the newest checkpoint of a run directory; torn ones are deleted."""
    for epoch in reversed(epochs_of(files.names())):
        name = checkpoint_name(epoch)
        data = files.read(name) or b""
        content = load_checkpoint(data)
        if content is not None:
            return content
        _logger.warning("deleting the torn checkpoint %s", name)
        files.delete(name)
    return None


def kept(losses: Mapping[int, float], top_k: int) -> set[int]:
    """Return which epochs' checkpoints stay: the last, and `top_k` with the lowest loss (-1: all).

    Args:
        losses: Of the epochs that have a checkpoint.
    """
    if top_k == -1:
        return set(losses)
    best: Sequence[int] = sorted(losses, key=lambda epoch: (losses[epoch], epoch))
    return {*best[:top_k], max(losses)} if losses else set()
