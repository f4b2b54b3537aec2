"""How good and how fast are embeddings: one JSON line per dataset and model, and a table.

    python scripts/bench_embedding.py --data DIR --table
    python scripts/bench_embedding.py --models bundled timm/resnet18 --sets cifar10 --per-class 50
    python scripts/bench_embedding.py --weights timm/resnet18=resnet18.safetensors
    python scripts/bench_embedding.py --bank train/ --queries test/      # folders named by class

Datasets: `tiny-imagenet` (its training images vote on its validation images), `cifar10` (train on
test), `coco-crops` (objects of COCO128 val2017 cut out by their boxes, at least 32 pixels wide and
high, classes of at least five). Where there is no bank, all other images vote (leave-one-out).

Models: any `model=` of the product, and the baselines `pixels` (32x32, minus the mean image),
`colour-hog` (colour histogram and histogram of oriented gradients) and `random` (the bundled
network untrained). A model whose weights cannot be had is named on standard error and left out.

- knn_top1: 20 nearest by cosine, votes weighted by exp(similarity / 0.07);
  knn_other_scenes (crops): those from the same photograph do not vote.
- probe_top1: logistic regression on standardised vectors of at most 20,000 images of the bank
  (their first 512 principal components where they are wider); its weight decay is chosen on a
  fifth of them. Without a bank, in five folds that do not split a photograph.
- duplicate_recall: how many changed copies are found at 1 % false positives. Positives are an
  image and its copy (duplicate_crop: 80-95 % of its area; flip; jpeg: quality 30-70; light:
  brightness and contrast +-20 %; half: of its resolution); negatives are each image and the
  nearest other image of its class (not from the same photograph).
- retrieval_top1: how often the nearest of all images to a crop of half its area is the original.
- images_per_s, cpu_ms: preparation (from decoded pixels) and embedding on the runtime that a run
  would choose; torch_images_per_s: on torch in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from embedding_metrics import (
    Vectors,
    cosines,
    knn_predict,
    leave_one_out,
    nearest_of_class,
    recall_at,
    retrieval_top1,
    top1,
)
from embedding_models import BASELINES, Model, embed_images, open_model, speed
from image_changes import CHANGES, STRONG, changed
from labelled_images import (
    DATASETS,
    TRAIN_ARCHIVES,
    Dataset,
    Images,
    Labels,
    read_archives,
    read_given,
)
from linear_probe import fit, out_of_fold

from lightly_fs.decoding.raster import Pixels
from lightly_fs.errors import LightlyFSError

__all__ = ["TRAIN_ARCHIVES", "Images", "Labels", "read_archives"]

PARTS = ("knn", "probe", "duplicates", "retrieval", "speed")
COPIED = 2_000
Record = dict[str, object]
COLUMNS = {
    "model": "model",
    "dimensions": "dim.",
    "megabytes": "MB",
    "knn_top1": "20-NN",
    "knn_other_scenes": "… other photographs",
    "probe_top1": "linear probe",
    "duplicate_recall": "near duplicates",
    **{f"duplicate_{name}": f"… {name}" for name in CHANGES},
    "retrieval_top1": "retrieval",
    "images_per_s": "images/s",
    "torch_images_per_s": "… torch f32",
}


class Copies:
    """Changed copies of up to 2,000 queries, made once for all models."""

    def __init__(self, images: Sequence[Pixels]) -> None:
        order = np.random.default_rng(0).permutation(len(images))
        self._images = images
        self._made: dict[str, list[Pixels]] = {}
        self.rows: Labels = np.sort(order[:COPIED]).astype(np.int64)

    def of(self, name: str) -> list[Pixels]:
        if name not in self._made:
            change = CHANGES.get(name, STRONG)
            self._made[name] = changed(self._images, self.rows.tolist(), change)
        return self._made[name]


def measure(dataset: Dataset, model: Model, copies: Copies, parts: Sequence[str]) -> Record:
    """All figures of one model on one dataset."""
    asked, bank = dataset.queries, dataset.bank
    vectors = embed_images(model, asked.images)
    known = None
    if bank is not None and {"knn", "probe"} & set(parts):
        known = embed_images(model, bank.images)
    centre = (vectors if known is None else known).mean(0) if model.centred else np.float32(0)
    vectors = vectors - centre
    known = None if known is None else known - centre
    record: Record = {
        "dataset": dataset.name,
        "model": model.name,
        "runtime": model.runtime,
        "dimensions": vectors.shape[1],
        "megabytes": round(model.megabytes, 2),
        "bank": len(bank or ()),
        "queries": len(asked),
        "classes": len(asked.classes),
    }
    if {"knn", "probe"} & set(parts):
        record |= classified(dataset, vectors, known, parts)
    made = {name: embed_images(model, copies.of(name)) - centre for name in _wanted(parts)}
    if "duplicates" in parts:
        negatives = nearest_of_class(vectors, asked.labels, asked.groups)[copies.rows]
        record |= near_duplicates(vectors[copies.rows], made, negatives)
    if "retrieval" in parts:
        record["retrieval_top1"] = retrieval_top1(vectors, made["strong"], copies.rows)
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in record.items()}


def _wanted(parts: Sequence[str]) -> list[str]:
    copies = list(CHANGES) if "duplicates" in parts else []
    return [*copies, "strong"] if "retrieval" in parts else copies


def classified(
    dataset: Dataset, vectors: Vectors, known: Vectors | None, parts: Sequence[str]
) -> Record:
    asked, bank = dataset.queries, dataset.bank
    record: Record = {}
    if "knn" in parts:
        if bank is not None and known is not None:
            nearest = knn_predict(known, bank.labels, vectors)
        else:
            nearest = leave_one_out(vectors, asked.labels)
            if len(np.unique(asked.groups)) < len(asked):
                others = leave_one_out(vectors, asked.labels, asked.groups)
                record["knn_other_scenes"] = top1(others, asked.labels)
        record["knn_top1"] = top1(nearest, asked.labels)
    if "probe" in parts:
        if bank is not None and known is not None:
            predicted = fit(known, bank.labels).predict(vectors)
        else:
            predicted = out_of_fold(vectors, asked.labels, asked.groups)
        record["probe_top1"] = top1(predicted, asked.labels)
    return record


def near_duplicates(originals: Vectors, copies: dict[str, Vectors], negatives: Vectors) -> Record:
    """Recall at 1 % false positives; one threshold for all changes."""
    negatives = negatives[~np.isnan(negatives)]
    if not len(negatives):
        raise ValueError("near duplicates need classes of at least two images")
    similar = {name: cosines(originals, copies[name]) for name in CHANGES}
    recalls = {f"duplicate_{name}": recall_at(s, negatives) for name, s in similar.items()}
    overall = recall_at(np.concatenate(list(similar.values())), negatives)
    return {"duplicate_recall": overall, **recalls}


def timed(model: Model, weights: Path | None, images: Sequence[Pixels]) -> Record:
    rate, cost = speed(model, images)
    record: Record = {"images_per_s": round(rate), "cpu_ms": round(cost, 3)}
    if model.runtime.startswith("openvino") and model.name not in BASELINES:
        rate, cost = speed(open_model(model.name, weights, "torch"), images)
        record |= {"torch_images_per_s": round(rate), "torch_cpu_ms": round(cost, 3)}
    elif model.runtime == "torch cpu f32":
        record["torch_images_per_s"] = record["images_per_s"]
    return record


def cases(names: Sequence[str], weights: Sequence[str]) -> Iterator[tuple[str, Path | None]]:
    """Model names, each with the file of its weights if it is not to have its own."""
    yield from ((name, None) for name in names)
    for given in weights:
        name, _, file = given.partition("=")
        if not file:
            raise SystemExit(f"--weights {given}: NAME=FILE is expected")
        yield name, Path(file)


def run(dataset: Dataset, args: argparse.Namespace, spent: dict[str, Record]) -> Iterator[Record]:
    """Measure every model; `spent` keeps the speeds, which no dataset changes."""
    copies = Copies(dataset.queries.images)
    for name, file in cases(args.models, args.weights):
        label = f"{name} ({file.name})" if file else name
        try:
            model = open_model(name, file, args.runtime)
        except LightlyFSError as error:
            print(f"{label} is left out: {error.message}", file=sys.stderr)
            continue
        record = measure(dataset, model, copies, args.parts)
        if "speed" in args.parts and label not in spent:
            spent[label] = timed(model, file, dataset.queries.images)
        yield {**record, "model": label, **spent.get(label, {}), "cores": _cores()}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def table(records: Sequence[Record]) -> str:
    """Markdown, one table per dataset; shares in per cent, the best of a column in bold."""
    blocks = []
    for dataset in dict.fromkeys(str(record["dataset"]) for record in records):
        rows = [record for record in records if record["dataset"] == dataset]
        keys = [key for key in COLUMNS if any(key in row for row in rows)]
        first = rows[0]
        bank = f"bank {first['bank']:,}" if first["bank"] else "leave-one-out"
        lines = [
            f"**{dataset}**: {first['queries']:,} queries, {bank}, {first['classes']} classes",
            "",
            "| " + " | ".join(COLUMNS[key] for key in keys) + " |",
            "|---|" + "--:|" * (len(keys) - 1),
        ]
        lines += ["| " + " | ".join(_cell(rows, row, key) for key in keys) + " |" for row in rows]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _cell(rows: Sequence[Record], row: Record, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, int | float):
        return str(value or "")
    if not key.startswith(("knn", "probe", "duplicate", "retrieval")):
        return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
    best = max(v for each in rows if isinstance(v := each.get(key), int | float))
    text = f"{100 * value:.1f} %"
    return f"**{text}**" if value == best else text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    parser.add_argument("--data", type=Path, default=data, help="folder of the named datasets")
    parser.add_argument("--sets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--queries", type=Path, help="a folder or archive instead of --sets")
    parser.add_argument("--bank", type=Path, help="who votes on --queries; default: leave-one-out")
    parser.add_argument("--models", nargs="+", default=["bundled", *BASELINES])
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--runtime", default="auto", choices=["auto", "torch", "openvino"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--per-class", type=int, help="fewer images per class (bank and queries)")
    parser.add_argument("--table", action="store_true", help="a markdown table after the lines")
    parser.add_argument("--results", type=Path, help="only the table, of lines kept in a file")
    args = parser.parse_args()
    if not (args.data or args.queries or args.results):
        parser.error("--data, --queries or --results is needed")
    return args


def main() -> None:
    args = parse_args()
    if args.results:
        print(table([json.loads(line) for line in args.results.read_text().splitlines()]))
        return
    records: list[Record] = []
    spent: dict[str, Record] = {}
    for name in [None] if args.queries else args.sets:
        if name is None:
            dataset = read_given(args.queries, args.bank, args.per_class)
        else:
            dataset = DATASETS[name](args.data, args.per_class)
        for record in run(dataset, args, spent):
            print(json.dumps(record), flush=True)
            records.append(record)
    if args.table:
        print(f"\n{table(records)}")


if __name__ == "__main__":
    main()
