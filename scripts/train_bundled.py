r"""Train the bundled embedding model from Tiny ImageNet: two hours on two CPU cores.

    python scripts/train_bundled.py --data DIR --log DIR \
        --out lightly_fs/embedding/weights/bundled.safetensors

Why our own weights: the wheel carries them, so a first run needs no download and no third party's
terms beyond those of the training images (see docs/model-card.md).

First `supervised_training` tells classes apart, then `near_duplicate_training` brings an image and
its near duplicates together. State is saved after every epoch in the log folder; the same command
goes on from it. A run depends on its configuration and, for rounding, on the machine and its number
of threads; not on time. Reads only tiny-imagenet-train-*.tar.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from labelled_images import TRAIN_ARCHIVES, read_archives
from near_duplicate_training import Refinement, RefinementConfig, save
from supervised_training import Config, Run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--log", type=Path, required=True, help="folder for log and saved state")
    parser.add_argument("--epochs", type=float, default=Config.epochs)
    parser.add_argument("--refine-epochs", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--per-class", type=int, help="fewer images, for a trial run")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = Config(epochs=args.epochs, seed=args.seed, device=args.device)
    torch.set_num_threads(config.threads)
    for folder in (args.out.parent, args.log):
        folder.mkdir(parents=True, exist_ok=True)
    data = read_archives([args.data / name for name in TRAIN_ARCHIVES], args.per_class)
    trained = Run(config, data, args.log).train()
    refining = RefinementConfig(
        epochs=args.refine_epochs, seed=args.seed, device=args.device, before=config.epochs
    )
    refinement = Refinement(refining, data, args.log)
    save(refinement.refine(trained), args.out, refining)


if __name__ == "__main__":
    main()
