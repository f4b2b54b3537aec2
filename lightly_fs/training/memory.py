"""What to do when a training step does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lightly_fs.artifacts.run_dir import ELSEWHERE
from lightly_fs.errors import ModelError

if TYPE_CHECKING:
    from lightly_fs.config.training import TrainingConfig
    from lightly_fs.training.trainer import Trainer

_CPU_FULL = "can't allocate memory"
_NO_SHARED_MEMORY = "shared memory"
_WORKER_KILLED = "DataLoader worker"


@contextmanager
def allocating(
    settings: TrainingConfig, device: torch.device, *, hint: str | None = None
) -> Iterator[None]:
    """Turn the errors of a model that has no room into one that names the keys of its sizes.

    Raises:
        ModelError: The memory is full.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_full(error):
            raise
        sizes = [f"lightly.model.out_dim={settings.model.out_dim}"]
        if settings.model.name:
            sizes += [f"{key}={getattr(settings.model, key)}" for key in ("num_ftrs", "width")]
        sizes += [f"lightly.criterion.memory_bank_size={settings.criterion.memory_bank_size}"]
        raise ModelError(
            f"the model does not fit into the memory of {device} with {', '.join(sizes)}",
            hint=hint or "give smaller numbers",
        ) from error


def _is_full(error: Exception) -> bool:
    # torch's OutOfMemoryError is a RuntimeError too.
    kinds = (torch.cuda.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or _CPU_FULL in str(error)


@contextmanager
def explained(trainer: Trainer, workers: int) -> Iterator[None]:
    """Turn the errors of a full memory into one that names the batch size to use.

    Raises:
        ModelError: Neither the batch nor what the workers pass on has room.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if _is_full(error):
            raise _too_large(trainer) from error
        if _NO_SHARED_MEMORY in str(error) or _WORKER_KILLED in str(error):
            raise ModelError(
                "a process that augments images was killed, or found no shared memory",
                hint="docker run --shm-size=1g, or "
                + f"lightly.loader.num_workers={workers // 2 if workers > 1 else 0}",
            ) from error
        raise


def _too_large(trainer: Trainer) -> ModelError:
    batch = trainer.plan.settings.loader.batch_size
    fits = _largest_that_fits(trainer, batch // 2)
    return ModelError(
        f"a batch of {batch} images (two views of {trainer.plan.size}x{trainer.plan.size} each) "
        f"does not fit into the memory of {trainer.device}; "
        + (
            f"lightly.loader.batch_size={fits} does"
            if fits
            else "lightly.trainer.precision=16 or a smaller lightly.collate.input_size may"
        ),
        hint=ELSEWHERE,
    )


def _largest_that_fits(trainer: Trainer, batch: int) -> int:
    """Return the first of batch, batch/2, … whose step fits, or 0."""
    if trainer.plan.devices.count > 1:
        return batch  # a step needs all processes, and this one failed
    side = trainer.plan.size
    while batch >= 2:
        trainer.optimizer.zero_grad(set_to_none=True)
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            views = torch.zeros((batch, 2, side, side, 3), dtype=torch.uint8)
            trainer.step(views.to(trainer.device))
        except (MemoryError, RuntimeError):  # torch's OutOfMemoryError is one too
            batch //= 2
        else:
            return batch
    return 0
