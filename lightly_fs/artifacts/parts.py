"""Parts: what one shard became, as a Parquet file that carries its own hash in its name.

embed-00012-….parquet         a shard of images
embed-00012.0003-….parquet    the fourth piece of a shard of videos, see `Piece`
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightly_fs.artifacts.embedded_table import EmbeddedTable
from lightly_fs.artifacts.frame_names import Columns, named
from lightly_fs.errors import ArtifactError
from lightly_fs.types import EmbeddedSamples, Failure, Frame, Outcome, VideoFacts

__all__ = [
    "EmbeddedTable",
    "Piece",
    "PieceFacts",
    "is_intact",
    "place_of",
    "read_parts",
    "read_piece",
    "write_part",
]

_NAME = re.compile(r"embed-(\d{5,})(?:\.(\d{4,}))?-([0-9a-f]{16})\.parquet")
_METADATA = b"lightly_fs.part"
_PROPERTY = "property_"
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """What a piece of a shard of videos says beside its frames.

    Attributes:
        number: From 0; the pieces of a shard follow one another.
        ended: Videos that were decoded to their end in this piece.
        resume: Where the decoder goes on behind it, as JSON values; None where that is the start
            of the next video, or the shard's end.
    """

    number: int
    ended: Sequence[VideoFacts]
    resume: Mapping[str, Any] | None = None


def place_of(name: str) -> tuple[int, int | None] | None:
    """Return shard and piece that a part's name tells, or None when it is no part's name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), None if found[2] is None else int(found[2])) if found else None


def is_intact(name: str, data: bytes) -> bool:
    """Tell whether `data` is what the name promises; a torn or foreign file is not."""
    found = _NAME.fullmatch(name)
    return found is not None and hashlib.sha256(data).hexdigest().startswith(found[3])


def write_part(
    directory: Path, number: int, embedded: EmbeddedSamples, piece: Piece | None = None
) -> Path:
    """Write what a shard became; the same samples give the same bytes and the same name.

    Args:
        directory: Local; is made.
        number: Of the shard.
        embedded: What became of its samples.
        piece: Which piece of a shard of videos this is; None for a shard of images.
    """
    tables = [_embedded(embedded), _failed(embedded.failures)]
    facts: dict[str, Any] = {
        "embedded": len(embedded.records),
        "dimensions": int(embedded.vectors.shape[1]),
    }
    stem = f"embed-{number:05d}"
    if piece is not None:
        stem += f".{piece.number:04d}"
        facts["ended"] = [asdict(video) for video in piece.ended]
        facts["resume"] = None if piece.resume is None else dict(piece.resume)
        frames = [[one.frame for one in each] for each in (embedded.records, embedded.failures)]
        tables = [_with_frames(*pair) for pair in zip(tables, frames, strict=True)]
    table = pa.concat_tables(tables, promote_options="default")
    table = table.replace_schema_metadata({_METADATA: json.dumps(facts, sort_keys=True)})
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f"{stem}.parquet"
    pq.write_table(table, draft, compression="zstd", use_dictionary=False)
    with draft.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return draft.rename(directory / f"{stem}-{digest[:16]}.parquet")


@dataclass(frozen=True, slots=True)
class PieceFacts:
    """What a piece that is there says.

    Attributes:
        ended: Videos that were decoded to their end in it, or failed.
        resume: As `Piece.resume`.
        n_frames: Frames in it.
    """

    ended: frozenset[str]
    resume: Mapping[str, Any] | None
    n_frames: int


def read_piece(path: Path) -> PieceFacts:
    """Return what a piece says of its videos.

    Raises:
        ArtifactError: It is no piece of a shard of videos.
    """
    facts = _facts(path)
    if "ended" not in facts:
        raise ArtifactError(f"{path.name} is no piece of a shard of videos")
    rows = pq.read_table(path, columns=["filename", "video"])
    failed = rows.filter(pc.is_null(rows["video"]))["filename"].to_pylist()
    ended = frozenset([video["filename"] for video in facts["ended"]] + failed)
    return PieceFacts(ended, facts["resume"], len(rows) - len(failed))


def read_parts(paths: Sequence[Path]) -> EmbeddedTable:
    """Read the parts of all shards, in the order given; the vectors are held once.

    Frames get their names, and where there are any, all rows are sorted by their names. The frames
    of videos that failed after them are left out: nobody knows how many digits their names have.

    Raises:
        ArtifactError: The parts do not belong together, or the end of a video is missing.
    """
    facts = [_facts(path) for path in paths]
    dimensions = {part["dimensions"] for part in facts if part["embedded"]}
    if len(dimensions) > 1:
        raise ArtifactError(
            f"the parts hold vectors of different dimensions: {sorted(dimensions)}",
            hint="choose another `run_directory`",
        )
    good, failures = [], []
    for path, part in zip(paths, facts, strict=True):
        rows = pq.read_table(path, columns=_all_but_vectors(path)).replace_schema_metadata(None)
        good.append(rows.slice(0, part["embedded"]).drop_columns(["outcome", "reason"]))
        failures += _failures(rows.slice(part["embedded"]))
    table = pa.concat_tables(good, promote_options="default") if good else pa.table({})
    ended = [VideoFacts(**one) for part in facts for one in part.get("ended", ())]
    columns = named(table, failures, ended)
    vectors = np.empty((len(columns.table), max(dimensions, default=0)), dtype=np.float32)
    done = 0
    for path, part in zip(paths, facts, strict=True):
        if part["embedded"]:
            column = pq.read_table(path, columns=["vector"]).slice(0, part["embedded"])["vector"]
            flat = column.combine_chunks().flatten().to_numpy().reshape(part["embedded"], -1)
            columns.place(flat, done, vectors)
        done += part["embedded"]
    return _assemble(vectors, columns)


def _all_but_vectors(path: Path) -> list[str]:
    return [name for name in pq.read_schema(path).names if name != "vector"]


def _assemble(vectors: NDArray[np.float32], columns: Columns) -> EmbeddedTable:
    table, failures, videos = columns.table, columns.failures, columns.videos
    if not len(table):
        nothing, no_hash = np.empty(0, np.int32), np.empty((0, _HASH_BYTES), np.uint8)
        return EmbeddedTable(
            [], vectors, nothing, nothing, no_hash, no_hash, {}, failures, None, videos
        )
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
        frames=columns.frames,
        videos=videos,
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


def _failed(failures: Sequence[Failure]) -> pa.Table:
    return pa.table(
        {
            "filename": pa.array([failure.filename for failure in failures], pa.string()),
            "outcome": pa.array([failure.outcome.value for failure in failures], pa.string()),
            "reason": pa.array([failure.reason for failure in failures], pa.string()),
        }
    )


def _with_frames(table: pa.Table, frames: Sequence[Frame | None]) -> pa.Table:
    columns = {
        "video": pa.array([one and one.video for one in frames], pa.string()),
        "frame_index": pa.array([None if one is None else one.index for one in frames], pa.int64()),
        "pts": pa.array([one and one.pts for one in frames], pa.int64()),
        "seconds": pa.array([one and one.seconds for one in frames], pa.float64()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _failures(table: pa.Table) -> list[Failure]:
    wanted = ["filename", "outcome", "reason", "video", "frame_index", "pts", "seconds"]
    return [
        Failure(
            row["filename"],
            Outcome(row["outcome"]),
            row["reason"],
            None
            if row.get("video") is None
            else Frame(row["video"], row["frame_index"], row["pts"], row["seconds"]),
        )
        for row in table.select([n for n in wanted if n in table.column_names]).to_pylist()
    ]


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
