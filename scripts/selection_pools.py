"""Pools of unlabelled images to select from: a balanced one, and one as cameras leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from image_changes import crop, relight
from labelled_images import LabelledImages, Labels

from lightly_fs.decoding.raster import Pixels, resized

IMBALANCE = 50
FRAMES = 5


@dataclass(frozen=True, eq=False)
class Pool:
    """N images of one size.

    Attributes:
        images: (h, w, 3) uint8 each.
        labels: (N,) classes; a selection never sees them.
        scenes: (N,) images of the same scene are frames of one image.
    """

    images: Sequence[Pixels]
    labels: Labels
    scenes: Labels


def balanced(train: LabelledImages, seed: int) -> Pool:  # noqa: ARG001 - nothing to draw
    """The training images as they are: every class as often, every image once."""
    return Pool(train.images, train.labels, np.arange(len(train)))


def frames(train: LabelledImages, seed: int) -> Pool:
    """A long tail, whose head comes as frames of videos.

    The most frequent class has 50 times as many images as the rarest; in between, class sizes fall
    geometrically. Of the more frequent half of the classes every image comes five times, changed
    a little. The seed draws which classes are frequent, which images are there, and the changes.
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(len(train.classes))
    least_of_a_class = int(np.bincount(train.labels).min())
    rows: list[int] = []
    for rank, size in enumerate(class_sizes(len(classes), least_of_a_class * (FRAMES - 1))):
        repeats = FRAMES if rank < len(classes) // 2 else 1
        members = rng.permutation(np.flatnonzero(train.labels == classes[rank]))
        rows += np.repeat(members[: -(-size // repeats)], repeats)[:size].tolist()
    images = [
        train.images[row] if before != row else frame(train.images[row], rng)
        for before, row in zip([-1, *rows], rows, strict=False)
    ]
    scenes = np.array(rows, np.int64)
    return Pool(images, train.labels[scenes], scenes)


def class_sizes(classes: int, largest: int) -> list[int]:
    """Sizes from `largest` down to a fiftieth of it, in equal ratios."""
    return [
        max(1, round(largest * IMBALANCE ** (-rank / max(1, classes - 1))))
        for rank in range(classes)
    ]


def frame(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The next frame: the camera moved a little, the light changed a little, and there is noise."""
    height, width = pixels.shape[:2]
    moved = resized(crop(pixels, rng, least=0.85, most=0.97), height, width)
    noise = rng.normal(0, 3, moved.shape)
    noisy: Pixels = (relight(moved, rng, most=0.05) + noise).round().clip(0, 255).astype(np.uint8)
    return noisy


POOLS: dict[str, Callable[[LabelledImages, int], Pool]] = {
    "balanced": balanced,
    "frames": frames,
}
