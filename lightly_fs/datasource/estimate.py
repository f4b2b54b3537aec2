"""What a run would read and write, and how long that takes here: `--dry-run`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.reader import Buffer, Reader, open_reader
from lightly_fs.datasource.source import Source
from lightly_fs.types import Failure, Sample

_PAGE = 1000
_PROBES = 64
_PROBE_BYTES = 64 << 20
_RESULT_FILES = 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a run before it starts.

    Attributes:
        objects: Images that would be read.
        bytes: Their sizes together.
        list_requests: ListObjectsV2, one per 1,000 keys.
        get_requests: GETs, or reads through the mount.
        put_requests: For the results: one per shard while it runs, and the files at the end.
        reader: How they would be read.
        probed: Objects that were read to find out how fast that is.
        samples_per_second: Of those, read as a run reads.
        seconds: For reading everything; embedding may take longer.
    """

    objects: int
    bytes: int
    list_requests: int
    get_requests: int
    put_requests: int
    reader: str
    probed: int
    samples_per_second: float
    seconds: float


def dry_run_estimate(
    inventory: Inventory, source: Source, config: RunConfig, environ: Mapping[str, str]
) -> Estimate:
    """Read up to 64 objects (64 MiB) from all over the inventory and extrapolate."""
    reader = open_reader(source, config, environ)
    try:
        probed, seconds_each = _measure(reader, inventory)
    finally:
        reader.close()
    n = len(inventory)
    listed = source.bucket is not None
    n_shards = inventory.n_shards(config.shard_size)
    return Estimate(
        objects=n,
        bytes=inventory.total_bytes,
        list_requests=math.ceil((n + inventory.other_files) / _PAGE) if listed else 0,
        get_requests=n,
        put_requests=n_shards + _RESULT_FILES + (n if config.dump_dataset else 0),
        reader=reader.kind,
        probed=probed,
        samples_per_second=1 / seconds_each,
        seconds=n * seconds_each,
    )


def _measure(reader: Reader, inventory: Inventory) -> tuple[int, float]:
    """Return how many samples were read, and seconds per sample with reads overlapping."""
    rows = range(0, len(inventory), max(1, len(inventory) // (2 * _PROBES)))
    chosen = [sample for row in rows for sample in inventory.samples(row, row + 1)]
    budget = _PROBE_BYTES
    probes: list[Sample] = []
    for sample in chosen[: 2 * _PROBES]:
        budget -= sample.size
        if probes and budget < 0:
            break
        probes.append(sample)
    warm, timed = probes[: len(probes) // 2], probes[len(probes) // 2 :]
    for _ in reader.stream(warm):  # connections are made, the pace is found
        pass
    started = time.perf_counter()
    read: list[Buffer | Failure] = list(reader.stream(timed))
    seconds = max(time.perf_counter() - started, 1e-6)
    return len(probes), seconds / max(1, len(read))
