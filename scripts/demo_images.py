"""A bucket's worth of photographs from packages, with planted duplicates and corrupt files.

Sources and licences (the files lie in the installed packages; nothing is copied into this
repository): scikit-image's sample data (public domain or CC0: astronaut, chelsea, coffee, coins,
hubble_deep_field, retina, rocket, moon, brick, grass, gravel, motorcycle), scikit-learn's
`china.jpg` and `flower.jpg` (CC BY 2.0), matplotlib's `grace_hopper.jpg` (public domain).
"""

from __future__ import annotations

import importlib.resources
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

SOURCES = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "brick.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "coins.png"),
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "moon.png"),
    ("skimage.data", "motorcycle_left.png"),
    ("skimage.data", "retina.jpg"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
CROPS_EACH = 20
SIZES = ((640, 480), (480, 640), (800, 600), (960, 540))


def make_photographs(folder: Path, seed: int = 7) -> str:
    """Fill `folder` (replaced when it exists); return one line saying what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    crops: list[tuple[Path, Image.Image]] = []
    for package, name in SOURCES:
        photograph = _load(package, name)
        for index in range(CROPS_EACH):
            path = folder / Path(name).stem / f"crop_{index:02d}.jpg"
            crop = _crop(photograph, rng)
            _save(path, _jpeg(crop, 92))
            crops.append((path, crop))
    near = _plant_near_duplicates(folder, crops, rng)
    exact = _plant_exact_duplicates(folder, crops)
    corrupt = _plant_corrupt(folder, crops)
    return (
        f"{len(crops)} crops of {len(SOURCES)} photographs, {near} near duplicates, "
        f"{exact} exact duplicates, {corrupt} corrupt files, 1 text file"
    )


def _load(package: str, name: str) -> Image.Image:
    with importlib.resources.as_file(importlib.resources.files(package) / name) as path:
        return Image.open(path).convert("RGB")


def _crop(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    scale = float(rng.uniform(0.3, 0.8))
    side = min(photograph.width / width, photograph.height / height) * scale
    crop_w, crop_h = max(32, int(width * side)), max(32, int(height * side))
    left = int(rng.integers(0, photograph.width - crop_w + 1))
    top = int(rng.integers(0, photograph.height - crop_h + 1))
    box = (left, top, left + crop_w, top + crop_h)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _plant_near_duplicates(
    folder: Path, crops: list[tuple[Path, Image.Image]], rng: np.random.Generator
) -> int:
    chosen = rng.choice(len(crops), 24, replace=False)
    for index in chosen:
        path, crop = crops[int(index)]
        brighter = ImageEnhance.Brightness(crop).enhance(float(rng.uniform(0.95, 1.08)))
        name = f"{path.parent.name}_{path.stem}_again.jpg"
        _save(folder / "near_duplicates" / name, _jpeg(brighter, 80))
    return len(chosen)


def _plant_exact_duplicates(folder: Path, crops: list[tuple[Path, Image.Image]]) -> int:
    for path, _ in crops[::40]:
        _save(folder / "zz_backup" / f"{path.parent.name}_{path.name}", path.read_bytes())
    path, _ = crops[5]
    # The same photograph with another comment: other bytes, same pixels.
    _save(folder / "zz_backup" / "commented.jpg", _with_comment(path.read_bytes()))
    (folder / "README.txt").write_text("photographs from packages, for the demo\n")
    return len(crops[::40]) + 1


def _with_comment(data: bytes) -> bytes:
    comment = b"the same pixels"
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def _plant_corrupt(folder: Path, crops: list[tuple[Path, Image.Image]]) -> int:
    for number, (path, _) in enumerate(crops[3::100]):
        data = path.read_bytes()
        _save(folder / "camera_3" / f"cut_off_{number}.jpg", data[: len(data) * 2 // 3])
    _save(folder / "camera_3" / "empty.jpg", b"")
    _save(folder / "camera_3" / "error_page.jpg", b"<html>503 Slow Down</html>")
    return len(crops[3::100]) + 2


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
