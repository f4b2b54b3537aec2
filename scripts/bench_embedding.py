"""How good and how fast are embeddings: k-NN classification and images per second.

    python scripts/bench_embedding.py --data DIR

k-NN top-1 with k=20: cosine similarity, votes weighted by exp(similarity / 0.07) as is usual for
self-supervised models. Tiny ImageNet: all 60,000 training images of the data folder vote on the
10,000 of its validation set. CIFAR-10: its training images vote on its test images (1,000 per
class each). One JSON line per case. Compared are

- bundled: the weights of the package;
- random: the same network as initialised (measuring its batch norm statistics makes it worse);
- pixels: the image at 32x32, minus the mean image, normalised.

The speed is that of torch in float32 over preparing (squash to 128x128, normalise) and embedding.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from lightly_fs.embedding.bundled import (
    BUNDLED_WEIGHTS,
    INPUT_SIZE,
    MEAN,
    STD,
    BundledNet,
    load_bundled_state,
)

TRAIN_ARCHIVES = tuple(f"tiny-imagenet-train-{part}.tar" for part in range(3))
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
NEIGHBOURS = 20
TEMPERATURE = 0.07
DATASETS = {
    "tiny-imagenet": (list(TRAIN_ARCHIVES), ["tiny-imagenet-val.tar"]),
    "cifar10": (["cifar10-train.tar"], ["cifar10-test.tar"]),
}
Embed = Callable[[Images], Tensor]


def read_archives(paths: list[Path], per_class: int | None = None) -> tuple[Images, Labels]:
    """Images (N, H, W, 3) of equal size from `<class>/<n>.webp` members, sorted by name."""
    rows: list[tuple[str, str, Images]] = []
    taken: dict[str, int] = {}
    for path in paths:
        with tarfile.open(path) as archive:
            for member in sorted((m for m in archive if m.isfile()), key=lambda m: m.name):
                name = Path(member.name).parent.name
                taken[name] = taken.get(name, 0) + 1
                handle = archive.extractfile(member)
                if handle is None or (per_class is not None and taken[name] > per_class):
                    continue
                with Image.open(io.BytesIO(handle.read())) as image:
                    rows.append((name, member.name, np.asarray(image.convert("RGB"))))
    classes = {name: index for index, name in enumerate(sorted(taken))}
    labels = np.array([classes[name] for name, _, _ in rows], dtype=np.int64)
    return np.stack([pixels for _, _, pixels in rows]), labels


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


def embed_with(net: BundledNet) -> Embed:
    net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda pixels: torch.as_tensor(net(prepare(pixels)))


def embed_pixels(pixels: Images) -> Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    return F.interpolate(images, (32, 32), mode="bilinear", antialias=True).flatten(1)


@torch.inference_mode()
def embed_all(embed: Embed, pixels: Images, batch: int) -> tuple[Tensor, float]:
    """Embeddings (N, D) and images per second."""
    embed(pixels[:batch])
    began = time.perf_counter()
    parts = [embed(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
    return torch.cat(parts), len(pixels) / (time.perf_counter() - began)


@torch.inference_mode()
def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Top-1 of the weighted vote of the nearest neighbours by cosine."""
    bank, queries = F.normalize(bank), F.normalize(queries)
    correct = 0
    for rows in torch.arange(len(queries)).chunk(max(1, len(queries) // 1000)):
        part, truth = queries[rows], labels[rows]
        similarity, index = (part @ bank.T).topk(NEIGHBOURS)
        votes = torch.zeros(len(part), int(bank_labels.max()) + 1)
        votes.scatter_add_(1, bank_labels[index], (similarity / TEMPERATURE).exp())
        correct += int((votes.argmax(1) == truth).sum())
    return correct / len(queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--weights", type=Path, default=BUNDLED_WEIGHTS)
    parser.add_argument("--per-class", type=int, help="fewer images per class (bank and queries)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for dataset, (bank_files, query_files) in DATASETS.items():
        bank, bank_labels = read_archives([args.data / n for n in bank_files], args.per_class)
        queries, labels = read_archives([args.data / n for n in query_files], args.per_class)
        torch.manual_seed(0)
        cases: dict[str, Embed] = {
            "bundled": embed_with(load_bundled_state(args.weights)[0]),
            "random": embed_with(BundledNet()),
            "pixels": embed_pixels,
        }
        for name, embed in cases.items():
            known, _ = embed_all(embed, bank, args.batch)
            asked, speed = embed_all(embed, queries, args.batch)
            mean = known.mean(0) if name == "pixels" else torch.zeros(known.shape[1])
            truth = torch.from_numpy(labels)
            top1 = knn_top1(known - mean, torch.from_numpy(bank_labels), asked - mean, truth)
            record = {
                "dataset": dataset,
                "case": name,
                "knn_top1": round(top1, 4),
                "chance": round(1 / len(np.unique(labels)), 4),
                "bank": len(bank),
                "queries": len(queries),
                "dimensions": known.shape[1],
                "images_per_s": round(speed, 1),
                "threads": args.threads,
            }
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
