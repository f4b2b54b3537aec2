"""The images that the bundled model is trained on: augmented, and as inference sees them."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from lightly_fs.embedding.bundled import INPUT_SIZE, MEAN, STD


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes; probabilities are per image."""

    smallest_crop: float = 0.3  # share of the image's area
    jitter: float = 0.3  # brightness, contrast and saturation are multiplied by 1 +- this
    gray: float = 0.1
    blur: float = 0.1  # at half the resolution


def normalise(images: Tensor) -> Tensor:
    """[0, 1] to what the network was trained on."""
    mean, std = (images.new_tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def as_images(pixels: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def prepare(pixels: Tensor, size: int = INPUT_SIZE) -> Tensor:
    """The inference transform of (N, H, W, 3) uint8: squash to a square, normalise."""
    images = as_images(pixels)
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return normalise(images.clamp_(0, 1))


def random_crop(images: Tensor, size: int, smallest: float, rng: torch.Generator) -> Tensor:
    """Random resized crop and flip of a batch in one sampling."""
    n = len(images)

    def uniform() -> Tensor:
        return torch.rand(n, generator=rng, device=images.device)

    area = smallest + (1 - smallest) * uniform()
    aspect = torch.exp((uniform() * 2 - 1) * math.log(4 / 3))
    width, height = (area * aspect).sqrt().clamp_(max=1), (area / aspect).sqrt().clamp_(max=1)
    shift_x, shift_y = (uniform() * 2 - 1) * (1 - width), (uniform() * 2 - 1) * (1 - height)
    flip = (uniform() < 0.5).float() * 2 - 1
    zero = torch.zeros_like(area)
    rows = (torch.stack([width * flip, zero, shift_x], 1), torch.stack([zero, height, shift_y], 1))
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def random_colour(images: Tensor, change: Augmentation, rng: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation of each image by its own factors; some to grey."""

    def uniform() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device)

    def factor() -> Tensor:
        return 1 + change.jitter * (uniform() * 2 - 1)

    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = (images * weights).sum(1, keepdim=True)
    saturation = factor() * (uniform() >= change.gray).float()
    images = luma + (images - luma) * saturation
    mean = luma.mean((2, 3), keepdim=True)
    return ((mean + (images - mean) * factor()) * factor()).clamp_(0, 1)


def augment(pixels: Tensor, size: int, change: Augmentation, rng: torch.Generator) -> Tensor:
    """A training batch: crop, flip, colour, and a few images at half their resolution."""
    images = as_images(pixels)
    coarse = torch.rand(len(images), generator=rng, device=images.device) < change.blur
    half = F.avg_pool2d(images[coarse], 2)
    images[coarse] = F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
    images = random_crop(images, size, change.smallest_crop, rng)
    return normalise(random_colour(images, change, rng))
