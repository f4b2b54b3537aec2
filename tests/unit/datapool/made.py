"""A bucket of made-up files, and what runs would bring to a datapool from it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.datapool.columns import Additions
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.store import Store
from lightly_fs.datasource.inventory import SCHEMA, Inventory
from lightly_fs.datasource.output import Output
from lightly_fs.types import Failure, Frame, ModelInfo, Outcome, is_video

MODEL = ModelInfo("bundled", "00ff", 128, 4, "resize", "torch", "float32")


def digest(*words: object) -> bytes:
    return hashlib.sha256(repr(words).encode()).digest()


def inventory_of(bucket: Mapping[str, int]) -> Inventory:
    """Return the listing of files, each of a version."""
    rows = [
        {"filename": name, "size": 100, "etag": digest(name, version).hex(), "mtime_ns": version}
        for name, version in bucket.items()
    ]
    return Inventory(pa.Table.from_pylist(rows, SCHEMA))


def samples_of(name: str, version: int) -> list[str]:
    """Return the samples of a file: itself, or a video's frames, of which versions have others."""
    if not is_video(name):
        return [name]
    return [f"{name[:-4]}-{index}-mp4.png" for index in range(2 + version % 3)]


def vector_of(sample: str, version: int) -> np.ndarray:
    return np.frombuffer(digest(sample, version)[:4], np.uint8).astype(np.float32)


def additions_of(
    pool: Pool,
    bucket: Mapping[str, int],
    ended: Mapping[str, Outcome],
    selected: Collection[str],
    run_id: str = "run",
    model: ModelInfo = MODEL,
) -> Additions:
    """Return what a run found.

    Args:
        pool: What it began with.
        bucket: Everything that is listed.
        ended: How the processed files ended. A video that failed loses its first frame only.
        selected: Samples; those that have no embedding are passed over.
    """
    rows: list[tuple[str, str, int, Frame | None]] = []
    failures = []
    for name, outcome in ended.items():
        samples = samples_of(name, bucket[name])
        if outcome is Outcome.EMBEDDED or is_video(name):
            first = 0 if outcome is Outcome.EMBEDDED else 1
            for index, sample in enumerate(samples[first:], start=first):
                frame = Frame(name, index, 512 * index, index / 25) if is_video(name) else None
                rows.append((sample, name, bucket[name], frame))
        if outcome is not Outcome.EMBEDDED:
            frame = Frame(name, 0, None, None) if is_video(name) else None
            failures.append(Failure(samples[0], outcome, f"was {outcome.value}", frame))
    names = [sample for sample, *_ in rows]
    vectors = [vector_of(sample, version) for sample, _, version, _ in rows]
    hashes = [np.frombuffer(digest(name, version), np.uint8) for name, _, version, _ in rows]
    frames = [
        {"video": one.video, "frame_index": one.index, "pts": one.pts, "seconds": one.seconds}
        if one
        else dict.fromkeys(("video", "frame_index", "pts", "seconds"))
        for *_, one in rows
    ]
    schema = [("video", pa.string()), ("frame_index", pa.int64()), ("pts", pa.int64())]
    table = EmbeddedTable(
        filenames=names,
        vectors=np.array(vectors, np.float32).reshape(-1, model.dimensions),
        widths=np.full(len(names), 640, np.int32),
        heights=np.full(len(names), 480, np.int32),
        content_hashes=np.array(hashes, np.uint8).reshape(-1, 32),
        pixel_hashes=np.array(hashes, np.uint8).reshape(-1, 32)[:, ::-1],
        properties={"sharpness": np.arange(len(names), dtype=np.float64)},
        failures=failures,
    )
    return Additions(
        table=table,
        selected=np.flatnonzero([name in selected for name in names]),
        duplicates=[],
        known=pool.split(inventory_of(bucket)),
        model=model,
        run_id=run_id,
        frames=pa.Table.from_pylist(frames, pa.schema([*schema, ("seconds", pa.float64())])),
    )


@contextmanager
def opened(folder: Path, staging: Path) -> Iterator[Pool]:
    """Open a pool in a plain directory, without its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    output = Output(folder, None)
    store = Store(output, staging, lambda: None)
    try:
        yield Pool(store, store.newest())
    finally:
        output.close()
