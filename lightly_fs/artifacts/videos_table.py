"""`data/videos.csv`: what each video is, and what became of its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lightly_fs.artifacts.embedded_table import EmbeddedTable
from lightly_fs.artifacts.tables import write_csv
from lightly_fs.types import Failure, Outcome, VideoFacts


@dataclass(frozen=True, slots=True)
class VideoCounts:
    """What became of the frames that were taken of a video.

    Attributes:
        facts: The video.
        embedded: Duplicates among them.
        corrupt: Frames that could not be decoded.
        duplicates: Frames that show what an earlier one shows.
        failed: Frames that were not read or not embedded, or for which memory did not suffice.
    """

    facts: VideoFacts
    embedded: int
    corrupt: int
    duplicates: int
    selected: int
    failed: int = 0

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return self.embedded + self.corrupt + self.failed


def count_videos(
    table: EmbeddedTable, duplicates: NDArray[np.int64], selected: NDArray[np.int64]
) -> list[VideoCounts]:
    """Return the sums of each video that gave frames, sorted by filename.

    Args:
        table: All embedded samples.
        duplicates: (M,) int64 rows of it.
        selected: (K,) int64 rows of it.
    """
    corrupt, failed = Counter[str](), Counter[str]()
    for one in table.failures:
        if one.frame is not None:
            lost = corrupt if one.outcome is Outcome.CORRUPT else failed
            lost[one.frame.video] += 1
    columns = (
        table.count_by_video().tolist(),
        table.count_by_video(duplicates).tolist(),
        table.count_by_video(selected).tolist(),
    )
    return [
        VideoCounts(facts, embedded, corrupt[facts.filename], twice, chosen, failed[facts.filename])
        for facts, embedded, twice, chosen in zip(table.videos, *columns, strict=True)
    ]


def write_videos(path: Path, videos: Sequence[VideoCounts], failed: Sequence[Failure]) -> None:
    """Write one row per video; those that gave no frame have their reason and nothing else."""
    rows = [*map(_row, videos), *map(_failed, failed)]
    rows.sort(key=lambda row: row["filename"])
    columns = {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in _COLUMNS.items()
    }
    write_csv(path, columns)


_COLUMNS = {
    "filename": pa.string(),
    "codec": pa.string(),
    "container": pa.string(),
    "width": pa.int64(),
    "height": pa.int64(),
    "frame_rate": pa.float64(),
    "seconds": pa.float64(),
    "frames": pa.int64(),
    "corrupt": pa.int64(),
    "failed": pa.int64(),
    "embedded": pa.int64(),
    "duplicates": pa.int64(),
    "selected": pa.int64(),
    "problem": pa.string(),
}


def _row(counts: VideoCounts) -> dict[str, Any]:
    facts = counts.facts
    return {
        "filename": facts.filename,
        "codec": facts.codec,
        "container": facts.container,
        "width": facts.width,
        "height": facts.height,
        "frame_rate": facts.frame_rate,
        "seconds": facts.seconds,
        "frames": facts.n_frames,
        "corrupt": counts.corrupt,
        "failed": counts.failed,
        "embedded": counts.embedded,
        "duplicates": counts.duplicates,
        "selected": counts.selected,
        "problem": facts.problem,
    }


def _failed(failure: Failure) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("frames", "corrupt", "failed", "embedded", "duplicates", "selected"), 0
    )
    problem = f"{failure.outcome.value}: {failure.reason}"
    return {"filename": failure.filename, **nothing, "problem": problem}
