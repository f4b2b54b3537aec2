"""What one writes first: mount with s3fs, walk, DataLoader, eager torchvision, numpy k-center.

    python scripts/naive_pipeline.py BUCKET MOUNTPOINT --url http://127.0.0.1:9000 --output out.csv

The yardstick of `bench_run.py`. Nothing here is slow on purpose: default s3fs options, the usual
`ImageFolder` walk and loader, the usual evaluation transform, batches of 32, two workers. Weights
are random, which changes no timing. Prints one JSON line with the seconds of each step.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


class Images(Dataset[Tensor]):
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        tensor: Tensor = self.transform(image)
        return tensor


def mount(bucket: str, directory: Path, url: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    passwd = directory.parent / "passwd-s3fs"
    passwd.touch(mode=0o600)
    passwd.write_text(f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}\n")
    options = f"url={url},use_path_request_style,passwd_file={passwd}"
    subprocess.run(["s3fs", bucket, str(directory), "-o", options], check=True)
    deadline = time.monotonic() + 10
    while not os.path.ismount(directory):
        if time.monotonic() > deadline:
            raise SystemExit(f"{bucket} was not mounted at {directory}")
        time.sleep(0.05)


def walk(root: Path) -> list[Path]:
    """Return the images in the order of `ImageFolder`."""
    return [
        Path(directory) / name
        for directory, _, names in sorted(os.walk(root, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]


def embed(paths: list[Path], model_name: str) -> NDArray[np.float32]:
    model = torchvision.models.get_model(model_name, weights=None)
    if hasattr(model, "classifier"):
        model.classifier = nn.Identity()
    else:
        model.fc = nn.Identity()
    model.eval()
    loader = DataLoader(Images(paths), batch_size=32, num_workers=2)
    with torch.no_grad():
        vectors = np.concatenate([model(batch).numpy() for batch in loader])
    normalised: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normalised


def k_center(vectors: NDArray[np.float32], n_samples: int) -> list[int]:
    chosen = [0]
    best = np.full(len(vectors), np.inf, np.float32)
    while len(chosen) < n_samples:
        best = np.minimum(best, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
        chosen.append(int(best.argmax()))
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bucket")
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="mobilenet_v3_large")
    arguments = parser.parse_args()

    times = [time.monotonic()]
    mount(arguments.bucket, arguments.mountpoint, arguments.url)
    try:
        times.append(time.monotonic())
        paths = walk(arguments.mountpoint)
        times.append(time.monotonic())
        vectors = embed(paths, arguments.model)
        times.append(time.monotonic())
        chosen = k_center(vectors, max(1, len(paths) // 10))
        with arguments.output.open("w", newline="") as file:
            csv.writer(file).writerows([paths[row], *vectors[row].tolist()] for row in chosen)
        times.append(time.monotonic())
    finally:
        subprocess.run(["fusermount", "-u", str(arguments.mountpoint)], check=True)
    steps = ("mount", "list", "embed", "select")
    seconds = {step: round(b - a, 3) for step, a, b in zip(steps, times, times[1:], strict=False)}
    print(json.dumps({"images": len(paths), "selected": len(chosen), "seconds": seconds}))


if __name__ == "__main__":
    main()
