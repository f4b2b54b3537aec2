"""Parts: what one shard became, as a Parquet file that carries its own hash in its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightly_fs.errors import ArtifactError
from lightly_fs.types import Duplicate, EmbeddedSamples, Failure, ImageRecord, Outcome

_NAME = re.compile(r"embed-(\d{5,})-([0-9a-f]{16})\.parquet")
_METADATA = b"lightly_fs.part"
_PROPERTY = "property_"
_HASH_BYTES = 32


@dataclass(frozen=True, eq=False)
class EmbeddedTable:
    """All embedded samples of a run, by columns; row `i` is the i-th in inventory order.

    Attributes:
        vectors: (N, D) float32.
        widths: (N,) int32 pixels, after EXIF orientation; `heights` likewise.
        content_hashes: (N, 32) uint8 SHA-256 of the object's bytes; `pixel_hashes` of the pixels.
        properties: (N,) float64 by name; empty when they are off.
        failures: The samples that were not embedded.
    """

    filenames: list[str]
    vectors: NDArray[np.float32]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    content_hashes: NDArray[np.uint8]
    pixel_hashes: NDArray[np.uint8]
    properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    failures: Sequence[Failure] = ()

    def __len__(self) -> int:
        return len(self.filenames)

    @property
    def records(self) -> Sequence[ImageRecord]:
        """The rows as values, each made when it is asked for."""
        return _Records(self)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Row by filename."""
        return {name: row for row, name in enumerate(self.filenames)}

    def without(self, duplicates: Sequence[Duplicate]) -> NDArray[np.int64]:
        """Return the rows (M,) that are left to select from, ascending."""
        keep = np.ones(len(self), dtype=bool)
        keep[[self.rows[duplicate.filename] for duplicate in duplicates]] = False
        return np.flatnonzero(keep).astype(np.int64)


class _Records(Sequence[ImageRecord]):
    def __init__(self, table: EmbeddedTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, row: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, row: slice) -> list[ImageRecord]: ...
    def __getitem__(self, row: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        table = self._table
        return ImageRecord(
            table.filenames[row],
            int(table.widths[row]),
            int(table.heights[row]),
            table.content_hashes[row].tobytes(),
            table.pixel_hashes[row].tobytes(),
            {name: float(values[row]) for name, values in table.properties.items()},
        )


def shard_of(name: str) -> int | None:
    """Return the shard that a part's name tells, or None when it is no part's name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def is_intact(name: str, data: bytes) -> bool:
    """Tell whether `data` is what the name promises; a torn or foreign file is not."""
    found = _NAME.fullmatch(name)
    return found is not None and hashlib.sha256(data).hexdigest().startswith(found[2])


def write_part(directory: Path, number: int, embedded: EmbeddedSamples) -> Path:
    """Write what a shard became; the same samples give the same bytes and the same name."""
    table = pa.concat_tables([_embedded(embedded), _failed(embedded)], promote_options="default")
    facts = {"embedded": len(embedded.records), "dimensions": int(embedded.vectors.shape[1])}
    table = table.replace_schema_metadata({_METADATA: json.dumps(facts, sort_keys=True)})
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f"embed-{number:05d}.parquet"
    pq.write_table(table, draft, compression="zstd", use_dictionary=False)
    with draft.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return draft.rename(directory / f"embed-{number:05d}-{digest[:16]}.parquet")


def read_parts(paths: Sequence[Path]) -> EmbeddedTable:
    """Read the parts of all shards, in the order given; the vectors are held once."""
    facts = [_facts(path) for path in paths]
    total = sum(part["embedded"] for part in facts)
    dimensions = {part["dimensions"] for part in facts if part["embedded"]}
    if len(dimensions) > 1:
        raise ArtifactError(
            f"the parts hold vectors of different dimensions: {sorted(dimensions)}",
            hint="choose another `run_directory`",
        )
    vectors = np.empty((total, max(dimensions, default=0)), dtype=np.float32)
    columns: list[pa.Table] = []
    failures: list[Failure] = []
    done = 0
    for path, part in zip(paths, facts, strict=True):
        table = pq.read_table(path)
        good = table.slice(0, part["embedded"])
        if len(good):
            flat = good["vector"].combine_chunks().flatten().to_numpy()
            vectors[done : done + len(good)] = flat.reshape(len(good), -1)
            columns.append(good.drop_columns(["vector", "outcome", "reason"]))
        done += len(good)
        bad = table.slice(part["embedded"]).select(["filename", "outcome", "reason"])
        failures += [
            Failure(row["filename"], Outcome(row["outcome"]), row["reason"])
            for row in bad.to_pylist()
        ]
    return _assemble(vectors, columns, failures)


def _assemble(
    vectors: NDArray[np.float32], columns: list[pa.Table], failures: list[Failure]
) -> EmbeddedTable:
    if not columns:
        nothing, no_hash = np.empty(0, np.int32), np.empty((0, _HASH_BYTES), np.uint8)
        return EmbeddedTable([], vectors, nothing, nothing, no_hash, no_hash, {}, failures)
    table = pa.concat_tables([part.replace_schema_metadata(None) for part in columns])
    names = [name for name in table.column_names if name.startswith(_PROPERTY)]
    return EmbeddedTable(
        filenames=table["filename"].to_pylist(),
        vectors=vectors,
        widths=table["width"].to_numpy(),
        heights=table["height"].to_numpy(),
        content_hashes=_hashes(table["content_hash"]),
        pixel_hashes=_hashes(table["pixel_hash"]),
        properties={name.removeprefix(_PROPERTY): table[name].to_numpy() for name in names},
        failures=failures,
    )


def _embedded(embedded: EmbeddedSamples) -> pa.Table:
    records, count = embedded.records, len(embedded.records)
    vectors = np.ascontiguousarray(embedded.vectors, dtype=np.float32)
    if vectors.shape[0] != count:
        raise ArtifactError(f"{count} records came with {vectors.shape[0]} vectors")
    dimensions = int(vectors.shape[1])
    properties = list(records[0].properties) if records else []
    columns: dict[str, pa.Array] = {
        "filename": pa.array([record.filename for record in records], pa.string()),
        "outcome": pa.array([Outcome.EMBEDDED.value] * count, pa.string()),
        "reason": pa.array([""] * count, pa.string()),
        "width": pa.array([record.width for record in records], pa.int32()),
        "height": pa.array([record.height for record in records], pa.int32()),
        "content_hash": pa.array([r.content_hash for r in records], pa.binary(_HASH_BYTES)),
        "pixel_hash": pa.array([r.pixel_hash for r in records], pa.binary(_HASH_BYTES)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimensions)
        if count
        else pa.array([], pa.list_(pa.float32(), dimensions)),
    }
    for name in properties:
        values = [record.properties[name] for record in records]
        columns[_PROPERTY + name] = pa.array(values, pa.float64())
    return pa.table(columns)


def _failed(embedded: EmbeddedSamples) -> pa.Table:
    failures = embedded.failures
    return pa.table(
        {
            "filename": pa.array([failure.filename for failure in failures], pa.string()),
            "outcome": pa.array([failure.outcome.value for failure in failures], pa.string()),
            "reason": pa.array([failure.reason for failure in failures], pa.string()),
        }
    )


def _facts(path: Path) -> dict[str, Any]:
    try:
        metadata = pq.read_schema(path).metadata or {}
        facts: dict[str, Any] = json.loads(metadata[_METADATA])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ArtifactError(f"{path.name} is no part of a run: {error}") from error
    return facts


def _hashes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    start = whole.offset * _HASH_BYTES
    data = np.frombuffer(whole.buffers()[1], np.uint8)
    return data[start : start + len(whole) * _HASH_BYTES].reshape(-1, _HASH_BYTES)
