"""A tiny pack and plan, so that a training of several epochs takes a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lightly_fs.config.training import TrainingConfig
from lightly_fs.decoding.loader import ImageBatch
from lightly_fs.training.checkpoint import Origin
from lightly_fs.training.network import Devices
from lightly_fs.training.pack import Pack
from lightly_fs.training.trainer import Plan
from lightly_fs.types import Failure, ImageRecord, Outcome, Sample
from tests.images import scene
from tests.unit.embedding.networks import small_network

SIZE, COPY = 16, 32
ORIGIN = Origin("0123456789abcdef01234567", "digest")


def sample(row: int) -> Sample:
    return Sample(f"{row:03d}.jpg", 100 + row, None, row)


def batch(rows: range, *, corrupt: tuple[int, ...] = (), length: int = 0) -> ImageBatch:
    length = length or len(rows)
    pixels = torch.zeros((length, SIZE, SIZE, 3), dtype=torch.uint8)
    copies = torch.zeros((length, COPY, COPY, 3), dtype=torch.uint8)
    results: list[ImageRecord | Failure] = []
    for place, row in enumerate(rows):
        if row in corrupt:
            results.append(Failure(f"{row:03d}.jpg", Outcome.CORRUPT, "cut off"))
            continue
        image = scene(row)
        pixels[place] = torch.from_numpy(np.array(image.resize((SIZE, SIZE))))
        copies[place] = torch.from_numpy(np.array(image.resize((COPY, COPY))))
        properties = {"sharpness": row / 3, "snr": 1e-17 * row}
        results.append(
            ImageRecord(f"{row:03d}.jpg", 320, 240, bytes([row] * 32), bytes(32), properties)
        )
    return ImageBatch(pixels, [sample(row) for row in rows], results, copies)


def make_pack(directory: Path, n_images: int = 24) -> Pack:
    pack = Pack(directory, SIZE, COPY)
    pack.require_space(n_images)
    half = n_images // 2
    for number, rows in enumerate((range(half), range(half, n_images))):
        pack.write(number, iter([batch(rows)]), progress=lambda _count: None)
    return pack


def plan(pack: Pack, *, processes: int = 1, resumed=None, **groups) -> Plan:
    defaults = {
        "loader": {"batch_size": 4, "num_workers": 0},
        "trainer": {"max_epochs": 3},
        "model": {"out_dim": 8},
    }
    for name, values in groups.items():
        defaults[name] = {**defaults.get(name, {}), **values}
    network = small_network()
    return Plan(
        settings=TrainingConfig.model_validate(defaults),
        devices=Devices("cpu", processes),
        name="small",
        size=SIZE,
        mean=network.mean,
        std=network.std,
        copies=pack.copies(),
        plain=pack.plain(),
        pretrained=True,
        head={},
        origin=ORIGIN,
        resumed=resumed,
    )


def nobody(epoch: int, images: int, loss: float) -> None:
    pass
