"""Peak memory and time of writing a run's results at a million samples; one JSON line.

    python scripts/bench_outputs.py [--samples 1000000] [--dimensions 128]

Parts are written shard by shard as a run does, read back, a tenth is selected, tables and lists are
written, published into a plain directory, and committed. The vectors alone take 4 bytes x samples x
dimensions; the line says how much the process needed beyond what it started with.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from lightly_fs.artifacts import Results, RunDir, write_results
from lightly_fs.config import load_config
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.output import open_output
from lightly_fs.types import EmbeddedSamples, ImageRecord, ModelInfo, Selection

MODEL = ModelInfo("benchmark", "0" * 64, 128, 128, "none", "none", "f32")


def main() -> None:
    """Run the steps; print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=128)
    arguments = parser.parse_args()
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(Path(folder), arguments.samples, arguments.dimensions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "case": "outputs",
                "samples": arguments.samples,
                "dimensions": arguments.dimensions,
                "vectors_mb": arguments.samples * arguments.dimensions * 4 // 10**6,
                "peak_mb": peak // 10**6,
                "above_start_mb": (peak - before) // 10**6,
                **{step: round(took, 1) for step, took in seconds.items()},
            }
        )
    )


def run(folder: Path, n_samples: int, dimensions: int) -> dict[str, float]:
    """Write a run of `n_samples`; return the seconds of each step."""
    (folder / "out").mkdir()
    (folder / "staging").mkdir()
    config = load_config([f"output_dir={folder / 'out'}", "run_directory=r"])
    seconds: dict[str, float] = {}
    with open_output(config, {}) as output:
        run_dir = RunDir.open(output, config, folder / "staging")
        started = time.perf_counter()
        inventory = _inventory(n_samples)
        run_dir.freeze(inventory)
        run_dir.set_model(MODEL)
        seconds["freeze_s"] = _lap(started)
        started = time.perf_counter()
        rng = np.random.default_rng(0)
        for number in range(len(inventory.shards(config.shard_size))):
            run_dir.write_part(
                number, _embedded(inventory, number, config.shard_size, rng, dimensions)
            )
        seconds["parts_s"] = _lap(started)
        started = time.perf_counter()
        table = run_dir.read_parts()
        seconds["read_parts_s"] = _lap(started)
        started = time.perf_counter()
        results = Results(table, (), _selection(n_samples))
        write_results(results, folder / "staging", config)
        seconds["write_s"] = _lap(started)
        started = time.perf_counter()
        run_dir.publish_tree()
        run_dir.commit(results.counts(n_samples), MODEL)
        seconds["publish_s"] = _lap(started)
    return seconds


def _lap(started: float) -> float:
    return time.perf_counter() - started


def _inventory(n_samples: int) -> Inventory:
    names = [f"camera_{n % 7}/2026-11-{n % 28:02d}/frame_{n:09d}.jpg" for n in range(n_samples)]
    columns = {
        "filename": names,
        "size": np.full(n_samples, 160_000),
        "etag": [f"{n:032x}" for n in range(n_samples)],
        "mtime_ns": np.full(n_samples, 1_790_000_000_000_000_000),
    }
    return Inventory(pa.table(columns))


def _embedded(
    inventory: Inventory, number: int, size: int, rng: np.random.Generator, dimensions: int
) -> EmbeddedSamples:
    samples = inventory.shards(size)[number].samples
    vectors = rng.standard_normal((len(samples), dimensions), np.float32)
    properties = {"sharpness": 12.5, "luminance": 51.25, "contrast": 20.125}
    records = [
        ImageRecord(one.filename, 1280, 720, rng.bytes(32), rng.bytes(32), properties)
        for one in samples
    ]
    return EmbeddedSamples(vectors, records, ())


def _selection(n_samples: int) -> Selection:
    n_selected = n_samples // 10
    return Selection(
        np.arange(n_selected), np.linspace(2, 1, n_selected, dtype=np.float32), "n_samples"
    )


if __name__ == "__main__":
    main()
