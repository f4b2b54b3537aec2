"""What a detector found in some samples, as a file that carries its own hash in its name."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightly_fs.pretagging.detections import Detections
from lightly_fs.types import Failure, Outcome

FOLDER = "pretags"
"""Of a run directory; the parts are gone when the run is complete."""

Results = Sequence[tuple[str, Detections | Failure]]
"""Filenames in inventory order, and what became of each."""

_NAME = re.compile(r"pretag-(\d{5,})-([0-9a-f]{16})-([0-9a-f]{16})\.parquet")
_SCHEMA = pa.schema(
    [
        pa.field("filename", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("categories", pa.list_(pa.int32())),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("boxes", pa.list_(pa.float64())),
    ]
)


def part_of(name: str, digest: str) -> int | None:
    """Return the number that a part's name tells; None for one of another detector."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found and found[2] == digest[:16] else None


def write_part(directory: Path, number: int, digest: str, results: Results) -> Path:
    """Write what became of samples; the same results give the same bytes and the same name.

    Args:
        directory: Local, and there.
        number: Which samples these are.
        digest: Of the detector, see `Detector.digest`.
        results: What became of them.
    """
    draft = directory / f"pretag-{number:05d}.parquet"
    table = pa.Table.from_pylist([_row(name, one) for name, one in results], _SCHEMA)
    pq.write_table(table, draft, compression="zstd", use_dictionary=False)
    with draft.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return draft.rename(directory / f"{draft.stem}-{digest[:16]}-{content[:16]}.parquet")


def read_part(name: str, data: bytes | None) -> Results | None:
    """Return what a part holds; None for a torn one."""
    found = _NAME.fullmatch(name)
    if not found or not data or not hashlib.sha256(data).hexdigest().startswith(found[3]):
        return None
    return list(_rows(pq.read_table(io.BytesIO(data))))


def _row(filename: str, result: Detections | Failure) -> dict[str, object]:
    if isinstance(result, Failure):
        return {"filename": filename, "outcome": result.outcome.value, "reason": result.reason}
    return {
        "filename": filename,
        "width": result.width,
        "height": result.height,
        "categories": result.categories,
        "scores": result.scores,
        "boxes": result.boxes.reshape(-1),
    }


def _rows(table: pa.Table) -> Iterator[tuple[str, Detections | Failure]]:
    for row in table.to_pylist():
        name = row["filename"]
        if row["outcome"] is not None:
            yield name, Failure(name, Outcome(row["outcome"]), row["reason"])
            continue
        yield (
            name,
            Detections(
                row["width"],
                row["height"],
                np.array(row["categories"], np.int32),
                np.array(row["scores"], np.float64),
                np.array(row["boxes"], np.float64).reshape(-1, 4),
            ),
        )
