"""Shards: the units in which samples are read, embedded and resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.types import VIDEO_EXTENSIONS, Failure, Outcome, Sample, frame_of

PACKED_BYTES = 64 << 20
"""Videos that are smaller share a shard up to so many bytes; a larger one stands alone."""

_VIDEO = "(?i)(" + "|".join(extension.replace(".", r"\.") for extension in VIDEO_EXTENSIONS) + ")$"


@dataclass(frozen=True, slots=True)
class Shard:
    """Some samples of an inventory, all images or all videos.

    Attributes:
        number: From 0, in the order in which shards are worked on.
        samples: In inventory order.
        videos: They are videos.
        refused: Images that have the name of a video's frame, and therefore end unread.
    """

    number: int
    samples: Sequence[Sample]
    videos: bool = False
    refused: Sequence[Failure] = ()

    @property
    def filenames(self) -> list[str]:
        """Every sample that ends with this shard."""
        names = [sample.filename for sample in self.samples]
        return names + [failure.filename for failure in self.refused]


class Shards(Sequence[Shard]):
    """The shards of an inventory: first of its images, then of its videos; made when asked for."""

    def __init__(
        self,
        table: pa.Table,
        shard_size: int,
        samples: Callable[[NDArray[np.int64]], list[Sample]],
        other_videos: frozenset[str] = frozenset(),
    ) -> None:
        """Part an inventory.

        Args:
            table: The inventory's, sorted by filename.
            shard_size: Images per shard.
            samples: Returns the samples of rows.
            other_videos: Videos beside those of the table, whose frames have names, too.
        """
        self._samples = samples
        videos = video_rows(table)
        images = np.delete(np.arange(table.num_rows), videos)
        self._parts = [images[at : at + shard_size] for at in range(0, len(images), shard_size)]
        self._n_images = len(self._parts)
        self._parts += _packed(videos, table["size"].take(videos).to_numpy())
        self._names = {*table["filename"].take(videos).to_pylist(), *other_videos}

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, number: int) -> Shard: ...
    @overload
    def __getitem__(self, number: slice) -> list[Shard]: ...
    def __getitem__(self, number: int | slice) -> Shard | list[Shard]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        samples = self._samples(self._parts[number])
        if self.holds_videos(number):
            return Shard(number, samples, videos=True)
        refused = [self._refusal(one) for one in samples if self._is_frame(one)]
        if refused:
            samples = [one for one in samples if not self._is_frame(one)]
        return Shard(number, samples, refused=refused)

    def holds_videos(self, number: int) -> bool:
        """Tell whether a shard is one of videos."""
        return number >= self._n_images

    def size_of(self, number: int) -> int:
        """Return how many samples a shard has."""
        return len(self._parts[number])

    def _is_frame(self, image: Sample) -> bool:
        found = frame_of(image.filename) if self._names else None
        return found is not None and found[0] in self._names and image.filename.endswith(".png")

    @staticmethod
    def _refusal(image: Sample) -> Failure:
        video = (frame_of(image.filename) or ("",))[0]
        reason = f"it has the name of a frame of `{video}`, which is there, too"
        return Failure(image.filename, Outcome.UNREADABLE, reason)


def video_rows(table: pa.Table) -> NDArray[np.int64]:
    """Return the rows (V,) of an inventory's table that are videos, ascending."""
    found = pc.match_substring_regex(table["filename"], _VIDEO)
    return np.flatnonzero(found.to_numpy()).astype(np.int64)


def _packed(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Part videos into runs of at most `PACKED_BYTES`, or of a single larger one."""
    starts, held = [0], 0
    for place, size in enumerate(sizes.tolist()):
        if place > starts[-1] and held + size > PACKED_BYTES:
            starts.append(place)
            held = 0
        held += size
    ends = [*starts, len(rows)] if len(rows) else []
    return [rows[start:stop] for start, stop in pairwise(ends)]
