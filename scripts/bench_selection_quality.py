"""Does selection help? Classifiers trained on what `coreset` and `random` choose, side by side.

    python scripts/bench_selection_quality.py --data DIR --table --plot docs/concepts
    python scripts/bench_selection_quality.py --per-class 100 --seeds 2        # a trial, seconds

From a pool, 1 %, 5 % and 10 % of the images are selected without their labels, by farthest-first
selection on embeddings of unit length, and at random. Each selection is then labelled and trains

- `convnet`: a small convolutional network from scratch, 200 updates of 64 images;
- `colour-hog`: logistic regression on colour histograms and oriented gradients, features that the
  selection knows nothing of;
- `embedding`: logistic regression on the embeddings that the selection was made with;

which are all judged by balanced accuracy on the images of cifar10-test (as many of each class).

Pools: `balanced`, cifar10-train as it is, and `frames`, the realistic one: a long tail of classes
(50 to 1) in which every image of the frequent half of the classes comes five times, changed a
little, as frames of a video do. Five seeds each: they draw the random selections, the initial
weights of the network and, of `frames`, the pool. One JSON line per pool, seed, method, size and
classifier; `distinct` counts the different scenes in the selection, `rarest` the images of its
rarest class.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from embedding_metrics import Vectors, unit
from embedding_models import Model, embed_images, open_model
from labelled_images import LabelledImages, Labels, read_labelled
from linear_probe import fit
from selection_pools import POOLS, Pool
from selection_quality_plot import METHODS, save_plot, table
from small_convnet import as_tensor, build, predict, train
from torch import Tensor

from lightly_fs.cpus import usable_cpus
from lightly_fs.selection import select

SHARES = (0.01, 0.05, 0.1)
Record = dict[str, object]


@dataclass(frozen=True, eq=False)
class Judges:
    """The test images, in all the forms that the classifiers take."""

    labels: Labels
    pixels: Tensor
    colour_hog: Vectors
    embedding: Vectors

    @classmethod
    def of(cls, test: LabelledImages, embedding: Model, features: Model) -> Judges:
        images = test.images
        vectors = embed_images(embedding, images)
        return cls(test.labels, as_tensor(images), embed_images(features, images), vectors)


def balanced_accuracy(predicted: Labels, labels: Labels) -> float:
    """The mean over the classes of how many of their images were told."""
    right = predicted == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def chosen(vectors: Vectors, method: str, n: int, seed: int) -> Labels:
    """Rows in the order in which they were selected."""
    names = [f"{row:08d}" for row in range(len(vectors))]
    picks = select(
        vectors, method=METHODS[method], seed=seed, filenames=names, n_samples=n, min_distance=None
    )
    return np.asarray(picks.indices, np.int64)


def convnet_accuracy(net: torch.nn.Module, pool: Pool, rows: Labels, judges: Judges) -> float:
    images = as_tensor([pool.images[row] for row in rows])
    train(net, images, pool.labels[rows], seed=0)
    return balanced_accuracy(predict(net, judges.pixels), judges.labels)


def probe_accuracy(vectors: Vectors, labels: Labels, test: Vectors, truth: Labels) -> float:
    """Logistic regression of the usual strength: a squared-weights penalty of one per sample."""
    probe = fit(vectors, labels, decay=1 / len(vectors))
    return balanced_accuracy(probe.predict(test), truth)


def measure(
    pool: Pool, vectors: Vectors, seed: int, judges: Judges, features: Model
) -> Iterator[Record]:
    """All methods, sizes and classifiers on one pool; the networks train beside one another."""
    classes = int(judges.labels.max()) + 1
    most = round(max(SHARES) * len(pool.images))
    waiting: list[tuple[Record, Future[float]]] = []
    with ThreadPoolExecutor(usable_cpus(), initializer=lambda: torch.set_num_threads(1)) as threads:
        for method in METHODS:
            order = chosen(vectors, method, most, seed)
            looks = embed_images(features, [pool.images[row] for row in order])
            for share in SHARES:
                n = round(share * len(pool.images))
                rows, labels = order[:n], pool.labels[order[:n]]
                facts: Record = {
                    "method": method,
                    "share": share,
                    "n": n,
                    "seed": seed,
                    "distinct": len(np.unique(pool.scenes[rows])),
                    "rarest": int(np.bincount(labels, minlength=classes).min()),
                }
                net = build(classes, seed)
                waiting.append((facts, threads.submit(convnet_accuracy, net, pool, rows, judges)))
                told = probe_accuracy(looks[:n], labels, judges.colour_hog, judges.labels)
                yield {**facts, "classifier": "colour-hog", "balanced_accuracy": told}
                told = probe_accuracy(vectors[rows], labels, judges.embedding, judges.labels)
                yield {**facts, "classifier": "embedding", "balanced_accuracy": told}
        for facts, future in waiting:
            yield {**facts, "classifier": "convnet", "balanced_accuracy": future.result()}


def run(args: argparse.Namespace) -> Iterator[Record]:
    data = read_labelled([args.data / "cifar10-train.tar"], args.per_class)
    test = read_labelled([args.data / "cifar10-test.tar"], args.per_class)
    embedding, features = open_model(args.model, args.weights), open_model("colour-hog")
    judges = Judges.of(test, embedding, features)
    for name in args.pools:
        vectors: Vectors | None = None
        for seed in range(args.seeds):
            pool = POOLS[name](data, seed)
            if vectors is None or name != "balanced":
                vectors = unit(embed_images(embedding, pool.images)).numpy()
            for record in measure(pool, vectors, seed, judges, features):
                accuracy = record["balanced_accuracy"]
                assert isinstance(accuracy, float)
                yield {
                    "pool": name,
                    "images": len(pool.images),
                    **record,
                    "balanced_accuracy": round(accuracy, 4),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, help="holds cifar10-{train,test}.tar")
    parser.add_argument("--pools", nargs="+", choices=list(POOLS), default=list(POOLS))
    parser.add_argument("--model", default="bundled", help="whose embeddings are selected on")
    parser.add_argument("--weights", type=Path, help="a file, for its weights")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--per-class", type=int, help="fewer images per class, for a trial run")
    parser.add_argument("--plot", type=Path, help="folder for selection-quality.svg")
    parser.add_argument("--table", action="store_true", help="a markdown table after the lines")
    parser.add_argument("--results", type=Path, help="lines kept in a file; measure nothing")
    args = parser.parse_args()
    if not (args.data or args.results):
        parser.error("--data or --results is needed")
    began = time.monotonic()
    records: list[Record] = []
    if args.results:
        records = [json.loads(line) for line in args.results.read_text().splitlines()]
    else:
        for record in run(args):
            print(json.dumps(record), flush=True)
            records.append(record)
        print(f"{(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    if args.plot:
        save_plot(records, args.plot / "selection-quality.svg")
    if args.table:
        print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
