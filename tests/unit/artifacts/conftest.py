"""A small run: ten samples in shards of four, made without reading a single image."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from lightly_fs.artifacts import Results, RunDir, write_results
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import SCHEMA, Inventory
from lightly_fs.datasource.output import Output
from lightly_fs.types import (
    Duplicate,
    EmbeddedSamples,
    Failure,
    ImageRecord,
    ModelInfo,
    Outcome,
    Selection,
)

MODEL = ModelInfo("bundled", "00ff", 128, 3, "resize", "torch", "float32")
NAMES = [f"d/{number}.jpg" for number in range(8)] + ["e/ü, 猫.png", "e/x\ny.webp"]
CORRUPT, FAILED, COPY = "d/2.jpg", "d/5.jpg", "d/6.jpg"


def inventory_of(names):
    rows = [
        {"filename": name, "size": len(name), "etag": None, "mtime_ns": 7} for name in sorted(names)
    ]
    return Inventory(pa.Table.from_pylist(rows, SCHEMA), other_files=1)


def vector_of(name):
    return np.frombuffer(hashlib.sha256(name.encode()).digest()[:12], np.uint32).astype(np.float32)


def record_of(name):
    digest = hashlib.sha256(name.encode()).digest()
    return ImageRecord(name, 640, 480, digest, digest[::-1], {"sharpness": len(name) / 3})


def embed(shard):
    """Stand in for the embed stage: two samples end badly."""
    failures = {
        CORRUPT: Failure(CORRUPT, Outcome.CORRUPT, 'truncated, "really"'),
        FAILED: Failure(FAILED, Outcome.FAILED, "timed out"),
    }
    names = [sample.filename for sample in shard if sample.filename not in failures]
    vectors = np.array([vector_of(name) for name in names], np.float32).reshape(-1, 3)
    failed = [failures[sample.filename] for sample in shard if sample.filename in failures]
    return EmbeddedSamples(vectors, [record_of(name) for name in names], failed)


def results_of(table):
    selection = Selection(np.array([3, 0, 4]), np.array([np.inf, 2, 1], np.float32), "n_samples")
    return Results(table, [Duplicate(COPY, "d/0.jpg", "content")], selection)


def finish(output, config, staging, inventory):
    """Run everything that is still to be done; return the run directory."""
    staging.mkdir(parents=True, exist_ok=True)
    run_dir = RunDir.open(output, config, staging)
    run_dir.freeze(inventory)
    if run_dir.complete:
        return run_dir
    for number in range(len(inventory.shards(config.shard_size))):
        if number not in run_dir.committed():
            run_dir.set_model(MODEL)
            run_dir.write_part(number, embed(inventory.shards(config.shard_size)[number].samples))
    results = results_of(run_dir.read_parts())
    write_results(results, staging, config)
    (staging / "log.txt").write_text("what happened\n")
    run_dir.publish_tree()
    run_dir.commit(results.counts(len(inventory)), MODEL)
    return run_dir


@pytest.fixture
def config():
    return RunConfig(shard_size=4, run_directory="run")


@pytest.fixture
def inventory():
    return inventory_of(NAMES)


@pytest.fixture
def output(tmp_path):
    (tmp_path / "output").mkdir()
    made = Output(tmp_path / "output", None)
    yield made
    made.close()
