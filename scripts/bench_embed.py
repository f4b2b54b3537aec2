"""Speed and agreement of the embedding runtimes; one JSON line per case.

    python scripts/bench_embed.py                        # the runtimes, pixels made up
    python scripts/bench_embed.py --images DIR           # and the whole stage on a directory
    python scripts/bench_embed.py --models bundled timm/resnet18

Weights are random except the bundled ones, which changes no speed. The cases take turns round by
round, so that a busy machine slows all of them; `cpu_ms` (CPU time per image, all threads) hardly
depends on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.loader import image_batches
from lightly_fs.embedding.embed import embed_samples
from lightly_fs.embedding.embedder import Embedder
from lightly_fs.embedding.load import load_embedder
from lightly_fs.types import Sample

MODELS = ("bundled", "torchvision/mobilenet_v3_large", "timm/resnet18")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=Path, help="measure the stage on this directory, too")
    given = parser.parse_args()
    for model in given.models:
        embedders = start(model, given.batch_size)
        compare(model, embedders, given.batch_size, given.rounds)
        if given.images:
            stage(model, embedders["auto"][0], given.images, given.batch_size)


def configured(model: str, batch_size: int, runtime: str, device: str) -> RunConfig:
    weights = "" if model in ("bundled", "colour-grid") else "random"
    values = {"model": model, "weights": weights, "batch_size": batch_size}
    return RunConfig.model_validate({**values, "runtime": runtime, "device": device})


def start(model: str, batch_size: int) -> dict[str, tuple[Embedder, float]]:
    """The reference and the runtime that a plain run would choose, with seconds to start."""
    started = {}
    for case, runtime, device in (("reference", "torch", "cpu"), ("auto", "auto", "auto")):
        since = time.perf_counter()
        embedder = load_embedder(configured(model, batch_size, runtime, device))
        started[case] = embedder, time.perf_counter() - since
    return started


def photographs(n: int, side: int) -> Tensor:
    """Smooth noise: the same arithmetic as photographs."""
    noise = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255
    smooth = torch.nn.functional.interpolate(noise, size=(side, side), mode="bicubic")
    return smooth.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def compare(
    model: str, embedders: dict[str, tuple[Embedder, float]], batch_size: int, rounds: int
) -> None:
    pixels = photographs(batch_size, embedders["auto"][0].info.input_size)
    vectors = {case: embedder.embed(pixels, []) for case, (embedder, _) in embedders.items()}
    spent: dict[str, list[tuple[float, float]]] = {case: [] for case in embedders}
    for _ in range(rounds):
        for case, (embedder, _) in embedders.items():
            spent[case].append(timed(partial(embedder.embed, pixels, [])))
    expected = vectors["reference"]
    for case, (embedder, start_s) in embedders.items():
        norms = np.linalg.norm(vectors[case], axis=1) * np.linalg.norm(expected, axis=1)
        seconds = statistics.median(wall for wall, _ in spent[case])
        report(
            case=case,
            model=model,
            side=embedder.info.input_size,
            runtime=embedder.info.runtime,
            precision=embedder.info.precision,
            img_per_s=round(batch_size / seconds),
            cpu_ms=round(1e3 * min(cpu for _, cpu in spent[case]) / batch_size, 3),
            min_cosine=round(float(((vectors[case] * expected).sum(axis=1) / norms).min()), 6),
            start_s=round(start_s, 2),
        )


def stage(model: str, embedder: Embedder, directory: Path, batch_size: int) -> None:
    """The whole stage against decoding alone, on the files of a directory (read once before)."""
    samples = [
        Sample(p.relative_to(directory).as_posix(), p.stat().st_size, None, p.stat().st_mtime_ns)
        for p in sorted(directory.rglob("*.jpg"))
    ]
    settings = DecodeSettings(size=embedder.info.input_size, batch_size=batch_size)
    config = configured(model, batch_size, "auto", "auto")
    reader = DirectoryReader(directory)
    cases: dict[str, Callable[[], object]] = {
        "read": lambda: sum(1 for _ in reader.stream(samples)),
        "decode": lambda: sum(1 for _ in image_batches(samples, reader, settings)),
        "stage": lambda: embed_samples(samples, reader, embedder, config, progress=lambda _: None),
    }
    cases["decode"]()  # compiles the kernels of the properties
    for case, work in cases.items():
        wall, cpu = timed(work)
        report(
            case=case,
            model=model,
            images=len(samples),
            img_per_s=round(len(samples) / wall),
            cpu_ms=round(1e3 * cpu / len(samples), 3),
        )
    reader.close()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def report(**values: object) -> None:
    print(json.dumps({**values, "cores": len(os.sched_getaffinity(0))}), flush=True)


if __name__ == "__main__":
    main()
