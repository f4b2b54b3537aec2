"""Distinct JPEGs of photographs in the sizes of a camera fleet, for benchmarks."""

from __future__ import annotations

import importlib.resources
import io
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

from PIL import Image

SIZES = ((1280, 720), (640, 480), (1280, 720), (1920, 1080))
"""In turn: half are 720p, a quarter each VGA and 1080p."""
QUALITY = 90
FOLDERS = 10
PACKAGED = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)


def photographs() -> list[Path]:
    """Return the COCO images below `LIGHTLY_FS_TEST_DATA`, or what packages bring along."""
    given = os.environ.get("LIGHTLY_FS_TEST_DATA")
    found = sorted(Path(given).glob("coco128/images/*/*.jpg")) if given else []
    if found:
        return found
    return [Path(str(importlib.resources.files(package) / name)) for package, name in PACKAGED]


def make_images(directory: Path, count: int) -> int:
    """Write `count` images into ten folders below `directory`; return their bytes.

    Image i is a random crop of a photograph, scaled to its size. It depends on i alone, so what
    is there already is kept. Any stretch of four has all sizes.
    """
    for folder in range(min(FOLDERS, count)):
        (directory / f"camera_{folder}").mkdir(parents=True, exist_ok=True)
    sources = photographs()
    with ProcessPoolExecutor(2) as pool:
        write = partial(_write, directory)
        return sum(pool.map(write, range(count), repeat(sources, count), chunksize=50))


def path_of(index: int) -> str:
    """Return the filename of image `index`; names sort in the order of the folders."""
    return f"camera_{index // 4 % FOLDERS}/image_{index:06d}.jpg"


def _write(directory: Path, index: int, sources: list[Path]) -> int:
    path = directory / path_of(index)
    if not path.exists():
        path.write_bytes(_jpeg(index, sources))
    return path.stat().st_size


def _jpeg(index: int, sources: list[Path]) -> bytes:
    draw = random.Random(index)
    photograph = Image.open(draw.choice(sources)).convert("RGB")
    width, height = SIZES[index % len(SIZES)]
    scale = min(photograph.width / width, photograph.height / height) * draw.uniform(0.55, 1.0)
    crop_w, crop_h = width * scale, height * scale
    left = draw.uniform(0, photograph.width - crop_w)
    top = draw.uniform(0, photograph.height - crop_h)
    box = (left, top, left + crop_w, top + crop_h)
    image = photograph.resize((width, height), Image.Resampling.BICUBIC, box=box)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
