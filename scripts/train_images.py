"""The images that the bundled model is trained on: augmented, and as inference sees them."""

from __future__ import annotations

import dataclasses
import math

import torch
from labelled_images import Images
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from lightly_fs.embedding.bundled import INPUT_SIZE, MEAN, STD


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Strengths of the random changes; probabilities are per image."""

    smallest_crop: float = 0.3  # share of the image's area
    jitter: float = 0.35  # brightness, contrast and saturation are multiplied by 1 +- this
    gray: float = 0.1
    blur: float = 0.15  # at half the resolution


def normalise(images: Tensor) -> Tensor:
    """[0, 1] to what the network was trained on."""
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def prepare(pixels: Images, size: int = INPUT_SIZE) -> Tensor:
    """The inference transform: squash to a square (antialiased bilinear), normalise."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return normalise(images.clamp_(0, 1))


def random_crop(images: Tensor, size: int, smallest: float, rng: torch.Generator) -> Tensor:
    """Random resized crop and flip of a batch in one sampling.

    Above 64 pixels the crop may be larger than the image (mirrored at its edges): its content is
    then nearly as sharp as a photograph squashed to that size, which mere enlargement is not.
    """
    n = len(images)
    largest = 1.0 + max(0, size - images.shape[-1]) / images.shape[-1]
    area = smallest + (largest - smallest) * torch.rand(n, generator=rng)
    aspect = torch.exp((torch.rand(n, generator=rng) * 2 - 1) * math.log(4 / 3))
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    shift_x = (torch.rand(n, generator=rng) * 2 - 1) * (1 - width).abs()
    shift_y = (torch.rand(n, generator=rng) * 2 - 1) * (1 - height).abs()
    flip = (torch.rand(n, generator=rng) < 0.5).float() * 2 - 1
    zero = torch.zeros(n)
    rows = (torch.stack([width * flip, zero, shift_x], 1), torch.stack([zero, height, shift_y], 1))
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def random_colour(images: Tensor, change: Augmentation, rng: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation of each image by its own factors; some to grey."""
    n = len(images)

    def factor() -> Tensor:
        spread = torch.rand(n, 1, 1, 1, generator=rng) * 2 - 1
        return 1 + change.jitter * spread

    luma = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    grey = (torch.rand(n, 1, 1, 1, generator=rng) < change.gray).float()
    saturation = factor() * (1 - grey)
    images = luma + (images - luma) * saturation
    mean = luma.mean((2, 3), keepdim=True)
    return ((mean + (images - mean) * factor()) * factor()).clamp_(0, 1)


def augment(pixels: Images, size: int, change: Augmentation, rng: torch.Generator) -> Tensor:
    """A training batch: crop, flip, colour, and a few images at half their resolution."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    coarse = torch.rand(len(images), generator=rng) < change.blur
    half = F.avg_pool2d(images[coarse], 2)
    images[coarse] = F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
    images = random_crop(images, size, change.smallest_crop, rng)
    return normalise(random_colour(images, change, rng))
