"""`data/sequence_information.json`: which frames or images make up each selected sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from lightly_fs.artifacts.tables import write_csv

INFORMATION = "data/sequence_information.json"
LEFT_OUT = "data/left_out_of_sequences.csv"

Timestamp = tuple[int, float]
"""Of a frame: presentation timestamp in units of its stream's time base, and in seconds."""


@dataclass(frozen=True, slots=True)
class SelectedSequence:
    """Consecutive samples that were selected together.

    Attributes:
        filenames: In their order.
        video: The video that they are frames of; None for images of a folder.
        indices: Of frames: which ones, from 0.
    """

    filenames: Sequence[str]
    video: str | None = None
    indices: Sequence[int] = ()


def write_sequence_information(
    path: Path,
    sequences: Iterable[SelectedSequence],
    timestamps: Mapping[str, Timestamp] = MappingProxyType({}),
) -> None:
    """Write a list with one object per sequence, in the order given.

    Args:
        path: The file to write.
        sequences: What was selected.
        timestamps: By filename, of frames whose video was read. A sequence in which they are not
            all known is written without timestamps.
    """
    lines = [msgspec.json.encode(_entry(one, timestamps)) for one in sequences]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n" if lines else b"[]\n")


def write_left_out(path: Path, filenames: Sequence[str], reason: str) -> None:
    """Write the samples that are in no sequence, and why."""
    write_csv(path, {"filename": filenames, "reason": [reason] * len(filenames)})


def _entry(given: SelectedSequence, timestamps: Mapping[str, Timestamp]) -> dict[str, Any]:
    names = list(given.filenames)
    if given.video is None:
        return {"filenames": names}
    entry: dict[str, Any] = {"video_name": given.video, "frame_names": names}
    if all(name in timestamps for name in names):
        entry["frame_timestamps_pts"] = [timestamps[name][0] for name in names]
        entry["frame_timestamps_sec"] = [timestamps[name][1] for name in names]
    return {**entry, "frame_indices": list(given.indices)}
