"""Measure farthest-first selection against scans in numpy and torch, and against its floors.

    python scripts/bench_select.py [--cases 100000x128x1000 …] [--data clustered iid] [--threads 2]
    python scripts/bench_select.py --combined [--repeats 3]
    python scripts/bench_select.py --suite [--only near_duplicates …] [--scale 0.01]

One JSON line per case. `--suite` runs `bench_selection_suite.py`: everything that selection has to
hold at a million samples, each case in a process of its own. `--combined` measures diversity x
weights x balance (one label, 20 classes) against diversity alone instead, in turns, in wall time
and in the CPU time of this process. A scan costs the same for every pick, so it is timed for
`scan_picks` picks and extrapolated. Floors: `memory_floor_s`, all vectors read once per pick, and
`gemm_floor_s`, all N · k products in float32, both at rates measured in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.choose import Chosen
    from lightly_fs.types import Selection

SCAN_PICKS = 20


def make(kind: str, count: int, dimensions: int) -> NDArray[np.float32]:
    """Return unit vectors, around 200 centres (`clustered`) or anywhere (`iid`)."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dimensions), dtype=np.float32)
    if kind == "clustered":
        centres = rng.standard_normal((200, dimensions), dtype=np.float32)
        vectors *= np.float32(0.6)
        vectors += centres[rng.integers(0, len(centres), count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Return the best wall time of several calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(vectors: NDArray[np.float32], picks: int) -> Selection:
    from lightly_fs.config.run import CoresetMethod
    from lightly_fs.selection import select

    return select(
        vectors,
        method=CoresetMethod.CORESET,
        n_samples=picks,
        min_distance=None,
        seed=0,
        filenames=[f"{row:09d}" for row in range(len(vectors))],
    )


def combined(count: int, vectors: NDArray[np.float32]) -> dict[str, Callable[[int], Chosen]]:
    """Return what to compare: diversity alone, and with weights and balanced classes."""
    from lightly_fs.selection.choose import choose
    from lightly_fs.selection.pool import Categorical, Embeddings, Numeric, Pool
    from lightly_fs.selection.strategies import (
        Balance,
        Diversity,
        Goal,
        Limits,
        Strategy,
        Weights,
    )

    rng = np.random.default_rng(1)
    shares = 1.0 / np.arange(1, 21)  # some classes are twenty times as frequent as others
    labels = rng.choice(20, count, p=shares / shares.sum())
    pool = Pool(
        filenames=[f"{row:09d}" for row in range(count)],
        inputs={
            "embeddings": Embeddings(vectors),
            "score": Numeric(rng.random(count)),
            "class": Categorical([f"class-{label:02d}" for label in labels]),
        },
    )
    alone: list[Strategy] = [Diversity("embeddings")]
    both: list[Strategy] = [*alone, Weights("score")]
    every: list[Strategy] = [*both, Balance("class", Goal.UNIFORM)]
    return {
        "alone": lambda picks: choose(pool, alone, Limits(picks)),
        "weights": lambda picks: choose(pool, both, Limits(picks)),
        "weights_balance": lambda picks: choose(pool, every, Limits(picks)),
    }


def measure_combined(
    kind: str, count: int, dimensions: int, picks: int, repeats: int
) -> dict[str, object]:
    ways = combined(count, make(kind, count, dimensions))
    wall = dict.fromkeys(ways, np.inf)
    cpu = dict.fromkeys(ways, np.inf)
    for _ in range(repeats):
        for name, way in ways.items():
            before = time.process_time()
            wall[name] = min(wall[name], seconds(lambda way=way: way(picks)))  # type: ignore[misc]
            cpu[name] = min(cpu[name], time.process_time() - before)
    return {
        "case": f"{count}x{dimensions} k={picks} {kind} combined",
        **{f"{name}_s": round(value, 3) for name, value in wall.items()},
        **{f"{name}_cpu_s": round(value, 3) for name, value in cpu.items()},
        "of_alone": round(wall["weights_balance"] / wall["alone"], 2),
        "of_alone_cpu": round(cpu["weights_balance"] / cpu["alone"], 2),
    }


def numpy_scan(vectors: NDArray[np.float32], first: int, picks: int) -> list[int]:
    """The textbook: one pass over differences per pick."""
    best = np.full(len(vectors), np.inf, np.float32)
    chosen = [first]
    for _ in range(picks - 1):
        distance = np.square(vectors - vectors[chosen[-1]]).sum(axis=1)
        best = np.minimum(best, distance)
        chosen.append(int(best.argmax()))
    return chosen


def torch_scan(vectors: NDArray[np.float32], first: int, picks: int) -> list[int]:
    """One matrix-vector product per pick (unit vectors)."""
    import torch

    matrix = torch.from_numpy(vectors)
    best = torch.full((len(vectors),), torch.inf)
    chosen = [first]
    for _ in range(picks - 1):
        best = torch.minimum(best, 2 - 2 * (matrix @ matrix[chosen[-1]]))
        chosen.append(int(best.argmax()))
    return chosen


def floors(vectors: NDArray[np.float32], picks: int) -> dict[str, float]:
    """Return the measured rates and what they make of this case."""
    import torch

    rows = min(len(vectors), 2_000_000_000 // vectors.itemsize // vectors.shape[1])
    matrix = torch.from_numpy(vectors[:rows])
    read = matrix.nbytes / seconds(matrix.sum, 5)
    square = np.ones((2048, 2048), np.float32)
    rate = 2 * 2048**3 / seconds(lambda: square @ square, 5)
    return {
        "read_gb_s": read / 1e9,
        "gemm_gflop_s": rate / 1e9,
        "memory_floor_s": vectors.nbytes * picks / read,
        "gemm_floor_s": 2.0 * vectors.size * picks / rate,
    }


def measure(kind: str, count: int, dimensions: int, picks: int) -> dict[str, object]:
    vectors = make(kind, count, dimensions)
    started = time.perf_counter()
    result = ours(vectors, picks)
    own = time.perf_counter() - started
    first = int(result.indices[0])
    cost = {
        name: seconds(lambda scan=scan: scan(vectors, first, SCAN_PICKS)) / SCAN_PICKS * picks  # type: ignore[misc]
        for name, scan in (("numpy", numpy_scan), ("torch", torch_scan))
    }
    floor = floors(vectors, picks)
    begin = numpy_scan(vectors, first, SCAN_PICKS)
    return {
        "case": f"{count}x{dimensions} k={picks} {kind}",
        "seconds": round(own, 3),
        "numpy_s_extrapolated": round(cost["numpy"], 2),
        "torch_s_extrapolated": round(cost["torch"], 2),
        "scan_picks": SCAN_PICKS,
        "times_numpy": round(cost["numpy"] / own, 1),
        "times_torch": round(cost["torch"] / own, 1),
        **{name: round(value, 3) for name, value in floor.items()},
        "of_gemm_floor": round(own / floor["gemm_floor_s"], 2),
        "of_memory_floor": round(own / floor["memory_floor_s"], 3),
        "first_picks_as_scanned": begin == result.indices[:SCAN_PICKS].tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", nargs="+", default=["100000x128x1000", "100000x128x10000"])
    parser.add_argument("--data", nargs="+", default=["clustered", "iid"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--combined", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--suite", action="store_true")
    parser.add_argument("--only", nargs="+", help="cases of the suite")
    parser.add_argument("--scale", type=float, default=1.0, help="of the suite's sizes")
    arguments = parser.parse_args()
    if arguments.suite:
        import bench_selection_suite

        bench_selection_suite.run(arguments.only, arguments.data, arguments.scale)
        return
    import torch

    torch.set_num_threads(arguments.threads)
    warm = make("iid", 40_000, 128)
    ours(warm, 300)  # compiles
    if arguments.combined:
        combined(len(warm), warm)["weights_balance"](300)
    for case in arguments.cases:
        for kind in arguments.data:
            count, dimensions, picks = (int(part) for part in case.split("x"))
            if arguments.combined:
                found = measure_combined(kind, count, dimensions, picks, arguments.repeats)
            else:
                found = measure(kind, count, dimensions, picks)
            json.dump(found, sys.stdout)
            print(flush=True)


if __name__ == "__main__":
    main()
