"""Measure whole runs on new images: with an empty datapool, and with one that knows a million.

    python scripts/bench_datapool_run.py [--known 1000000] [--new 10000] [--selected 10000 100000]
                                         [--n-samples 1000] [--work DIR]

Every run lists a directory, embeds the new images (small JPEGs) with the bundled model, selects,
reports and updates the datapool, in a fresh process. Known files are empty: no run reads them. What
the datapool holds of them is made up, vectors of unit length. One JSON line a run, with the wall
seconds of its stages, then one with the ratios to the run with an empty datapool.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from bench_datapool import additions, opened
from bench_images import photographs
from bench_process import run_measured
from PIL import Image

from lightly_fs.config import RunConfig
from lightly_fs.datapool.update import update
from lightly_fs.datasource.inventory import Inventory, freeze
from lightly_fs.datasource.source import open_source
from lightly_fs.embedding.load import load_embedder
from lightly_fs.types import ModelInfo

SIZE = (320, 240)
PER_FOLDER = 10_000


def write_image(folder: Path, sources: list[Path], number: int) -> None:
    """Write a random crop of a photograph; it depends on the number alone."""
    rng = np.random.default_rng(number)
    with Image.open(sources[number % len(sources)]) as photograph:
        image = photograph.convert("RGB")
    share = rng.uniform(0.3, 0.8)
    width, height = (int(share * side) for side in image.size)
    left = int(rng.integers(0, image.width - width))
    top = int(rng.integers(0, image.height - height))
    image = image.crop((left, top, left + width, top + height)).resize(SIZE)
    image.save(folder / f"new_{number:06d}.jpg", quality=85)


def make_new(folder: Path, count: int) -> None:
    """Write the images that the datapool does not know."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(write_image, folder, photographs()), range(count), chunksize=50))


def make_known(folder: Path, count: int) -> None:
    """Write the files that the datapool knows."""
    for number in range(count):
        below = folder / f"known_{number // PER_FOLDER:04d}"
        if number % PER_FOLDER == 0:
            below.mkdir(parents=True)
        os.close(os.open(below / f"image_{number:08d}.jpg", os.O_CREAT | os.O_WRONLY))


def listing(folder: Path) -> Inventory:
    """Return what a run lists there."""
    with open_source(RunConfig(input_dir=str(folder)), {}) as source:
        return freeze(source)


def fill(folder: Path, listed: Inventory, model: ModelInfo, selected: int) -> None:
    """Make a datapool that knows all that is listed, and has selected so many of it."""
    folder.mkdir()
    with opened(folder) as pool:
        found = additions(pool.split(listed), 0, model.dimensions, "first")
        vectors = found.table.vectors
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = np.linspace(0, len(listed) - 1, selected).astype(np.int64)
        update(pool, replace(found, model=model, selected=rows))


def measure(top: Path, name: str, n_samples: int) -> dict[str, float]:
    """Return the seconds of a run on all that is there."""
    command = [
        *(sys.executable, "-m", "lightly_fs", "run", "--json", "-q", f"input_dir={top}/in"),
        *(f"output_dir={top}/out", f"shared_dir={top}", "datapool.name=pool"),
        *(f"run_directory={name}", f"stopping_condition.n_samples={n_samples}"),
    ]
    used = run_measured(command, dict(os.environ), top / f"{name}.log")
    if used.code:
        raise SystemExit((top / f"{name}.log").read_text())
    result = json.loads(used.stdout)
    stages = {f"{stage}_s": one["seconds"] for stage, one in result["timings"].items()}
    line = {"wall_s": used.wall_s, "cpu_s": used.cpu_s, "peak_rss_mb": used.peak_rss_mb, **stages}
    return {key: round(value, 1) for key, value in line.items()}


def main() -> None:
    """Measure with an empty datapool, then with each of the others."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--known", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--selected", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--n-samples", type=int, default=1_000)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        top = Path(folder)
        (top / "out").mkdir()
        make_new(top / "in/new", given.new)
        model = load_embedder(RunConfig()).info
        alone = measure(top, "empty", given.n_samples)
        print(json.dumps({"known": 0, "new": given.new, "selected": 0, **alone}), flush=True)
        shutil.rmtree(top / "pool")
        (top / "in/new").rename(top / "new")
        make_known(top / "in", given.known)
        listed = listing(top / "in")
        (top / "new").rename(top / "in/new")
        for selected in given.selected:
            fill(top / "pool", listed, model, selected)
            line = measure(top, f"selected-{selected}", given.n_samples)
            facts = {"known": given.known, "new": given.new, "selected": selected}
            print(json.dumps({**facts, **line}), flush=True)
            ratios = {key: round(line[key] / alone[key], 2) for key in ("wall_s", "cpu_s")}
            print(json.dumps({**facts, "ratios": ratios}), flush=True)
            shutil.rmtree(top / "pool")


if __name__ == "__main__":
    main()
