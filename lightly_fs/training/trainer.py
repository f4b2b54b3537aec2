"""The loop: epochs of SimCLR in one process, or in one of several that share every step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

import lightly_fs
from lightly_fs.artifacts.run_dir import ELSEWHERE
from lightly_fs.config.training import TrainingConfig
from lightly_fs.cpus import usable_cpus
from lightly_fs.embedding.checkpoint import BACKBONE, FINAL_LAYER, RECORD, State
from lightly_fs.embedding.final_layer import add_layer, has_final_layer
from lightly_fs.errors import ModelError
from lightly_fs.training import memory
from lightly_fs.training.checkpoint import Content, Origin, misfit
from lightly_fs.training.metrics import Quality, measure_quality
from lightly_fs.training.network import Devices
from lightly_fs.training.pack import Copies
from lightly_fs.training.simclr import (
    HEAD,
    SimCLR,
    behind_layer,
    criterion,
    learning_rate,
    optimizer,
)
from lightly_fs.training.views import EpochBatches, ViewMaker, Views, held_out, view_loader
from lightly_fs.training.within_class import Images, Layer, fitted_layer

_MEASURED = 2**31
"""Stands for the epoch in the seed of the views that are measured, which never change."""
_EVERY_STEPS = 8
"""How often the loss is fetched from the device for the progress line."""
_logger = logging.getLogger(__name__)

Report = Callable[[int, int, float], None]
"""Told epoch, images of it that are done, and the loss."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that decides a training, the same in every process.

    Attributes:
        name: Of the network.
        size: Side of the views and of the network's inputs.
        mean: The network's normalisation, as is `std`.
        copies: The images to train on, as `pack.Copies` of twice the side.
        plain: The same rows as the network embeds them.
        pretrained: Whether the network comes with weights that are worth keeping a share of.
        head: Projection head to start from; empty for a new one.
        origin: Whose checkpoints these are.
        resumed: The checkpoint to go on from.
    """

    settings: TrainingConfig
    devices: Devices
    name: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    copies: Copies
    plain: Copies
    pretrained: bool
    head: State
    origin: Origin
    resumed: Content | None = None


class Trainer:
    """One process's part of a training.

    Attributes:
        epoch: The next one; the same as how many are done.
        history: What was measured, epoch by epoch; the first entry is from before training. When
            the network was averaged or normalised after the last epoch, one more entry with the
            number of that epoch says what that changed, with `start_share` and `normalized`.
    """

    def __init__(self, plan: Plan, backbone: nn.Module, rank: int = 0) -> None:
        self.plan, self.rank = plan, rank
        self.device = plan.devices.device(rank)
        with memory.allocating(plan.settings, self.device, hint=ELSEWHERE):
            self._build(backbone)
        self.epoch = 0
        self._layer: Layer | None = None
        self._start = _copies(self.model.backbone) if self._start_share else {}
        self.history: list[dict[str, float | int | None]] = []
        self._prepare_images()
        if plan.resumed is not None:
            self._restore(plan.resumed)
        world = plan.devices.count
        self._shared = _distributed(self.model, self.device) if world > 1 else self.model

    def _build(self, backbone: nn.Module) -> None:
        """Make the model, its loss and its optimizer."""
        plan, settings, world = self.plan, self.plan.settings, self.plan.devices.count
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            made = SimCLR(
                backbone, plan.size, mean=plan.mean, std=plan.std, out_dim=settings.model.out_dim
            )
        if plan.head and not made.load_head(plan.head):
            _logger.info("the projection head of the checkpoint has another shape: a new one")
        if world > 1 and self.device.type == "cuda":
            made = cast(SimCLR, nn.SyncBatchNorm.convert_sync_batchnorm(made))  # type: ignore[no-untyped-call]
        self.model = made.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.criterion = criterion(settings, gather=world > 1).to(self.device)
        self.optimizer = optimizer(self.model, settings.optimizer)
        self._precision = _precision(settings, self.device)
        self._scaler = GradScaler(self.device.type, enabled=self._precision is torch.float16)

    def epochs(self, report: Report) -> Iterator[int]:
        """Train; yield each epoch's number when it is over.

        Raises:
            ModelError: A step does not fit into memory, or the loss is no number any more.
        """
        settings = self.plan.settings
        workers = self._workers()
        views = Views(self.plan.copies, self._make, settings.seed)
        loader = view_loader(views, self._batches, workers)
        if not self.history:
            self._note(None)
        while self.epoch < settings.trainer.max_epochs:
            self._batches.epoch = self.epoch
            # Dropout and the like start every epoch from its number, so that resuming is exact.
            with torch.random.fork_rng(), memory.explained(self, workers):
                torch.manual_seed(_seed(settings.seed, self.epoch, self.rank))
                loss = self._epoch(iter(loader), report)
            if not np.isfinite(loss):
                rate = settings.optimizer.lr
                raise ModelError(
                    f"the loss of epoch {self.epoch} is {loss}: training has diverged with "
                    f"lightly.optimizer.lr={rate:g}; lightly.optimizer.lr={rate / 10:g} may do",
                    hint=ELSEWHERE,
                )
            self.epoch += 1
            self._note(loss)
            if self.epoch == settings.trainer.max_epochs and self.rank == 0:
                self._finish(workers)
            yield self.epoch - 1

    def checkpoint(self) -> Content:
        """Return a copy of all that `lightly_epoch_X.ckpt` holds after the epochs so far."""
        losses = self.criterion
        backbone, head = self._states()
        card = {"model": self.plan.name, "input_size": self.plan.size}
        card |= {FINAL_LAYER: True} if has_final_layer(backbone) else {}
        return {
            RECORD: card | asdict(self.plan.origin),
            "state_dict": {
                **{f"{BACKBONE}{name}": value for name, value in backbone.items()},
                **{f"{HEAD}{name}": value for name, value in head.items()},
            },
            "epoch": self.epoch - 1,
            "global_step": self.epoch * len(self._batches),
            "optimizer_states": [copy.deepcopy(self.optimizer.state_dict())],
            "loss": {name: _copied(value) for name, value in losses.named_buffers()},
            "scaler": self._scaler.state_dict(),
            "history": [dict(entry) for entry in self.history],
            "hyper_parameters": self.plan.settings.model_dump(mode="json"),
            "processes": self.plan.devices.count,
            "package_version": lightly_fs.__version__,
        }

    def _states(self) -> tuple[State, State]:
        """Return copies of the tensors of the network as it embeds, and of the projection head."""
        backbone, head = _copies(self.model.backbone), _copies(self.model.projection_head)
        if self._layer is None:
            return backbone, head
        weight, bias = (torch.from_numpy(part) for part in self._layer)
        return add_layer(backbone, weight, bias), behind_layer(head, weight)

    @property
    def images(self) -> int:
        """How many images an epoch trains on, over all processes."""
        return self._batches.images

    def step(self, views: Tensor) -> Tensor:
        """Return the loss of views (B, 2, S, S, 3) uint8 on the device, gradients computed."""
        with self._autocast():
            first, second = self._shared(views)
        loss: Tensor = self.criterion(first, second)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _prepare_images(self) -> None:
        settings, n = self.plan.settings, len(self.plan.copies)
        world = self.plan.devices.count
        measured = held_out(n, settings.loader.batch_size * world, settings.seed)
        rows = np.setdiff1d(np.arange(n, dtype=np.int64), measured)
        self._make = ViewMaker(settings.collate, self.plan.size)
        self._batches = EpochBatches(
            rows,
            settings.loader.batch_size,
            seed=settings.seed if settings.loader.shuffle else None,
            drop_last=settings.loader.drop_last,
            rank=self.rank,
            world=world,
        )
        self._measured = self._measured_views(measured) if self.rank == 0 else None

    def _measured_views(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Return fixed views (N, 2, S, S, 3) uint8 of images that are not trained on."""
        if len(rows) < 2:
            return None
        views = Views(self.plan.copies, self._make, self.plan.settings.seed)
        return torch.stack([views[(_MEASURED, int(row))] for row in rows])

    def _epoch(self, batches: Iterator[Tensor], report: Report) -> float:
        settings = self.plan.settings
        self._shared.train()
        images = settings.loader.batch_size * self.plan.devices.count
        steps = len(self._batches) * settings.trainer.max_epochs
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, views in enumerate(batches):
            step = self.epoch * len(self._batches) + number
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(settings.optimizer, images, step, steps)
            self.optimizer.zero_grad(set_to_none=True)
            total += self.step(views.to(self.device, non_blocking=True))
            self._scaler.step(self.optimizer)
            self._scaler.update()
            if number % _EVERY_STEPS == 0:
                done = min((number + 1) * images, self.images)
                report(self.epoch, done, float(total) / (number + 1))
        return float(total) / max(1, len(self._batches))

    @property
    def _start_share(self) -> float:
        return self.plan.settings.model.start_share if self.plan.pretrained else 0.0

    def _finish(self, workers: int) -> None:
        """Average the network with the one it was, normalise it, and measure what that changed."""
        share = self._start_share
        if share:
            trained = _copies(self.model.backbone)
            self.model.backbone.load_state_dict(averaged(trained, self._start, share))
        if self.plan.settings.model.normalize_covariance:
            self._layer = self._fitted(workers)
            if self._layer is None:
                _logger.warning("views of an image do not differ: the network is not normalised")
        if share or self._layer is not None:
            quality = self._quality()
            made = {"start_share": share, "normalized": self._layer is not None}
            self.history.append(self.history[-1] | made | (asdict(quality) if quality else {}))

    def _fitted(self, workers: int) -> Layer | None:
        plan, settings = self.plan, self.plan.settings
        views = Views(plan.copies, self._make, settings.seed)
        self.model.eval()
        return fitted_layer(
            self._embedded,
            Images(plan.plain, views, self._batches.rows),
            seed=settings.seed,
            # No more images at once than a training step has: what fits there fits here.
            batch=settings.loader.batch_size,
            workers=workers,
        )

    def _note(self, loss: float | None) -> None:
        """Measure the embedding and add it to the history."""
        entry: dict[str, float | int | None] = {
            "epoch": self.epoch,
            "loss": loss,
            "images": 0 if loss is None else self.images,
            "lr": None if loss is None else float(self.optimizer.param_groups[0]["lr"]),
        }
        quality = self._quality()
        if quality is not None:
            entry |= asdict(quality)
        self.history.append(entry)

    def _quality(self) -> Quality | None:
        if self._measured is None:
            return None
        self.model.eval()
        # No more images at once than a training step has: what fits there fits here.
        size = 2 * self.plan.settings.loader.batch_size
        both = [
            np.concatenate([self._embedded(part) for part in torch.split(views, size)])
            for views in self._measured.unbind(1)
        ]
        if self._layer is not None:
            both = [self._layer(vectors) for vectors in both]
        return measure_quality(torch.from_numpy(both[0]), torch.from_numpy(both[1]))

    def _embedded(self, images: Tensor) -> NDArray[np.float64]:
        """Return (B, D) of images (B, S, S, 3) uint8, by the network in eval mode."""
        with torch.inference_mode():
            vectors: Tensor = self.model.embed(images.to(self.device)).double().cpu()
            return vectors.numpy()

    def _restore(self, content: Content) -> None:
        state = {
            name.removeprefix("model."): value for name, value in content["state_dict"].items()
        }
        buffers = dict(self.criterion.named_buffers())
        try:
            self.model.load_state_dict(state)
            self.optimizer.load_state_dict(content["optimizer_states"][0])
            for name, value in content["loss"].items():
                buffers[name].copy_(value)
            self._scaler.load_state_dict(content["scaler"])
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise misfit(content, self.plan.name) from error
        self.history = [dict(entry) for entry in content["history"]]
        self.epoch = int(content["epoch"]) + 1

    def _workers(self) -> int:
        asked = self.plan.settings.loader.num_workers
        return asked if asked >= 0 else max(1, usable_cpus() // self.plan.devices.count)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._precision)


def _precision(settings: TrainingConfig, device: torch.device) -> torch.dtype:
    if settings.trainer.precision == 32:
        return torch.float32
    if device.type == "cuda":
        # bfloat16 has the range of float32, so that no gradient has to be scaled.
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    _logger.warning("lightly.trainer.precision=16: this CPU has no bfloat16, training in float32")
    return torch.float32


def _distributed(model: SimCLR, device: torch.device) -> nn.Module:
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def averaged(trained: State, start: State, share: float) -> dict[str, Tensor]:
    """Return the tensors between those of a trained network and those it started from.

    Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.

    Args:
        trained: By name.
        start: Of the same names and shapes.
        share: From 0 to 1, how much of `start` is in them; what counts steps is `trained`'s.
    """
    return {
        name: torch.lerp(value.double(), start[name].double(), share).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in trained.items()
    }


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: _copied(value) for name, value in module.state_dict().items()}


def _copied(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
