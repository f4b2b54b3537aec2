"""A training in several processes, one for each device; this process is the first of them."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from lightly_fs.cpus import usable_cpus
from lightly_fs.errors import LightlyFSError, ModelError
from lightly_fs.training.trainer import Plan, Trainer

_PATIENCE_S = 30.0


@contextmanager
def trainer_of(plan: Plan, backbone: nn.Module) -> Iterator[Trainer]:
    """Start what a plan asks for, and yield the part of this process, which leads.

    The other processes take every step with it and end with the block.

    Raises:
        ModelError: One of them failed.
    """
    if plan.devices.count == 1:
        yield Trainer(plan, backbone)
        return
    with tempfile.TemporaryDirectory(prefix="lightly-fs-rendezvous-") as folder:
        # By value: tensors that processes share would be trained by all of them at once.
        work = pickle.dumps((plan, backbone))
        others = [
            torch.multiprocessing.get_context("spawn").Process(
                target=_follow, args=(rank, work, folder), daemon=False
            )
            for rank in range(1, plan.devices.count)
        ]
        threads = torch.get_num_threads()
        for process in others:
            process.start()
        try:
            _join(plan, 0, folder)
            yield Trainer(plan, backbone)
            for process in others:
                process.join(_PATIENCE_S)
        except RuntimeError as error:
            # What is seen here of a process that ended is a closed connection.
            if isinstance(error, LightlyFSError):
                raise
            raise ModelError(
                f"one of {plan.devices.count} training processes failed: {error}",
                hint="lightly.trainer.gpus=1 trains in one process and says why",
            ) from error
        finally:
            for process in others:
                if process.is_alive():
                    process.kill()
                process.join()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            torch.set_num_threads(threads)


def _follow(rank: int, work: bytes, folder: str) -> None:
    plan, backbone = pickle.loads(work)  # noqa: S301 - made by the process that started this one
    _join(plan, rank, folder)
    for _ in Trainer(plan, backbone, rank).epochs(_nobody):
        pass
    torch.distributed.destroy_process_group()


def _join(plan: Plan, rank: int, folder: str) -> None:
    if plan.devices.kind == "cuda":
        torch.cuda.set_device(plan.devices.device(rank))
    else:
        torch.set_num_threads(max(1, usable_cpus() // plan.devices.count))
    torch.distributed.init_process_group(
        "nccl" if plan.devices.kind == "cuda" else "gloo",
        init_method=f"file://{Path(folder) / 'rendezvous'}",
        rank=rank,
        world_size=plan.devices.count,
    )


def _nobody(epoch: int, images: int, loss: float) -> None:
    """Report for nobody."""
