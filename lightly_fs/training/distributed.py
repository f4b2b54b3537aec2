"""A training in several processes, one for each device; this process is the first of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from lightly_fs.cpus import usable_cpus
from lightly_fs.datasource.private import private_directory
from lightly_fs.errors import LightlyFSError, ModelError
from lightly_fs.training.trainer import Plan, Trainer

_PATIENCE_S = 30.0
_WORK, _READY = "work.pickle", "ready-"
_logger = logging.getLogger(__name__)


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
    # What a killed process leaves of it, the next run on this host removes.
    with private_directory("rendezvous") as folder:
        # By value: tensors that processes share would be trained by all of them at once. In a
        # file: what a starting process reads from a pipe breaks when this one is interrupted.
        (folder / _WORK).write_bytes(pickle.dumps((plan, backbone)))
        context = torch.multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_follow, args=(rank, folder), daemon=False)
            for rank in range(1, plan.devices.count)
        ]
        threads = torch.get_num_threads()
        try:
            # Not in this thread, where a signal would end the start half way.
            with ThreadPoolExecutor(1, "start-training") as pool:
                pool.submit(_start, others).result()
            _await(others, folder)
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
                if process.pid is not None:
                    process.kill()
                    process.join()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            torch.set_num_threads(threads)


def _start(processes: Sequence[BaseProcess]) -> None:
    # Ctrl-C reaches all processes of a terminal; the first of them ends the others. They inherit
    # what this thread does not take.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for process in processes:
        process.start()


def _await(processes: Sequence[BaseProcess], folder: Path) -> None:
    """Wait until all can meet; the meeting itself hears neither of signals nor of ends."""
    for rank, process in enumerate(processes, start=1):
        while not (folder / f"{_READY}{rank}").exists():
            if not process.is_alive():
                raise RuntimeError(f"process {rank} ended with {process.exitcode}")
            time.sleep(0.02)


def _follow(rank: int, folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    plan, backbone = pickle.loads(  # noqa: S301 - made by the process that started this one
        (folder / _WORK).read_bytes()
    )
    (folder / f"{_READY}{rank}").touch()
    _join(plan, rank, folder)
    try:
        for _ in Trainer(plan, backbone, rank).epochs(_nobody):
            pass
    except LightlyFSError as error:
        _logger.error("training process %d: %s", rank, error.message)  # noqa: TRY400
        sys.exit(1)
    torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _join(plan: Plan, rank: int, folder: Path) -> None:
    if plan.devices.kind == "cuda":
        torch.cuda.set_device(plan.devices.device(rank))
    else:
        torch.set_num_threads(max(1, usable_cpus() // plan.devices.count))
    torch.distributed.init_process_group(
        "nccl" if plan.devices.kind == "cuda" else "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=plan.devices.count,
    )


def _nobody(epoch: int, images: int, loss: float) -> None:
    """Report for nobody."""
