"""Images with classes, for measuring embeddings: folders, archives of folders, crops of boxes."""

from __future__ import annotations

import io
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lightly_fs.decoding.corrupt import CorruptImage
from lightly_fs.decoding.images import decode_full
from lightly_fs.decoding.raster import Pixels, with_short_side

TRAIN_ARCHIVES = tuple(f"tiny-imagenet-train-{part}.tar" for part in range(3))
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

KEPT_SIDE = 256
"""Larger images are kept at this shorter side: no model here takes more of them."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LEAST_CROP = 32
LEAST_OF_A_CLASS = 5


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images, of any sizes.

    Attributes:
        images: (h, w, 3) uint8 RGB each.
        labels: (N,) index into `classes`.
        classes: Their names, sorted.
        groups: (N,) images of the same group show the same scene, such as crops of a photograph;
            every image is its own group otherwise.
    """

    images: Sequence[Pixels]
    labels: Labels
    classes: Sequence[str]
    groups: Labels

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What is asked, and who answers; without a bank, all the other queries do."""

    name: str
    queries: LabelledImages
    bank: LabelledImages | None


def read_archives(paths: list[Path], per_class: int | None = None) -> tuple[Images, Labels]:
    """Images (N, H, W, 3) of equal size from `<class>/<n>.webp` members, sorted by name."""
    rows: list[Images] = []
    names: list[str] = []
    for name, data in _first_of_each(_files(paths), per_class):
        with Image.open(io.BytesIO(data())) as image:
            rows.append(np.asarray(image.convert("RGB")))
        names.append(name)
    return np.stack(rows), _indices(names, sorted(set(names)))


def read_labelled(paths: Sequence[Path], per_class: int | None = None) -> LabelledImages:
    """All images of folders, or tar archives, that hold one folder for each class.

    Files that are no whole image are left out and counted on standard error.
    """
    images: list[Pixels] = []
    names: list[str] = []
    broken = 0
    for name, data in _first_of_each(_files(paths), per_class):
        try:
            images.append(with_short_side(decode_full(data()), KEPT_SIDE))
        except CorruptImage:
            broken += 1
            continue
        names.append(name)
    if broken:
        print(f"{broken} files of {paths[0]} are no whole images", file=sys.stderr)
    if not images:
        raise ValueError(f"{paths[0]} holds no images in folders named after classes")
    return _labelled(images, names, range(len(images)))


def read_crops(
    coco: Path, splits: Sequence[str] = ("val2017",), per_class: int | None = None
) -> LabelledImages:
    """Objects cut out of photographs by their YOLO boxes; classes of fewer than five are left out.

    Args:
        coco: Holds `images/SPLIT/NAME.jpg` and `labels/SPLIT/NAME.txt`.
        splits: Only of val2017, that is what no training of the bundled model saw.
        per_class: At most so many of each class.
    """
    crops: list[tuple[str, Pixels, int]] = []
    photographs = [path for s in splits for path in sorted((coco / "images" / s).glob("*.jpg"))]
    for photograph, path in enumerate(photographs):
        text = coco / "labels" / path.parent.name / f"{path.stem}.txt"
        if text.exists():
            pixels = decode_full(path.read_bytes())
            for kind, crop in crops_of(pixels, text.read_text()):
                crops.append((f"{kind:02d}", np.ascontiguousarray(crop), photograph))
    count = Counter(name for name, _, _ in crops)
    taken: Counter[str] = Counter()
    kept = []
    for name, pixels, photograph in crops:
        taken[name] += 1
        if count[name] >= LEAST_OF_A_CLASS and taken[name] <= (per_class or len(crops)):
            kept.append((name, with_short_side(pixels, KEPT_SIDE), photograph))
    if not kept:
        raise ValueError(f"{coco} holds no images with boxes")
    images = [pixels for _, pixels, _ in kept]
    return _labelled(images, [name for name, _, _ in kept], [group for _, _, group in kept])


def crops_of(pixels: Pixels, boxes: str) -> Iterator[tuple[int, Pixels]]:
    """The boxes that are at least 32 pixels wide and high, as (class, view of the pixels).

    Args:
        pixels: (h, w, 3).
        boxes: Lines `class cx cy w h`, relative to the image.
    """
    height, width = pixels.shape[:2]
    for line in boxes.splitlines():
        if not line.strip():
            continue
        kind, *values = line.split()
        cx, cy, w, h = (float(value) for value in values[:4])
        left, right = _edges(cx, w, width)
        top, bottom = _edges(cy, h, height)
        if min(right - left, bottom - top) >= LEAST_CROP:
            yield int(kind), pixels[top:bottom, left:right]


def _edges(centre: float, length: float, size: int) -> tuple[int, int]:
    first, last = (centre - length / 2) * size, (centre + length / 2) * size
    return max(0, round(first)), min(size, round(last))


def _tiny_imagenet(data: Path, per_class: int | None) -> Dataset:
    bank = read_labelled([data / name for name in TRAIN_ARCHIVES], per_class)
    return Dataset(
        "tiny-imagenet", read_labelled([data / "tiny-imagenet-val.tar"], per_class), bank
    )


def _cifar10(data: Path, per_class: int | None) -> Dataset:
    bank = read_labelled([data / "cifar10-train.tar"], per_class)
    return Dataset("cifar10", read_labelled([data / "cifar10-test.tar"], per_class), bank)


def _coco_crops(data: Path, per_class: int | None) -> Dataset:
    return Dataset("coco-crops", read_crops(data / "coco128", per_class=per_class), None)


DATASETS: dict[str, Callable[[Path, int | None], Dataset]] = {
    "tiny-imagenet": _tiny_imagenet,
    "cifar10": _cifar10,
    "coco-crops": _coco_crops,
}


def read_given(queries: Path, bank: Path | None, per_class: int | None) -> Dataset:
    """A dataset of one's own. Raises `ValueError` when bank and queries have other classes."""
    asked = read_labelled([queries], per_class)
    known = None if bank is None else read_labelled([bank], per_class)
    if known is not None and known.classes != asked.classes:
        differing = sorted(set(known.classes) ^ set(asked.classes))
        raise ValueError(f"of {queries} and {bank}, only one has the classes {differing[:3]}")
    return Dataset(queries.stem, asked, known)


def _files(paths: Iterable[Path]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Class and content of every file, sorted by name within a path."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix.lower() in SUFFIXES:
                    yield file.parent.name, file.read_bytes
            continue
        with tarfile.open(path) as archive:
            for member in sorted((m for m in archive if m.isfile()), key=lambda m: m.name):
                handle = archive.extractfile(member)
                if handle is not None:
                    yield Path(member.name).parent.name, handle.read


def _first_of_each(
    files: Iterable[tuple[str, Callable[[], bytes]]], per_class: int | None
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    taken: Counter[str] = Counter()
    for name, data in files:
        taken[name] += 1
        if per_class is None or taken[name] <= per_class:
            yield name, data


def _labelled(
    images: Sequence[Pixels], names: Sequence[str], groups: Sequence[int]
) -> LabelledImages:
    classes = sorted(set(names))
    return LabelledImages(images, _indices(names, classes), classes, np.array(groups, np.int64))


def _indices(names: Sequence[str], classes: Sequence[str]) -> Labels:
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64)
