"""Measure what a datapool costs a run: opening, comparing, reading what is selected, updating.

    python scripts/bench_datapool.py [--known 0 1000000] [--new 10000] [--dimensions 128]
                                     [--repeats 3] [--folder DIR]

One JSON line per size of the pool, the best of the repeats: seconds of wall time, of CPU time for
`open_split_s`, and what the update wrote. The pool's files lie in a directory on a local disk, and
are in the page cache; a tenth of the samples is selected.

    open_split_s         newest state found, and an inventory of known + new files compared
    selected_vectors_s   embeddings of the selected samples, verified and read
    same_content_s       new files compared with the pool's hashes
    update_s             what the new files brought is added
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.datapool.columns import Additions
from lightly_fs.datapool.known import Known
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.store import Store
from lightly_fs.datapool.update import update
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.output import Output
from lightly_fs.types import ModelInfo

SELECTED = 10
"""Every tenth sample is."""


def inventory(count: int) -> Inventory:
    """Return a listing of so many images, the later ones after the earlier ones."""
    numbers = pa.array(np.arange(count))
    text = pc.utf8_lpad(pc.cast(numbers, pa.string()), 9, "0")
    folder = pc.utf8_slice_codeunits(text, 0, 5)
    names = pc.binary_join_element_wise("camera/", folder, "/image_", text, ".jpg", "")
    etags = pc.binary_join_element_wise("0123456789abcdef01234567", text, "")
    sizes, times = pc.add(numbers, 100_000), pc.add(numbers, 1_700_000_000_000_000_000)
    return Inventory(pa.table({"filename": names, "size": sizes, "etag": etags, "mtime_ns": times}))


def additions(known: Known, start: int, dimensions: int, run_id: str) -> Additions:
    """Return what a run brings that embedded the inventory from a row on."""
    rng = np.random.default_rng(start)
    names = known.inventory.table["filename"].slice(start).to_pylist()
    hashes = rng.integers(0, 256, (len(names), 32), dtype=np.uint8)
    table = EmbeddedTable(
        filenames=names,
        vectors=rng.standard_normal((len(names), dimensions), dtype=np.float32),
        widths=np.full(len(names), 640, np.int32),
        heights=np.full(len(names), 480, np.int32),
        content_hashes=hashes,
        pixel_hashes=hashes[:, ::-1],
        properties={"sharpness": rng.random(len(names))},
    )
    model = ModelInfo("bundled", "00ff", 128, dimensions, "resize", "torch", "float32")
    return Additions(table, np.arange(0, len(names), SELECTED), [], known, model, run_id)


@contextmanager
def opened(folder: Path) -> Iterator[Pool]:
    """Open a pool as a run does, without its lock and its mount."""
    output = Output(folder, None)
    with tempfile.TemporaryDirectory(dir=folder.parent) as staging:
        store = Store(output, Path(staging), lambda: None)
        yield Pool(store, store.newest())
    output.close()


def measure(known: int, new: int, dimensions: int, folder: Path) -> dict[str, float]:
    """Return the seconds of one run on a pool that is there; it stays as it is."""
    listed = inventory(known + new)
    seconds: dict[str, float] = {}

    def timed(name: str, action: Callable[[], object]) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        action()
        seconds[f"{name}_s"] = time.perf_counter() - start
        seconds[f"{name}_cpu_s"] = time.process_time() - cpu

    def open_split() -> None:
        with opened(folder) as pool:
            split = pool.split(listed)
        if len(split.new) != new or len(split.known) != known or split.deleted:
            raise SystemExit("the pool does not know what it holds")

    timed("open_split", open_split)
    with opened(folder) as pool:
        found = additions(pool.split(listed), known, dimensions, "new")
        timed("selected_vectors", pool.selected_vectors)
        timed("same_content", lambda: pool.same_content(found.table))
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, copy_function=_link)
    before = _bytes(copy)
    with opened(copy) as pool:
        found = additions(pool.split(listed), known, dimensions, "new")
        timed("update", lambda: update(pool, found))
    seconds["written_mb"] = (_bytes(copy) - before) / 1e6
    shutil.rmtree(copy)
    return seconds


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)  # files of a pool are never changed


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--known", type=int, nargs="*", default=[0, 1_000_000])
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    for known in given.known:
        with tempfile.TemporaryDirectory(dir=given.folder) as top:
            folder = Path(top, "pool")
            folder.mkdir()
            start = time.perf_counter()
            if known:
                with opened(folder) as pool:
                    first = additions(pool.split(inventory(known)), 0, given.dimensions, "first")
                    start = time.perf_counter()
                    update(pool, first)
            filled = time.perf_counter() - start
            rounds = [
                measure(known, given.new, given.dimensions, folder) for _ in range(given.repeats)
            ]
            best = {name: round(min(one[name] for one in rounds), 3) for name in rounds[0]}
            line = {
                "known": known,
                "new": given.new,
                "dimensions": given.dimensions,
                "fill_s": round(filled, 2),
                **best,
                "pool_mb": round(_bytes(folder) / 1e6, 1),
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
