"""The first part of training the bundled model: to tell classes apart.

Cross-entropy with label smoothing over the 200 classes, on a cosine classifier over the
128-dimensional embedding (which is what k-NN and selection compare later). Muon trains the hidden
matrices, AdamW the rest. Images grow during the run: small ones are cheap, and a crop that is blown
up to 56 pixels shows its object as large as a whole image at 64 does. What is kept is an
exponential moving average whose batch norm statistics are measured again, at the end, on images
prepared exactly as at inference.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labelled_images import Images, Labels
from muon import Muon, is_hidden_matrix
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from train_images import Augmentation, augment, prepare

from lightly_fs.embedding import bundled
from lightly_fs.embedding.bundled import INPUT_SIZE, BundledNet, ResidualBlock

STATISTICS_FROM = 8192


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that shapes a run; written as the first line of its log."""

    epochs: float = 30.0
    seed: int = 0
    batch: int = 256
    muon_learning_rate: float = 0.02
    muon_weight_decay: float = 0.05
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.02
    label_smoothing: float = 0.1
    first_scale: float = 10.0
    ema_decay: float = 0.998
    held_out_per_class: int = 5
    sizes: tuple[tuple[float, int], ...] = ((0.25, 40), (0.75, 48), (1.0, 56))
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    device: str = "cpu"
    threads: int = os.cpu_count() or 1
    state: str = "state.pt"


def hold_out(labels: Labels, per_class: int, seed: int) -> tuple[Labels, Labels]:
    """Indices to train on and, of each class, `per_class` indices only watched in the log."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_class], np.arange(labels.max() + 1))
    held = np.concatenate([by_class[s : s + per_class] for s in starts])
    return np.setdiff1d(np.arange(len(labels)), held), held


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution as a matrix product: its bf16 backward is several times faster on CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - overrides
        n, c, h, w = input.shape
        rows = input.permute(0, 2, 3, 1).reshape(-1, c)
        return F.linear(rows, self.weight.flatten(1), self.bias).view(n, h, w, -1).movedim(3, 1)


class Classifier(nn.Module):
    """Class logits from cosines, scaled by a learned temperature. Thrown away after training."""

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, bundled.DIMENSIONS))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, embeddings: Tensor) -> Tensor:
        cosines = F.normalize(embeddings.float()) @ F.normalize(self.weight).T
        return cosines * self.log_scale.exp()


class TrainedNet(nn.Module):
    """Normalised images (B, 3, S, S) to logits (B, classes)."""

    def __init__(self, classes: int, config: Config) -> None:
        super().__init__()
        self.net = BundledNet()
        self.classifier = Classifier(classes, config.first_scale)
        for module in self.net.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.second[1].weight)  # type: ignore[arg-type]
            if type(module) is nn.Conv2d and module.kernel_size == (1, 1):
                module.__class__ = PointwiseConv

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.net(images))
        return logits


def replica(net: nn.Module) -> nn.Module:
    """A copy with statistics of its own that shares the parameters."""
    twin = copy.deepcopy(net)
    for mine, theirs in zip(twin.modules(), net.modules(), strict=True):
        mine._parameters = theirs._parameters
    return twin


class Average:
    """Exponential moving average of a module's parameters and statistics."""

    def __init__(self, module: nn.Module, twin: nn.Module, decay: float) -> None:
        twin.load_state_dict(module.state_dict())
        self.twin, self.decay, self.steps = twin.eval().requires_grad_(False), decay, 0
        pairs = zip(twin.state_dict().values(), module.state_dict().values(), strict=True)
        floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        self.averaged, self.current = [a for a, _ in floats], [b for _, b in floats]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averaged, self.current, 1 - decay)


def build(config: Config, classes: int) -> TrainedNet:
    net = TrainedNet(classes, config).to(config.device)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def make_optimizers(
    net: nn.Module, config: Config, pool: ThreadPoolExecutor
) -> list[torch.optim.Optimizer]:
    hidden = [p for name, p in net.named_parameters() if is_hidden_matrix(name, p)]
    other = [p for name, p in net.named_parameters() if not is_hidden_matrix(name, p)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in other if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in other if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        Muon(
            hidden,
            lr=config.muon_learning_rate,
            weight_decay=config.muon_weight_decay,
            each=pool.map,
        ),
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True),
    ]


def schedule(progress: float, config: Config) -> float:
    """Linear warm-up to 1, then a cosine down to nothing."""
    if progress < config.warmup:
        return (progress + 1e-3) / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


def image_size(progress: float, config: Config) -> int:
    return next((size for until, size in config.sizes if progress < until), config.sizes[-1][1])


class Run:
    """One training run: its data, networks and log."""

    def __init__(self, config: Config, data: tuple[Images, Labels], log: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.log = config, log
        self.images, self.labels = (torch.from_numpy(part).to(config.device) for part in data)
        self.train_on, self.held = hold_out(data[1], config.held_out_per_class, config.seed)
        if len(self.train_on) < config.batch:
            raise ValueError(f"{len(self.train_on)} images are less than one batch")
        classes = int(data[1].max()) + 1
        self.net = build(config, classes).train()
        self.parameters = list(self.net.parameters())
        # On a CPU every thread has a replica; a GPU is one worker.
        workers = config.threads if config.device == "cpu" else 1
        self.replicas = [self.net, *(replica(self.net) for _ in range(workers - 1))]
        self.pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        self.average = Average(self.net, build(config, classes), config.ema_decay)
        self.optimizers = make_optimizers(self.net, config, self.pool)
        self.rates = [[group["lr"] for group in each.param_groups] for each in self.optimizers]
        self.rng = np.random.default_rng(config.seed)
        self.seen, self.epoch = 0, 0
        if not self.resume():
            self.write({"config": dataclasses.asdict(config), "images": len(self.train_on)})

    def write(self, record: dict[str, object]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with (self.log / "log.jsonl").open("a") as handle:
            handle.write(line + "\n")

    def progress(self) -> float:
        return self.seen / len(self.train_on) / self.config.epochs

    def gradients(self, worker: int, rows: Labels, size: int, seed: int) -> tuple[Tensor, ...]:
        """The loss and the gradients of one part of a batch."""
        device = self.config.device
        rng = torch.Generator(device).manual_seed(seed)
        index = torch.from_numpy(rows).to(device)
        inputs = augment(self.images[index], size, self.config.augmentation, rng)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            logits = self.replicas[worker](inputs)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits.float(), self.labels[index], label_smoothing=smoothing)
        return (loss.detach(), *torch.autograd.grad(loss, self.parameters))

    def step(self, rows: Labels) -> float:
        """One update. Threads share it by images, not inside each operation: on a busy machine
        the thousands of meetings of the latter made a step ten times slower.
        """
        progress = self.progress()
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(progress, self.config)
        size, workers = image_size(progress, self.config), range(len(self.replicas))
        seeds = [self.seen * len(workers) + worker for worker in workers]
        parts = np.array_split(rows, len(workers))
        results = list(self.pool.map(self.gradients, workers, parts, [size] * len(parts), seeds))
        for parameter, *shares in zip(self.parameters, *(r[1:] for r in results), strict=True):
            parameter.grad = torch.stack(shares).mean(0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()
        self.seen += len(rows)
        return float(torch.stack([r[0] for r in results]).mean())

    def batches(self) -> Iterator[Labels]:
        order = self.rng.permutation(self.train_on)
        for start in range(0, len(order) - self.config.batch + 1, self.config.batch):
            yield order[start : start + self.config.batch]

    def one_epoch(self) -> None:
        began, seen, losses = time.monotonic(), self.seen, list[float]()
        for rows in self.batches():
            if self.progress() >= 1:
                break
            losses.append(self.step(rows))
        self.epoch += 1
        record: dict[str, object] = {
            "epoch": self.epoch,
            "progress": round(self.progress(), 4),
            "loss": round(float(np.mean(losses)), 4),
            "images_per_s": round((self.seen - seen) / (time.monotonic() - began), 1),
        }
        self.write(record | self.standing())
        self.suspend()

    @torch.no_grad()
    def standing(self) -> dict[str, object]:
        """Top-1 of the averaged weights on the watched images; nothing is chosen by it."""
        correct = 0
        for rows in np.array_split(self.held, math.ceil(len(self.held) / 250)):
            index = torch.from_numpy(rows).to(self.config.device)
            logits = self.average.twin(prepare(self.images[index], INPUT_SIZE))
            correct += int((logits.argmax(1) == self.labels[index]).sum())
        return {"held_out_top1": round(correct / len(self.held), 4)}

    @torch.no_grad()
    def measure_statistics(self) -> None:
        """Batch norm statistics of the averaged weights on images as inference sees them."""
        modules = self.average.twin.modules()
        norms = [m for m in modules if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.average.twin.train()
        rows = np.random.default_rng(self.config.seed).permutation(self.train_on)[:STATISTICS_FROM]
        for part in np.array_split(rows, math.ceil(len(rows) / 256)):
            index = torch.from_numpy(part).to(self.config.device)
            self.average.twin(prepare(self.images[index], INPUT_SIZE))
        self.average.twin.eval()

    def suspend(self) -> None:
        """Everything that the next epoch depends on, for the same command to go on from."""
        state = {
            "net": [net.state_dict() for net in self.replicas],
            "average": self.average.twin.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "order": self.rng.bit_generator.state,
            "counts": (self.seen, self.epoch, self.average.steps),
        }
        partial = self.log / f"{self.config.state}.partial"
        torch.save(state, partial)
        partial.replace(self.log / self.config.state)

    def resume(self) -> bool:
        path = self.log / self.config.state
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.config.device, weights_only=True)
        for net, saved in zip(self.replicas, state["net"], strict=True):
            net.load_state_dict(saved)
        self.average.twin.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.rng.bit_generator.state = state["order"]
        self.seen, self.epoch, self.average.steps = state["counts"]
        self.write({"resumed_after_epoch": self.epoch, "config": dataclasses.asdict(self.config)})
        return True

    def train(self) -> nn.Module:
        """Train to the end; return the averaged network."""
        while self.progress() < 1:
            self.one_epoch()
        self.measure_statistics()
        epochs = round(self.seen / len(self.train_on), 2)
        self.write({"finished": True, "epochs": epochs, **self.standing()})
        return self.average.twin
