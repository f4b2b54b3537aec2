r"""Train the bundled embedding model from Tiny ImageNet, on a CPU, in under an hour.

    python scripts/train_bundled.py --data DIR --log DIR --minutes 55 \
        --out lightly_fs/embedding/weights/bundled.safetensors

Why our own weights: the wheel carries them, so a first run needs no download and no third party's
terms beyond those of the training images (see docs/model-card.md).

What it does: supervised cross-entropy with label smoothing over the 200 classes, on a cosine
classifier over the 128-dimensional embedding (which is what k-NN and selection compare later).
Images grow from 64 to 96 to 128 pixels during the run, because small images are four times
cheaper and the last part fits the network to the size it is used at. The saved weights are an
exponential moving average whose batch norm statistics are measured again, at the end, on images
prepared exactly as at inference.

Progress, and with it learning rate and image size, follows the clock (`--minutes`) or the number
of epochs (`--epochs`), whichever is ahead, so a run always ends annealed. With `--epochs`
alone, two short runs gave the same tensors bit for bit (same machine, same number of threads); by
the clock a run depends on the machine's speed. Reads only tiny-imagenet-train-*.tar.
"""

from __future__ import annotations

import argparse
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
from labelled_images import TRAIN_ARCHIVES, Images, Labels, read_archives
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from train_images import Augmentation, augment, prepare

from lightly_fs.embedding import bundled
from lightly_fs.embedding.bundled import INPUT_SIZE, BundledNet


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that shapes a run; written as the first line of its log."""

    minutes: float | None = 55.0
    epochs: float | None = None
    seed: int = 0
    batch: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup: float = 0.04
    label_smoothing: float = 0.1
    head_scale: float = 8.0
    ema_decay: float = 0.997
    held_out_per_class: int = 5
    sizes: tuple[tuple[float, int], ...] = ((0.50, 64), (0.82, 96), (1.0, 128))
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    threads: int = os.cpu_count() or 1


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


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution kept in float32: in bf16 its backward takes most of a step on CPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - overrides
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)


def speed_up(net: nn.Module) -> None:
    """Swap the convolutions' implementation in place; parameters and their names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = DepthwiseConv
        elif type(module) is nn.Conv2d and module.kernel_size == (1, 1):
            module.__class__ = PointwiseConv


class CosineHead(nn.Module):
    """Class logits from cosines, scaled by a learned temperature. Thrown away after training."""

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, bundled.DIMENSIONS))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, embeddings: Tensor) -> Tensor:
        cosines = F.normalize(embeddings.float()) @ F.normalize(self.weight).T
        return cosines * self.log_scale.exp()


def replica(net: nn.Sequential) -> nn.Sequential:
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


def build(config: Config, classes: int) -> nn.Sequential:
    net = nn.Sequential(BundledNet(), CosineHead(classes, config.head_scale))
    for block in net.modules():
        if getattr(block, "has_skip", False) and hasattr(block, "pw_proj"):
            last = block.get_submodule("pw_proj.bn").get_parameter("weight")
            nn.init.zeros_(last)  # starts shallow: learns sooner, and in bf16
    speed_up(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def make_optimizer(net: nn.Module, config: Config) -> torch.optim.AdamW:
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def learning_rate(progress: float, config: Config) -> float:
    """Linear warm-up, then a cosine down to nothing."""
    if progress < config.warmup:
        return config.learning_rate * (progress + 1e-3) / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))


def image_size(progress: float, config: Config) -> int:
    return next((size for until, size in config.sizes if progress < until), config.sizes[-1][1])


class Run:
    """One training run: its data, networks, clock and log."""

    def __init__(self, config: Config, data: tuple[Images, Labels], out: Path, log: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, (self.images, self.labels) = config, data
        self.out, self.log = out, log / "log.jsonl"
        self.train_on, self.held = hold_out(data[1], config.held_out_per_class, config.seed)
        if len(self.train_on) < config.batch:
            raise ValueError(f"{len(self.train_on)} images are less than one batch")
        classes = int(self.labels.max()) + 1
        self.net = build(config, classes).train()
        self.parameters = list(self.net.parameters())
        self.replicas = [self.net, *(replica(self.net) for _ in range(config.threads - 1))]
        self.pool = ThreadPoolExecutor(
            config.threads, initializer=torch.set_num_threads, initargs=(1,)
        )
        self.average = Average(self.net, build(config, classes), config.ema_decay)
        self.optimizer = make_optimizer(self.net, config)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.started, self.seen, self.epoch = time.monotonic(), 0, 0
        self.write({"config": dataclasses.asdict(config), "images": len(self.train_on)})

    def write(self, record: dict[str, object]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with self.log.open("a") as handle:
            handle.write(line + "\n")

    def progress(self) -> float:
        """0 to 1, by the clock or by images seen, whichever is ahead."""
        elapsed = (time.monotonic() - self.started) / 60
        by_clock = elapsed / self.config.minutes if self.config.minutes else 0.0
        epochs = self.seen / len(self.train_on)
        return max(by_clock, epochs / self.config.epochs if self.config.epochs else 0.0)

    def batches(self) -> Iterator[Labels]:
        order = torch.randperm(len(self.train_on), generator=self.rng).numpy()
        for start in range(0, len(order) - self.config.batch + 1, self.config.batch):
            yield self.train_on[order[start : start + self.config.batch]]

    def gradients(self, worker: int, rows: Labels, size: int, seed: int) -> tuple[Tensor, ...]:
        """The loss and the gradients of one part of a batch, on one thread."""
        rng = torch.Generator().manual_seed(seed)
        inputs = augment(self.images[rows], size, self.config.augmentation, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.replicas[worker](inputs).float()
        targets = torch.from_numpy(self.labels[rows])
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return (loss.detach(), *torch.autograd.grad(loss, self.parameters))

    def step(self, rows: Labels, progress: float) -> float:
        """One update. Threads share it by images, not inside each operation: on a busy machine
        the thousands of meetings of the latter made a step ten times slower.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress, self.config)
        size, workers = image_size(progress, self.config), range(self.config.threads)
        seeds = [self.seen * len(workers) + worker for worker in workers]
        parts = np.array_split(rows, len(workers))
        results = list(self.pool.map(self.gradients, workers, parts, [size] * len(parts), seeds))
        for parameter, *shares in zip(self.parameters, *(r[1:] for r in results), strict=True):
            parameter.grad = torch.stack(shares).mean(0)
        self.optimizer.step()
        self.average.update()
        self.seen += len(rows)
        return float(np.mean([float(r[0]) for r in results]))

    def one_epoch(self) -> None:
        began, seen, losses, progress = time.monotonic(), self.seen, list[float](), self.progress()
        for rows in self.batches():
            progress = self.progress()
            if progress >= 1:
                break
            losses.append(self.step(rows, progress))
        self.epoch += 1
        record: dict[str, object] = {
            "epoch": self.epoch,
            "progress": round(progress, 4),
            "loss": round(float(np.mean(losses or [math.nan])), 4),
            "images_per_s": round((self.seen - seen) / (time.monotonic() - began), 1),
        }
        self.write(record | self.standing(image_size(progress, self.config)))
        self.save()

    @torch.no_grad()
    def standing(self, size: int = INPUT_SIZE) -> dict[str, object]:
        """Top-1 of the averaged weights on the watched images (nothing is chosen by it), time."""
        correct = 0
        for rows in np.array_split(self.held, math.ceil(len(self.held) / 250)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.average.twin(prepare(self.images[rows], size))
            correct += int((logits.argmax(1).numpy() == self.labels[rows]).sum())
        minutes = round((time.monotonic() - self.started) / 60, 2)
        top1 = round(correct / len(self.held), 4)
        return {"held_out_top1": top1, "at_size": size, "minutes": minutes}

    @torch.no_grad()
    def measure_statistics(self, count: int = 8192) -> None:
        """Batch norm statistics of the averaged weights on images as inference sees them."""
        modules = self.average.twin.modules()
        norms = [m for m in modules if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.average.twin.train()
        rows = np.random.default_rng(self.config.seed).permutation(self.train_on)[:count]
        for part in np.array_split(rows, math.ceil(len(rows) / 256)):
            self.average.twin(prepare(self.images[part]))
        self.average.twin.eval()

    def save(self) -> None:
        state = bundled.stored_state(self.average.twin[0])  # type: ignore[index]
        bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
        if bad:
            raise ValueError(f"weights that float16 cannot hold: {bad[:3]}")
        partial = self.out.with_name(self.out.name + ".partial")
        save_file(state, partial, metadata(self.config, self.seen / len(self.train_on)))
        partial.chmod(0o644)
        partial.replace(self.out)

    def train(self) -> None:
        while self.progress() < 1:
            self.one_epoch()
        self.measure_statistics()
        self.save()
        epochs = round(self.seen / len(self.train_on), 2)
        self.write({"finished": True, "epochs": epochs, **self.standing()})


def metadata(config: Config, epochs: float) -> dict[str, str]:
    return {
        "name": "bundled",
        "version": "1",
        "architecture": bundled.ARCHITECTURE,
        "input_size": str(INPUT_SIZE),
        "dimensions": str(bundled.DIMENSIONS),
        "mean": json.dumps(bundled.MEAN),
        "std": json.dumps(bundled.STD),
        "resize": "squash to input_size, bilinear, antialiased",
        "training_data": "Tiny ImageNet train, 60,000 images of 64x64, 200 classes",
        "training": f"supervised, {epochs:.1f} epochs, seed {config.seed}",
        "licence": "trained from research-use images; see NOTICE.md beside the weights",
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--log", type=Path, required=True, help="folder for config and log")
    parser.add_argument("--minutes", type=float, help="default 55 when --epochs is not given")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-class", type=int, help="fewer images, for a trial run")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    minutes = Config.minutes if args.minutes is None and args.epochs is None else args.minutes
    config = Config(minutes=minutes, epochs=args.epochs, seed=args.seed)
    torch.set_num_threads(config.threads)
    for folder in (args.out.parent, args.log):
        folder.mkdir(parents=True, exist_ok=True)
    data = read_archives([args.data / name for name in TRAIN_ARCHIVES], args.per_class)
    Run(config, data, args.out, args.log).train()


if __name__ == "__main__":
    main()
