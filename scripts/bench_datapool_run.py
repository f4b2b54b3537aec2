"""Measure whole runs on new images: with an empty datapool, and with one that knows a million.

    python scripts/bench_datapool_run.py [--known 1000000] [--new 10000] [--selected 10000 100000]
                                         [--n-samples 1000] [--repeats 3] [--work DIR]

Every run lists a directory, embeds the new images (small JPEGs) with the bundled model, selects,
reports and updates the datapool, in a fresh process. Known files are empty: no run reads them. What
the datapool holds of them is made up, vectors of unit length; each run gets it as it was. One JSON
line a run, with the wall seconds of its stages; the runs to compare take turns. Last a line each
with the medians, and with their ratios to the run with an empty datapool.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
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


def measure(top: Path, source: Path, name: str, n_samples: int) -> dict[str, float]:
    """Return the seconds of a run on all that is there."""
    command = [
        *(sys.executable, "-m", "lightly_fs", "run", "--json", "-q", f"input_dir={source}"),
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


def prepare(top: Path, known: int, new: int, selections: list[int]) -> None:
    """Make the images, the files beside them, and datapools that know these."""
    (top / "out").mkdir()
    make_new(top / "alone/new", new)
    make_known(top / "both", known)
    listed, model = listing(top / "both"), load_embedder(RunConfig()).info
    for selected in selections:
        fill(top / f"filled-{selected}", listed, model, selected)
    shutil.copytree(top / "alone/new", top / "both/new", copy_function=os.link)


def main() -> None:
    """Measure with an empty datapool and with each of the others, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--known", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--selected", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--n-samples", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    lines: dict[int, list[dict[str, float]]] = {count: [] for count in (0, *given.selected)}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        top = Path(folder)
        prepare(top, given.known, given.new, given.selected)
        for repeat in range(given.repeats):
            for selected, found in lines.items():
                if selected:  # files of a datapool are never changed
                    shutil.copytree(top / f"filled-{selected}", top / "pool", copy_function=os.link)
                source = top / ("both" if selected else "alone")
                found.append(measure(top, source, f"{selected}-{repeat}", given.n_samples))
                shutil.rmtree(top / "pool")
                known = given.known if selected else 0
                facts = {"known": known, "new": given.new, "selected": selected}
                print(json.dumps({**facts, **found[-1]}), flush=True)
    medians = {
        selected: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for selected, found in lines.items()
    }
    for selected, line in medians.items():
        ratios = {key: round(line[key] / medians[0][key], 2) for key in ("wall_s", "cpu_s")}
        print(json.dumps({"selected": selected, "medians": line, "ratios": ratios}), flush=True)


if __name__ == "__main__":
    main()
