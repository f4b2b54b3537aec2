"""Random views of the packed images; each depends on seed, epoch and image alone.

The same views come out whatever the number of processes that make them, and after a restart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightly_fs.config.training import CollateConfig
from lightly_fs.training.pack import Copies

_WHOLE_CIRCLE = 0.5
"""Half a turn of hue either way reaches every hue; torchvision refuses more."""

Key = tuple[int, int]
"""Epoch and row."""


class ViewMaker:
    """`SimCLRTransform` of lightly between uint8 arrays."""

    def __init__(self, collate: CollateConfig, size: int) -> None:
        from lightly.transforms.simclr_transform import SimCLRTransform

        self._transform = SimCLRTransform(
            input_size=size,
            cj_prob=collate.cj_prob,
            cj_strength=1.0,
            cj_bright=collate.cj_bright,
            cj_contrast=collate.cj_contrast,
            cj_sat=collate.cj_sat,
            cj_hue=min(collate.cj_hue, _WHOLE_CIRCLE),
            min_scale=collate.min_scale,
            random_gray_scale=collate.random_gray_scale,
            gaussian_blur=collate.gaussian_blur,
            sigmas=collate.sigmas,
            vf_prob=collate.vf_prob,
            hf_prob=collate.hf_prob,
            rr_prob=collate.rr_prob,
            rr_degrees=collate.rr_degrees,
            normalize=None,
        )

    def __call__(self, pixels: NDArray[np.uint8], seed: Sequence[int]) -> Tensor:
        """Return the views (2, S, S, 3) uint8 of an image (L, L, 3) uint8."""
        with _seeded(seed):
            views = cast(list[Tensor], self._transform(Image.fromarray(np.asarray(pixels))))
        stacked = torch.stack(views).permute(0, 2, 3, 1)
        return (stacked * 255).round_().to(torch.uint8).contiguous()


@contextmanager
def _seeded(seed: Sequence[int]) -> Iterator[None]:
    """Let all generators that torchvision and lightly draw from start here, and go back after."""
    words = np.random.SeedSequence(list(seed)).generate_state(3)
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        torch.manual_seed(int(words[2]))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class Views(Dataset[Tensor]):
    """Two views of an image by epoch and row."""

    def __init__(self, copies: Copies, make: ViewMaker, seed: int) -> None:
        self._copies, self._make, self._seed = copies, make, seed

    def __getitem__(self, key: Key) -> Tensor:
        epoch, row = key
        return self._make(self._copies[row], (self._seed, epoch, row))


class EpochBatches(Sampler[list[Key]]):
    """The batches of one process for the epoch that is set.

    All processes take the same order; each takes its own part of every step. A last step that is
    not full is left out, or, when `drop_last` is off, filled from the beginning of the order so
    that every process gets the same number of images.

    Attributes:
        epoch: Which epoch the next iteration gives.
        rows: All that are trained on.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int | None,
        drop_last: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.epoch = 0
        self.rows = rows
        self._batch, self._seed = batch_size, seed
        self._drop_last, self._rank, self._world = drop_last, rank, world

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self._batch * self._world)
        # Two images are the least that can be told apart.
        return full if self._drop_last or rest < 2 * self._world else full + 1

    @property
    def images(self) -> int:
        """Images in an epoch, over all processes."""
        return min(len(self) * self._batch * self._world, len(self.rows))

    def __iter__(self) -> Iterator[list[Key]]:
        order = self.rows
        if self._seed is not None:
            order = np.random.default_rng((self._seed, self.epoch)).permutation(order)
        step = self._batch * self._world
        for start in range(0, len(self) * step, step):
            part = order[start : start + step]
            part = np.concatenate([part, order[: -len(part) % self._world]])
            own = len(part) // self._world
            mine = part[self._rank * own : (self._rank + 1) * own]
            yield [(self.epoch, int(row)) for row in mine]


def view_loader(views: Views, batches: Iterable[list[Key]], workers: int) -> DataLoader[Tensor]:
    """Return a loader of batches (B, 2, S, S, 3) uint8; `EpochBatches` gives an epoch's."""
    return DataLoader(
        views,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # a DataLoader draws a seed; the global one is the model's
    )


def held_out(n_images: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Return the rows, ascending, that are kept from training to measure it: at most 512, a tenth.

    Never so many that a batch of training images would be missing.
    """
    count = max(0, min(512, n_images // 10, n_images - batch_size))
    rows = np.random.default_rng((seed, n_images)).permutation(n_images)[:count]
    return np.sort(rows).astype(np.int64)
