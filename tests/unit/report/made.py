"""Finished runs of any shape, without storage: clustered vectors and small scenes."""

from __future__ import annotations

import numpy as np

from lightly_fs.config.run import RunConfig
from lightly_fs.report import ReportInput
from lightly_fs.types import (
    Counts,
    Duplicate,
    Failure,
    ModelInfo,
    Outcome,
    RunFacts,
    Selection,
    Stage,
    Timing,
)
from tests.images import scene


def vectors(n: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    """Return (n, D) float32 unit vectors in five clusters."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(5, dimensions))
    made = centres[rng.integers(0, 5, n)] + rng.normal(size=(n, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def farthest_first(given: np.ndarray, k: int) -> Selection:
    chosen, distances = [], []
    nearest = np.full(len(given), np.inf)
    for _ in range(k):
        pick = int(nearest.argmax())
        chosen.append(pick)
        distances.append(nearest[pick])
        nearest = np.minimum(nearest, np.linalg.norm(given - given[pick], axis=1))
        nearest[chosen] = -1
    return Selection(np.array(chosen, np.int64), np.array(distances, np.float32), "n_samples")


def thumbnail(filename: str, side: int) -> np.ndarray:
    picture = scene(sum(filename.encode()) % 97, 80, 60)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def facts(n: int, **changes) -> RunFacts:
    values = {
        "run_id": "2026-11-21/14:03:22",
        "started": 1_790_000_000.25,
        "finished": 1_790_000_153.5,
        "input_uri": "s3://fleet/november/",
        "timings": {Stage.EMBED: Timing(2.0, n), Stage.SELECT: Timing(0.1, n)},
        "bytes_read": 42_000_000,
        "read_through": "object",
    }
    return RunFacts(**(values | changes))


def a_run(
    n: int = 40,
    k: int = 8,
    *,
    dimensions: int = 16,
    names: list[str] | None = None,
    failures: list[Failure] | None = None,
    duplicates: list[Duplicate] | None = None,
    properties: tuple[str, ...] = ("sharpness", "sizeInBytes", "luminance"),
    image=thumbnail,
    config: dict | None = None,
    **facts_changes,
) -> ReportInput:
    """Return a run of `n` candidates of which `k` were selected."""
    filenames = names or [f"folder_{i % 3}/image_{i:04d}.jpg" for i in range(n)]
    failures = [] if failures is None else failures
    duplicates = [] if duplicates is None else duplicates
    given = vectors(n, dimensions)
    rng = np.random.default_rng(1)
    lost = {o: sum(f.outcome is o for f in failures) for o in Outcome}
    return ReportInput(
        facts=facts(n, **facts_changes),
        config=RunConfig(**(config or {"stopping_condition": {"n_samples": k}})),
        counts=Counts(
            inventory=n + len(duplicates) + len(failures),
            embedded=n + len(duplicates),
            corrupt=lost[Outcome.CORRUPT],
            gone=lost[Outcome.GONE],
            failed=lost[Outcome.FAILED],
            unreadable=lost[Outcome.UNREADABLE],
            duplicate=len(duplicates),
            selected=k,
            removed=n - k,
        ),
        model=ModelInfo("bundled", "ab" * 32, 128, dimensions, "resize 128", "openvino", "bf16"),
        filenames=filenames,
        vectors=given,
        selection=farthest_first(given, k),
        properties={name: rng.gamma(2, 50_000, n) for name in properties},
        failures=failures,
        duplicates=duplicates,
        image=image,
    )
