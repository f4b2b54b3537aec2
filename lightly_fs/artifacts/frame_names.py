"""From the rows of all parts to rows with their final names, sorted.

A frame's name tells with its zeros how many frames its video has (`v-007-mp4.png`), so it is known
only when the video is decoded to its end. Until then its rows carry video and index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts.embedded_table import NO_PTS, FrameColumns
from lightly_fs.errors import ArtifactError
from lightly_fs.types import Failure, Outcome, VideoFacts, frame_name

_FRAME_COLUMNS = ["video", "frame_index", "pts", "seconds"]


@dataclass(frozen=True, eq=False)
class Columns:
    """What a run's table is made of, but for the vectors.

    Attributes:
        table: `filename` and the other columns of the embedded samples that are left.
        failures: What is left of them, frames by their names.
        frames: None when no row is a frame.
        videos: Those that gave frames, sorted by filename.
        rows: (P,) int64 the row that each row of the parts became, -1 for none; None when all
            are as they were.
    """

    table: pa.Table
    failures: Sequence[Failure]
    frames: FrameColumns | None = None
    videos: Sequence[VideoFacts] = ()
    rows: NDArray[np.int64] | None = None

    def place(self, found: NDArray[np.float32], start: int, vectors: NDArray[np.float32]) -> None:
        """Put the vectors of the parts' rows from `start` on where they belong."""
        if self.rows is None:
            vectors[start : start + len(found)] = found
            return
        rows = self.rows[start : start + len(found)]
        vectors[rows[rows >= 0]] = found[rows >= 0]


def named(table: pa.Table, failures: Sequence[Failure], ended: Sequence[VideoFacts]) -> Columns:
    """Name the frames of all parts, leave out those of videos that failed, and sort.

    Args:
        table: The embedded rows of all parts, without vectors.
        failures: Of all parts.
        ended: Videos that were decoded to their end.

    Raises:
        ArtifactError: There are frames of a video that neither ended nor failed.
    """
    if "video" not in table.column_names and not ended:
        return Columns(table, failures)  # images alone, which are sorted already
    known = {video.filename: video for video in ended}
    # A process that went on in the middle of a video has not seen the corrupt frames before that.
    corrupt = Counter(
        one.frame.video for one in failures if one.frame and one.outcome is Outcome.CORRUPT
    )
    videos = [replace(known[name], n_corrupt=corrupt[name]) for name in sorted(known.keys())]
    whole = {one.filename for one in failures if one.frame is None}  # images and videos
    kept_failures = sorted(_named_failures(failures, known, whole), key=lambda one: one.filename)
    if "video" not in table.column_names:
        return Columns(table, kept_failures, None, videos)
    names, keep = _names(table, known, whole)
    table = table.set_column(0, "filename", names).filter(keep)
    order = pc.sort_indices(table["filename"])
    rows = np.full(len(keep), -1, np.int64)
    rows[np.flatnonzero(keep.to_numpy(zero_copy_only=False))[order.to_numpy()]] = np.arange(
        len(order)
    )
    table = table.take(order)
    frames = _columns(table, videos)
    return Columns(table.drop_columns(_FRAME_COLUMNS), kept_failures, frames, videos, rows)


def _named_failures(
    failures: Sequence[Failure], known: dict[str, VideoFacts], whole: set[str]
) -> list[Failure]:
    found = []
    for one in failures:
        if one.frame is None:
            found.append(one)
        elif one.frame.video not in whole:
            video = _ended(known, one.frame.video)
            name = frame_name(video.filename, one.frame.index, video.n_frames)
            found.append(replace(one, filename=name))
    return found


def _names(
    table: pa.Table, known: dict[str, VideoFacts], whole: set[str]
) -> tuple[pa.Array, pa.Array]:
    """Return the final name of each row, and whether it is kept."""
    provisional = table["filename"].to_pylist()
    of = zip(provisional, table["video"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    names: list[str] = []
    keep = np.ones(len(provisional), np.bool_)
    for row, (name, video, index) in enumerate(of):
        if video is None:
            names.append(name)
        elif video in whole:
            names.append("")
            keep[row] = False
        else:
            names.append(frame_name(video, index, _ended(known, video).n_frames))
    return pa.array(names, pa.string()), pa.array(keep)


def _ended(known: dict[str, VideoFacts], video: str) -> VideoFacts:
    if video not in known:
        raise ArtifactError(
            f"there are frames of `{video}`, but not its end", hint="choose another `run_directory`"
        )
    return known[video]


def _columns(table: pa.Table, videos: Sequence[VideoFacts]) -> FrameColumns:
    names = pa.array([video.filename for video in videos], pa.string())
    places = pc.fill_null(pc.index_in(table["video"], value_set=names), -1)
    return FrameColumns(
        # A row without a video may be found under null: it is an image.
        videos=pc.if_else(pc.is_null(table["video"]), -1, places).to_numpy().astype(np.int32),
        indices=pc.fill_null(table["frame_index"], -1).to_numpy().astype(np.int64),
        pts=pc.fill_null(table["pts"], NO_PTS).to_numpy().astype(np.int64),
        seconds=table["seconds"].to_numpy().astype(np.float64),
    )
