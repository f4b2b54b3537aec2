"""Everything that selection has to hold at a million samples; run by `bench_select.py --suite`.

Every case runs in a process of its own, so that its peak of memory is its own: `peak_of_vectors` is
the peak of the process above what it was before the vectors were loaded, in units of the vectors.
`--scale 0.01` takes a hundredth of the samples (and a tenth of the picks), to try the script out.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_select import combined, floors, make, measure, measure_combined, ours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.pool import ObjectEmbeddings
    from lightly_fs.selection.strategies import Strategy

Found = dict[str, object]
NEAR = 0.1
PEER_SAMPLES, PEER_PICKS = 20_000, 1000


def names(count: int) -> list[str]:
    return [f"{row:09d}" for row in range(count)]


def memory(field: str) -> int:
    """Return bytes of a field of this process's status, such as `VmRSS`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


class Peak:
    """The largest size of the process while it is watched, and of its own (not mapped) memory."""

    def __init__(self) -> None:
        self.before = memory("VmRSS")
        self.before_own = self.own = memory("RssAnon")
        self.all = self.before

    @contextmanager
    def watched(self) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.02):
                self.own = max(self.own, memory("RssAnon"))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            self.all = memory("VmHWM")
            done.set()
            watcher.join()

    def of(self, vectors: NDArray[np.float32]) -> Found:
        return {
            "vectors_mb": vectors.nbytes >> 20,
            "peak_of_vectors": round((self.all - self.before) / vectors.nbytes, 2),
            "own_of_vectors": round((self.own - self.before_own) / vectors.nbytes, 2),
        }


def as_after_embedding() -> None:
    """Load torch, with which products are made in bfloat16 where the processor multiplies it."""
    importlib.import_module("torch")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def diversity(kind: str, scale: float) -> Found:
    return measure(kind, int(1e6 * scale), 128, int(1e4 * scale**0.5))


def diversity_512(kind: str, scale: float) -> Found:
    return measure(kind, int(1e5 * scale), 512, int(1e4 * scale**0.5))


def combination(kind: str, scale: float) -> Found:
    """Diversity x weights x balance of 20 classes: within 3 times of diversity alone."""
    return measure_combined(kind, int(1e6 * scale), 128, int(1e4 * scale**0.5), repeats=1)


def near_duplicates(kind: str, scale: float) -> Found:
    """One sample in twenty is a near copy of another."""
    from lightly_fs.selection.near_duplicates import find_near_duplicates

    as_after_embedding()
    count = int(1e6 * scale)
    warm = make(kind, 10_000, 128)
    find_near_duplicates(warm, names(len(warm)), max_distance=NEAR)
    peak = Peak()
    vectors = make(kind, count, 128)
    rng = np.random.default_rng(1)
    copies = rng.choice(count, count // 20, replace=False)
    noise = 0.002 * rng.standard_normal((len(copies), 128), dtype=np.float32)
    vectors[copies] = vectors[rng.choice(count, len(copies))] + noise
    cpu = time.process_time()
    with peak.watched():
        took, found = timed(lambda: find_near_duplicates(vectors, names(count), max_distance=NEAR))
    cpu = time.process_time() - cpu
    pairs_s = floors(vectors, count)["gemm_floor_s"] / 2
    return {
        "seconds": round(took, 2),
        "cpu_s": round(cpu, 2),
        "removed": len(found.removed),
        "gemm_of_all_pairs_s": round(pairs_s, 2),
        "of_all_pairs": round(took / pairs_s, 3),
        **peak.of(vectors),
    }


def choosing(
    vectors: NDArray[np.float32] | ObjectEmbeddings, strategy: Strategy, picks: int
) -> Callable[[], Any]:
    from lightly_fs.selection.choose import choose
    from lightly_fs.selection.pool import Embeddings, ObjectEmbeddings, Pool
    from lightly_fs.selection.strategies import Limits

    if isinstance(vectors, ObjectEmbeddings):
        pool = Pool(names(len(vectors.offsets) - 1), {"e": vectors})
    else:
        pool = Pool(names(len(vectors)), {"e": Embeddings(vectors)})
    return lambda: choose(pool, [strategy], Limits(picks))


def facility_location(kind: str, scale: float) -> Found:
    from lightly_fs.selection.strategies import Representativeness

    as_after_embedding()
    picks = int(500 * scale**0.5)
    choosing(make(kind, 6000, 128), Representativeness("e"), 5)()
    peak = Peak()
    vectors = make(kind, int(1e5 * scale), 128)
    cpu = time.process_time()
    with peak.watched():
        took, _ = timed(choosing(vectors, Representativeness("e"), picks))
    cpu = time.process_time() - cpu
    seconds = {"seconds": round(took, 2), "cpu_s": round(cpu, 2)}
    return {**seconds, "picks": picks, **peak.of(vectors)}


def typicality(kind: str, scale: float) -> Found:
    from lightly_fs.selection.strategies import Typicality

    as_after_embedding()
    choosing(make(kind, 9000, 128), Typicality("e", 20), 5)()
    peak = Peak()
    vectors = make(kind, int(1e6 * scale), 128)
    cpu = time.process_time()
    with peak.watched():
        took, _ = timed(choosing(vectors, Typicality("e", 20), 1000))
    cpu = time.process_time() - cpu
    pairs_s = floors(vectors, len(vectors))["gemm_floor_s"]
    return {
        "seconds": round(took, 2),
        "cpu_s": round(cpu, 2),
        "gemm_of_all_pairs_s": round(pairs_s, 2),
        "of_all_pairs": round(took / pairs_s, 3),
        **peak.of(vectors),
    }


def objects(kind: str, scale: float) -> Found:
    """Up to ten objects in each of 100,000 images, five on average."""
    from lightly_fs.selection.pool import ObjectEmbeddings
    from lightly_fs.selection.strategies import Diversity

    count = int(1e5 * scale)
    counts = np.random.default_rng(1).integers(0, 11, count)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    vectors = make(kind, int(offsets[-1]), 128)
    picks = int(2000 * scale**0.5)
    warm = ObjectEmbeddings(make(kind, 60_000, 128), np.arange(0, 60_001, 6))
    choosing(warm, Diversity("e"), 200)()
    took, _ = timed(choosing(ObjectEmbeddings(vectors, offsets), Diversity("e"), picks))
    return {"seconds": round(took, 2), "objects": len(vectors), "picks": picks}


def several_diversities(kind: str, scale: float) -> Found:
    """Two embeddings: every pick is compared with all samples."""
    from lightly_fs.selection.choose import choose
    from lightly_fs.selection.pool import Embeddings, Pool
    from lightly_fs.selection.strategies import Diversity, Limits

    count, picks = int(1e5 * scale), int(1000 * scale**0.5)
    pool = Pool(
        names(count),
        {"a": Embeddings(make(kind, count, 128)), "b": Embeddings(make(kind, count, 64)[::-1])},
    )
    both: list[Strategy] = [Diversity("a"), Diversity("b")]
    choose(pool, both, Limits(2))
    took, _ = timed(lambda: choose(pool, both, Limits(picks)))
    return {"seconds": round(took, 2), "picks": picks, "per_pick_ms": round(took / picks * 1e3, 2)}


def _peak(kind: str, scale: float, way: str) -> Found:
    """Everything is loaded and compiled before the vectors are."""
    count, picks = int(1e6 * scale), int(1e4 * scale**0.5)
    warm = make(kind, 40_000, 128)
    combined(len(warm), warm)[way](300)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, make(kind, count, 128))
        asked = combined(count, np.empty((count, 0), np.float32))
        del asked
        peak = Peak()
        with peak.watched():
            vectors = np.load(path)
            took, _ = timed(lambda: combined(count, vectors)[way](picks))
    return {"seconds": round(took, 2), **peak.of(vectors)}


def peak_diversity(kind: str, scale: float) -> Found:
    return _peak(kind, scale, "alone")


def peak_combination(kind: str, scale: float) -> Found:
    return _peak(kind, scale, "weights_balance")


def memory_mapped(kind: str, scale: float) -> Found:
    """10 million x 64 in a file that is mapped: 10,000 of them by diversity."""
    count, picks = int(1e7 * scale), int(1e4 * scale**0.5)
    ours(make(kind, 80_000, 64), 300)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors"
        mapped: np.memmap[Any, Any] = np.memmap(path, np.float32, "w+", shape=(count, 64))
        for start in range(0, count, 1_000_000):
            stop = min(start + 1_000_000, count)
            mapped[start:stop] = make(kind, stop - start, 64)
        mapped.flush()
        vectors = np.memmap(path, np.float32, "r", shape=(count, 64))
        peak = Peak()
        with peak.watched():
            took, chosen = timed(lambda: ours(vectors, picks))
        return {"seconds": round(took, 2), "picks": len(chosen.indices), **peak.of(vectors)}


def peers(kind: str, scale: float) -> Found:
    """Other packages where they are installed, on as many samples as all of them can take."""
    from lightly_fs.selection.strategies import Representativeness

    count, picks = int(PEER_SAMPLES * scale), int(PEER_PICKS * scale**0.5)
    vectors = make(kind, count, 128)
    ours(vectors, picks)
    cover = choosing(vectors, Representativeness("e"), picks)
    cover()
    found: Found = {
        "case": f"{count}x128 k={picks} {kind}",
        "diversity_s": round(timed(lambda: ours(vectors, picks))[0], 3),
        "facility_location_s": round(timed(cover)[0], 3),
    }
    for package, module, way in PEERS:
        if importlib.util.find_spec(module) is None:
            found[package] = "not installed"
            continue
        try:
            found[package] = round(timed(lambda way=way: way(vectors, picks))[0], 3)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - a peer that fails is a result too
            found[package] = f"{type(error).__name__}: {error}"[:200]
    return found


def _fpsample(vectors: NDArray[np.float32], picks: int) -> object:
    return importlib.import_module("fpsample").fps_sampling(vectors, picks, start_idx=0)


def _apricot(vectors: NDArray[np.float32], picks: int) -> object:
    selection = importlib.import_module("apricot").FacilityLocationSelection
    chooser = selection(picks, metric="euclidean", optimizer="lazy")
    return chooser.fit(vectors.astype(np.float64)).ranking


def _submodlib(vectors: NDArray[np.float32], picks: int) -> object:
    function = importlib.import_module("submodlib").FacilityLocationFunction
    objective = function(n=len(vectors), mode="dense", data=vectors, metric="euclidean")
    return objective.maximize(budget=picks, optimizer="LazyGreedy", show_progress=False)


def _skactiveml(vectors: NDArray[np.float32], picks: int) -> object:
    strategy = importlib.import_module("skactiveml.pool").CoreSet(random_state=0)
    labels = np.full(len(vectors), np.nan)
    labels[0] = 0
    return strategy.query(vectors, labels, batch_size=picks)


PEERS = (
    ("fpsample (diversity)", "fpsample", _fpsample),
    ("scikit-activeml (diversity)", "skactiveml", _skactiveml),
    ("apricot-select (facility location)", "apricot", _apricot),
    ("submodlib-py (facility location)", "submodlib", _submodlib),
)

CASES: dict[str, Callable[[str, float], Found]] = {
    "diversity": diversity,
    "diversity_512": diversity_512,
    "combination": combination,
    "near_duplicates": near_duplicates,
    "facility_location": facility_location,
    "typicality": typicality,
    "objects": objects,
    "several_diversities": several_diversities,
    "peak_diversity": peak_diversity,
    "peak_combination": peak_combination,
    "memory_mapped": memory_mapped,
    "peers": peers,
}


def run(only: list[str] | None, kinds: list[str], scale: float) -> None:
    """Run the cases one after the other, each in a process of its own."""
    for name in only or CASES:
        if name not in CASES:
            sys.exit(f"no case {name!r}; there are {', '.join(CASES)}")
        for kind in kinds:
            subprocess.run([sys.executable, __file__, name, kind, str(scale)], check=False)


def main() -> None:
    name, kind, scale = sys.argv[1], sys.argv[2], float(sys.argv[3])
    warm = make("iid", 40_000, 128)
    ours(warm, 300)  # compiles
    if name == "combination":
        combined(len(warm), warm)["weights_balance"](300)
    found = {"suite": name, "data": kind, "scale": scale, **CASES[name](kind, scale)}
    json.dump(found, sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
