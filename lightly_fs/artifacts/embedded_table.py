"""All samples that a run embedded, by columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from lightly_fs.types import Duplicate, Failure, Frame, ImageRecord, VideoFacts

NO_PTS = int(np.iinfo(np.int64).min)
"""In a column of timestamps: the file has none (the number that FFmpeg has for it)."""


@dataclass(frozen=True, eq=False)
class FrameColumns:
    """Which frame of which video each row of a table is.

    Attributes:
        videos: (N,) int32 place in the table's `videos`; -1 for an image.
        indices: (N,) int64 as `Frame.index`; -1 for an image.
        pts: (N,) int64 as `Frame.pts`; `NO_PTS` where there is none.
        seconds: (N,) float64 as `Frame.seconds`; NaN where there is none.
    """

    videos: NDArray[np.int32]
    indices: NDArray[np.int64]
    pts: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> FrameColumns:
        """Return the columns of some rows, in the order given."""
        return FrameColumns(
            self.videos[rows], self.indices[rows], self.pts[rows], self.seconds[rows]
        )


@dataclass(frozen=True, eq=False)
class EmbeddedTable:
    """All embedded samples of a run, sorted by filename as the inventory is.

    Attributes:
        vectors: (N, D) float32.
        widths: (N,) int32 pixels, after EXIF orientation or rotation; `heights` likewise.
        content_hashes: (N, 32) uint8 SHA-256 of the object's bytes; `pixel_hashes` of the pixels.
        properties: (N,) float64 by name; empty when they are off.
        failures: The samples that were not embedded: images, frames, and videos without frames.
        frames: None when no row is a frame.
        videos: Those that gave frames, sorted by filename.
    """

    filenames: list[str]
    vectors: NDArray[np.float32]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    content_hashes: NDArray[np.uint8]
    pixel_hashes: NDArray[np.uint8]
    properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    frames: FrameColumns | None = None
    videos: Sequence[VideoFacts] = ()

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

    def frame(self, row: int) -> Frame | None:
        """Return which frame a row is; None for an image."""
        columns = self.frames
        if columns is None or columns.videos[row] < 0:
            return None
        pts, seconds = int(columns.pts[row]), float(columns.seconds[row])
        return Frame(
            self.videos[columns.videos[row]].filename,
            int(columns.indices[row]),
            None if pts == NO_PTS else pts,
            None if np.isnan(seconds) else seconds,
        )

    def frame_names(self) -> dict[str, list[str]]:
        """Return by video the names of the frames that were taken, embedded or not."""
        names: dict[str, list[str]] = {
            video.filename: [self.filenames[row] for row in self._of_video(place).tolist()]
            for place, video in enumerate(self.videos)
        }
        for failure in self.failures:
            if failure.frame is not None:
                names[failure.frame.video].append(failure.filename)
        return names

    def count_by_video(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return (V,) how many of some rows (None: of all) are frames of each video."""
        if self.frames is None:
            return np.zeros(len(self.videos), np.int64)
        places = self.frames.videos if rows is None else self.frames.videos[rows]
        return np.bincount(places[places >= 0], minlength=len(self.videos)).astype(np.int64)

    def taken(self) -> dict[str, NDArray[np.int64]]:
        """Return by video the indices of the frames that were taken, ascending."""
        failed: dict[str, list[int]] = {}
        for failure in self.failures:
            if failure.frame is not None:
                failed.setdefault(failure.frame.video, []).append(failure.frame.index)
        indices = np.empty(0, np.int64) if self.frames is None else self.frames.indices
        return {
            video.filename: np.sort(
                np.array(
                    [*indices[self._of_video(place)], *failed.get(video.filename, [])], np.int64
                )
            )
            for place, video in enumerate(self.videos)
        }

    def misfit(self, *, every: bool) -> str | None:
        """Return which video's frames are not all there, or are there twice; None for none.

        Args:
            every: Every frame is to be there; else some of each video are.
        """
        taken = self.taken()
        for video in self.videos:
            ended = taken[video.filename]
            twice = len(np.unique(ended)) < len(ended)
            outside = len(ended) > 0 and not 0 <= ended[0] <= ended[-1] < video.n_frames
            if twice or outside or (every and len(ended) != video.n_frames):
                return f"`{video.filename}` has {video.n_frames} frames, but {len(ended)} ended" + (
                    ", some of them twice" if twice else ""
                )
        return None

    def _of_video(self, place: int) -> NDArray[np.int64]:
        """Return the rows of a video; they are next to one another, or nearly."""
        if self.frames is None:
            return np.empty(0, np.int64)
        order, starts = self._by_video
        return order[starts[place] : starts[place + 1]]

    @cached_property
    def _by_video(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        videos = np.empty(0, np.int32) if self.frames is None else self.frames.videos
        order = np.argsort(videos, kind="stable").astype(np.int64)
        bounds = np.arange(len(self.videos) + 1)
        return order, np.searchsorted(videos[order], bounds).astype(np.int64)


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
            table.frame(row),
        )
