"""Deterministic images with structure at several scales, for tests that need no test data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Return a smooth random scene with some rectangles: compresses and differs like a photo."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    for _ in range(6):
        x, y = int(rng.integers(0, width - 20)), int(rng.integers(0, height - 20))
        w, h = int(rng.integers(10, width // 3)), int(rng.integers(10, height // 3))
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3, dtype=np.uint8)
    noise = rng.integers(-8, 9, image.shape)
    return Image.fromarray(np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_images(directory: Path, n_scenes: int = 24) -> None:
    """Write scenes in three folders, two exact duplicates, three corrupt files and a text file."""
    for index in range(n_scenes):
        path = directory / f"folder_{index % 3}" / f"scene_{index:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(scene(index)))
    first = (directory / "folder_0" / "scene_000.jpg").read_bytes()
    (directory / "zz_copy_of_000.jpg").write_bytes(first)
    (directory / "zz_copy_2_of_000.JPG").write_bytes(first)
    (directory / "corrupt_truncated.jpg").write_bytes(first[: len(first) // 2])
    (directory / "corrupt_empty.png").write_bytes(b"")
    (directory / "corrupt_text.webp").write_bytes(b"this is not an image")
    (directory / "notes.txt").write_text("not an image")
