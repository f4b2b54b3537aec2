"""Write docs/reference/models.md: models by name, their size, licence and speed on this machine.

    python scripts/model_table.py                              # all of MODELS, ten minutes
    python scripts/model_table.py --only resnet18 --print      # some of them, to the screen
    python scripts/model_table.py --rows rows.jsonl            # kept there, measured once
    python scripts/model_table.py --quality bench.jsonl        # k-NN from bench_embedding.py

Speed is that of an embedder with random weights on the runtime that a run would choose, so that
nothing is downloaded. Each model is started, measured and dropped in turn; with `--no-speed` those
that `--rows` does not have are described alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch

from lightly_fs.config.run import RunConfig
from lightly_fs.cpus import usable_cpus
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.load import load_network, start_embedder
from lightly_fs.embedding.timm import ALIASES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "models.md"

MODELS = {
    "bundled": "",
    "timm/mobilenetv4_conv_small.e2400_r224_in1k": "",
    "timm/mobilenetv4_conv_medium.e500_r224_in1k": "",
    "timm/repvit_m0_9.dist_450e_in1k": "",
    "timm/repvit_m1_0.dist_450e_in1k": "",
    "timm/efficientvit_b0.r224_in1k": "",
    "timm/efficientvit_b1.r224_in1k": "",
    "timm/efficientvit_m2.r224_in1k": "",
    "timm/convnext_atto.d2_in1k": "",
    "timm/convnext_tiny.in12k": "",
    "timm/resnet18.a1_in1k": "",
    "timm/resnet50.a1_in1k": "",
    "torchvision/resnet18.IMAGENET1K_V1": "bsd-3-clause",
    "torchvision/resnet50.IMAGENET1K_V2": "bsd-3-clause",
    "torchvision/convnext_tiny.IMAGENET1K_V1": "bsd-3-clause",
    "dinov2-small": "",
    "dinov2-small-reg": "",
    "dinov2-base": "",
    "dinov2-base-reg": "",
    "dinov3-small": "",
    "dinov3-base": "",
    "dinov3-convnext-tiny": "",
    "siglip2-base": "",
    "clip-b32": "",
    "timm/vit_base_patch32_clip_224.laion2b": "",
    "timm/vit_base_patch32_clip_224.datacompxl": "",
    "clip-b16": "",
    "timm/vit_base_patch16_clip_224.laion2b": "",
    "timm/vit_base_patch16_clip_224.datacompxl": "",
}
"""What `model=` takes, and the licence of the weights where timm does not know it."""

BATCH = 32
ROUNDS = 3

HEAD = """# Models by name

<!-- Written by scripts/model_table.py. -->

What `model=` takes; any other name of timm or torchvision works as well, see
[models](../guides/models.md). Names before the slash are short for the ones after it.

Speed was measured with random weights on {cores} cores of a machine that others used, too
({runtime}, {batch} images at a time), so that `CPU ms` (processor time per image, all threads) is
the better comparison. {quality}

| `model=` | dimensions | input, px | MB (f32) | licence | images/s | CPU ms |{columns}
|---|---:|---:|---:|---|---:|---:|{rules}
"""

TAIL = """
## Licences

They are those that the publishers give; the data that weights were trained on may restrict their
use besides.

- `dinov3-license`: Meta's own terms, not an open-source licence. They allow commercial use under
  conditions, and access to the originals has to be asked for. Use DINOv2 (Apache-2.0) where a
  permissive licence is wanted.
- CLIP and SigLIP: timm labels its conversions Apache-2.0; OpenAI published CLIP under MIT. The
  embedding is the pooled feature of the image tower, before it is projected to the text's space.
- DINOv2 is run at 224 px and not at its 518 px, which are for dense prediction.
- The bundled weights: see the [model card](../model-card.md).
"""


@dataclass(frozen=True)
class Row:
    """One model: sizes, speed, and its 20-NN accuracy by dataset where that was measured."""

    name: str
    full_name: str
    dimensions: int
    input_size: int
    megabytes: float
    licence: str
    images_per_s: float | None = None
    cpu_ms: float | None = None
    runtime: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", help="models whose names contain one of these")
    parser.add_argument("--print", action="store_true", help="print instead of writing the page")
    parser.add_argument("--quality", type=Path, help="lines of bench_embedding.py")
    parser.add_argument("--rows", type=Path, help="where measurements are kept and found")
    parser.add_argument("--no-speed", action="store_true", help="measure nothing")
    given = parser.parse_args()
    names = [n for n in MODELS if not given.only or any(part in n for part in given.only)]
    text = "".join(
        page(list(rows_of(names, given.rows, speed=not given.no_speed)), knn_of(given.quality))
    )
    if given.print:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


def rows_of(names: list[str], path: Path | None, *, speed: bool) -> Iterator[Row]:
    """Yield the row of each model, from the file where it is there, else measured and added."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    kept = {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    for name in names:
        row = kept.get(name) or (measured(name) if speed else described(name))
        if path and name not in kept and speed:
            with path.open("a") as file:
                file.write(json.dumps(vars(row)) + "\n")
        yield row


def measured(name: str) -> Row:
    """Start a model, time it, and say what it is."""
    with tempfile.TemporaryDirectory() as cache:
        config = configured(name, cache)
        network = load_network(config)
        embedder = start_embedder(config, lambda: network)
    side = network.input_size
    images = torch.randint(
        0, 256, (BATCH, side, side, 3), generator=torch.Generator().manual_seed(0)
    ).to(torch.uint8)
    embedder.embed(images, [])
    rates, costs = [], []
    for _ in range(ROUNDS):
        started, spent = time.perf_counter(), time.process_time()
        embedder.embed(images, [])
        rates.append(BATCH / (time.perf_counter() - started))
        costs.append((time.process_time() - spent) * 1000 / BATCH)
    return replace(
        row_of(name, network, embedder.info.dimensions),
        images_per_s=float(f"{statistics.median(rates):.2g}"),
        cpu_ms=float(f"{min(costs):.2g}"),
        runtime=f"{embedder.info.runtime} {embedder.info.precision}",
    )


def described(name: str) -> Row:
    """Say what a model is from its shapes, without weights."""
    with torch.device("meta"), torch.inference_mode():
        network = load_network(configured(name, "unused"))
        side = network.input_size
        dimensions = network.module.to("meta")(torch.zeros(1, 3, side, side)).shape[1]
    return row_of(name, network, dimensions)


def configured(name: str, cache: str) -> RunConfig:
    weights = "" if name == "bundled" else "random"
    return RunConfig.model_validate({"model": name, "weights": weights, "cache_dir": cache})


def row_of(name: str, network: Network, dimensions: int) -> Row:
    size = sum(value.numel() for value in network.module.parameters()) * 4 / 1e6
    facts = (dimensions, network.input_size, round(size, 1), licence(name))
    return Row(name, network.name, *facts)


def licence(name: str) -> str:
    """Return what the publisher of the weights says; timm writes it down."""
    if name == "bundled":
        return "[model card](../model-card.md)"
    if MODELS[name]:
        return MODELS[name]
    timm_name = ALIASES.get(name, name.removeprefix("timm/"))
    known = timm.get_pretrained_cfg(timm_name)
    return (known and known.license) or "not given"


def knn_of(quality: Path | None) -> dict[str, dict[str, float]]:
    """Return 20-NN accuracy by dataset and model."""
    found: dict[str, dict[str, float]] = {}
    for line in quality.read_text().splitlines() if quality else ():
        record = json.loads(line) if line.startswith("{") else {}
        if "knn_top1" in record:
            found.setdefault(record["dataset"], {})[record["model"]] = record["knn_top1"]
    return found


def page(rows: list[Row], knn: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the page."""
    quality = (
        "20-NN: accuracy of the twenty nearest neighbours, by `scripts/bench_embedding.py`."
        if knn
        else "Accuracies are in the [model card](../model-card.md), where weights were at hand."
    )
    yield HEAD.format(
        cores=usable_cpus(),
        runtime=rows[0].runtime,
        batch=BATCH,
        quality=quality,
        columns="".join(f" 20-NN {dataset} |" for dataset in knn),
        rules="---:|" * len(knn),
    )
    for row in rows:
        full = row.full_name
        name = f"`{row.name}`" if row.name in (full, "bundled") else f"`{row.name}` / `{full}`"
        accuracies = (scores.get(row.name) or scores.get(full) for scores in knn.values())
        cells = [
            name,
            *(row.dimensions, row.input_size, row.megabytes, row.licence),
            *("" if speed is None else f"{speed:g}" for speed in (row.images_per_s, row.cpu_ms)),
            *("" if accuracy is None else f"{accuracy:.1%}" for accuracy in accuracies),
        ]
        yield f"| {' | '.join(map(str, cells))} |\n"
    yield TAIL


if __name__ == "__main__":
    main()
