"""The inventory: every image and video that a run is about, frozen before work starts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.exclusion import Exclusion, is_sample
from lightly_fs.datasource.listing import local_path, walk
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.relevant import keep_relevant
from lightly_fs.datasource.shards import Shards, video_rows
from lightly_fs.datasource.source import Source
from lightly_fs.datasource.trouble import ObjectError
from lightly_fs.errors import ArtifactError, DatasourceError
from lightly_fs.types import VIDEO_EXTENSIONS, Progress, Sample, Stage, silent

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        pa.field("filename", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
_METADATA = b"lightly_fs.inventory"
_PROGRESS_EVERY = 10_000


class Inventory:
    """The samples of a run, sorted by the filename's UTF-8 bytes.

    Attributes:
        table: Columns filename, size, etag (null for directories) and mtime_ns, see `Sample`.
        other_files: Files beside them that are neither images nor videos.
    """

    def __init__(
        self, table: pa.Table, other_files: int = 0, other_videos: Iterable[str] = ()
    ) -> None:
        """Sort rows.

        Args:
            table: With the columns of `SCHEMA`.
            other_files: What lies beside them and is neither image nor video.
            other_videos: Videos that are listed, but of no run on this inventory; no image may
                have the name of one of their frames.
        """
        order = pc.sort_indices(table["filename"])
        self.table = table.select(SCHEMA.names).take(order).cast(SCHEMA).combine_chunks()
        self.other_files = other_files
        self._other_videos = frozenset(other_videos)
        self._shards: dict[int, Shards] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all rows; equal digests are equal inventories."""
        return _digest(self.table)

    @property
    def total_bytes(self) -> int:
        return int(pc.sum(self.table["size"]).as_py() or 0)

    def samples(self, start: int = 0, stop: int | None = None) -> list[Sample]:
        """Return the samples of rows `start` up to `stop`, like a slice."""
        start, stop, _ = slice(start, stop).indices(len(self))
        rows = self.table.slice(start, max(0, stop - start))
        return list(map(Sample, *(rows[name].to_pylist() for name in SCHEMA.names)))

    @cached_property
    def videos(self) -> list[Sample]:
        """The samples that are videos."""
        return self.take(video_rows(self.table))

    def take(self, rows: NDArray[np.int64]) -> list[Sample]:
        """Return the samples of rows (N,), in the order given."""
        found = self.table.take(rows)
        return list(map(Sample, *(found[name].to_pylist() for name in SCHEMA.names)))

    def shards(self, shard_size: int) -> Shards:
        """Return the units of work: `shard_size` images each, then videos."""
        if shard_size not in self._shards:
            self._shards[shard_size] = Shards(self.table, shard_size, self.take, self._other_videos)
        return self._shards[shard_size]

    def write(self, path: Path) -> None:
        """Write as Parquet; the same inventory gives the same bytes."""
        facts = {"digest": self.digest, "other_files": self.other_files}
        table = self.table.replace_schema_metadata({_METADATA: json.dumps(facts, sort_keys=True)})
        pq.write_table(table, path, compression="zstd", use_dictionary=False)

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """Read what `write` wrote.

        Raises:
            ArtifactError: The file is damaged, or no inventory.
        """
        try:
            table = pq.read_table(path)
            facts = json.loads((table.schema.metadata or {})[_METADATA])
            inventory = cls(table.replace_schema_metadata(None), int(facts["other_files"]))
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise ArtifactError(f"{path} is no inventory: {error}") from error
        if inventory.digest != facts["digest"]:
            raise ArtifactError(
                f"{path} is damaged: its rows do not match its digest {facts['digest']}",
                hint="Start a new run with another `run_directory`.",
            )
        return inventory


def _digest(table: pa.Table) -> str:
    """Hash lengths and bytes of every column, so that no two inventories share a digest."""
    hasher = hashlib.sha256(b"lightly-fs inventory 1\n")
    for column in table.columns:
        values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_string(values.type):
            lengths = pc.fill_null(pc.binary_length(values), -1)
            hasher.update(lengths.to_numpy(zero_copy_only=False).astype("<i4").tobytes())
            for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
                hasher.update(_text(chunk))
        else:
            hasher.update(values.to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    return hasher.hexdigest()


def _text(values: pa.StringArray) -> memoryview:
    """Return the UTF-8 of all values, one behind the other."""
    known = values.drop_null()
    _, offsets, data = known.buffers()
    if data is None or not len(known):
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)[known.offset : known.offset + len(known) + 1]
    return memoryview(data)[ends[0] : ends[-1]]


def freeze(
    source: Source,
    *,
    output: Path | Bucket | None = None,
    relevant: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Inventory:
    """List the images and videos of a source, once and for all.

    Left out are `.lightly/`, the output when it lies below the input, and every directory that a
    run wrote (it holds a manifest or lock of ours), with all below them.

    Args:
        source: What to list; by ListObjectsV2 when its bucket is known, else by walking.
        output: Where this run writes.
        relevant: Lines of the `relevant_filenames_file`; None for everything.
        progress: Told how many files were listed.

    Raises:
        DatasourceError: It cannot be listed, holds no sample, or none is relevant.
        MountError: The credentials are refused (`reason="credentials"`).
    """
    store = ObjectStore(source.bucket) if source.bucket is not None else None
    exclusion = Exclusion(source, output, lambda name: _small_file(source, store, name))
    samples, n_listed = [SCHEMA.empty_table()], 0
    for batch in store.list() if store is not None else _walk(source, exclusion):
        samples.append(exclusion.take(batch))
        n_listed += batch.num_rows
        if n_listed % _PROGRESS_EVERY < batch.num_rows:
            progress(Stage.LIST, sum(map(len, samples)), None)
    table = exclusion.finish(pa.concat_tables(samples))
    _require_samples(table, source, exclusion.other_files)
    if relevant is not None:
        table = table.filter(keep_relevant(table["filename"], relevant))
    inventory = Inventory(table, exclusion.other_files)
    videos = len(inventory.videos)
    told = f"{videos:,} of them videos" if videos else ""
    progress(Stage.LIST, len(inventory), len(inventory), told)
    return inventory


def _walk(source: Source, exclusion: Exclusion) -> Iterable[pa.RecordBatch]:
    if source.root is None:
        raise DatasourceError(f"{source.uri} has neither a directory nor a bucket")
    return walk(source.root, skip=exclusion.skips)


def _small_file(source: Source, store: ObjectStore | None, name: str) -> bytes | None:
    """Return a listed file's bytes; None when it cannot be read, which is no reason to stop."""
    try:
        if store is not None:
            return bytes(store.get(store.bucket.key(name)))
        path = local_path(source.root or Path(), name, walked=True)
        return Path(os.fsdecode(path)).read_bytes()
    except (ObjectError, OSError):
        return None


def _require_samples(table: pa.Table, source: Source, other_files: int) -> None:
    if len(table) == 0:
        others = "1 other file" if other_files == 1 else f"{other_files} other files"
        told = f"only {others}" if other_files else "nor any other file"
        folder = _folder_like_a_sample(source)
        raise DatasourceError(
            f"{source.uri} holds no image and no video, {told}{folder}",
            hint="Images end in png, jpg, jpeg, bmp, gif, tif, tiff or webp; videos in "
            + ", ".join(extension[1:] for extension in VIDEO_EXTENSIONS),
        )


def _folder_like_a_sample(source: Source) -> str:
    """Tell of a folder that is called as an image or video is, which nobody expects to be none."""
    if source.root is None:
        return ""
    with os.scandir(source.root) as entries:
        names = sorted(one.name for one in entries if is_sample(one.name) and one.is_dir())
    return f"; `{names[0]}` is a folder" if names else ""
