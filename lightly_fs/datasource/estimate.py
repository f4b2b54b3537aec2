"""What a run would read and write, and how long that takes here: `--dry-run`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.ranged import BLOCK_BYTES, RangedReadError
from lightly_fs.datasource.reader import Buffer, Reader, open_reader
from lightly_fs.datasource.shards import video_rows
from lightly_fs.datasource.source import Source
from lightly_fs.types import Failure, Sample

_PAGE = 1000
_PROBES = 64
_PROBE_BYTES = 64 << 20
_RESULT_FILES = 30
_VIDEO_PROBES = 4
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a run before it starts.

    Attributes:
        objects: Images and videos that would be read.
        videos: Those of them that are videos.
        bytes: Their sizes together.
        list_requests: ListObjectsV2, one per 1,000 keys.
        get_requests: GETs, or reads through the mount.
        put_requests: For the results: one per shard while it runs, and the files at the end.
        reader: How they would be read.
        probed: Objects that were read to find out how fast that is; of videos the first blocks.
        samples_per_second: Of the images among those, read as a run reads; 0 for none.
        seconds: For reading everything; decoding and embedding may take longer.
    """

    objects: int
    videos: int
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
    """Read up to 64 images (64 MiB) from all over the inventory, and of some videos the begin."""
    videos = inventory.videos
    reader = open_reader(source, config, environ)
    try:
        images, seconds_each = _measure(reader, inventory)
        begun, seconds_per_byte = _measure_videos(reader, videos)
    finally:
        reader.close()
    n, n_images = len(inventory), len(inventory) - len(videos)
    listed = source.bucket is not None
    n_shards = len(inventory.shards(config.shard_size))
    return Estimate(
        objects=n,
        videos=len(videos),
        bytes=inventory.total_bytes,
        list_requests=math.ceil((n + inventory.other_files) / _PAGE) if listed else 0,
        get_requests=n_images + sum(max(1, video.size // BLOCK_BYTES) for video in videos),
        put_requests=n_shards + _RESULT_FILES + (n if config.dump_dataset else 0),
        reader=reader.kind,
        probed=images + begun,
        samples_per_second=1 / seconds_each if images else 0.0,
        seconds=n_images * seconds_each + sum(one.size for one in videos) * seconds_per_byte,
    )


def _measure(reader: Reader, inventory: Inventory) -> tuple[int, float]:
    """Return how many images were read, and seconds per image with reads overlapping."""
    rows = np.delete(np.arange(len(inventory)), video_rows(inventory.table))
    chosen = inventory.take(rows[:: max(1, len(rows) // (2 * _PROBES))][: 2 * _PROBES])
    budget = _PROBE_BYTES
    probes: list[Sample] = []
    for sample in chosen:
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


def _measure_videos(reader: Reader, videos: Sequence[Sample]) -> tuple[int, float]:
    """Return how many videos were looked at, and seconds per byte of reading them."""
    chosen = videos[:: max(1, len(videos) // _VIDEO_PROBES)][:_VIDEO_PROBES]
    read, started = 0, time.perf_counter()
    for video in chosen:
        file = reader.open(video)
        try:
            handle = file.handle()
            while read < _PROBE_BYTES and (data := handle.read(_PIECE)):
                read += len(data)
            handle.close()
        except RangedReadError:  # the run will say which and why
            continue
        finally:
            file.close()
    return len(chosen), (time.perf_counter() - started) / max(1, read)
