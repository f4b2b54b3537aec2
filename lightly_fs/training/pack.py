"""The local pack: all images and frames of a run, decoded once, for training and for embedding.

    00012/pixels.u8      (N, S, S, 3) uint8, exactly what the model embeds
    00012/copies.u8      (N, L, L, 3) uint8, larger, to cut random views from
    00012/results.json   what became of each sample of the shard, in inventory order
    00012/batches.json   of videos: how many frames each batch had, and which videos ended in it

A shard appears whole (its folder is renamed), so that a pass that was killed goes on after the
last one. Failed samples have no row.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, astuple
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from lightly_fs.decoding.loader import ImageBatch
from lightly_fs.errors import ConfigError
from lightly_fs.types import Failure, Frame, ImageRecord, Outcome, Sample, VideoFacts

if TYPE_CHECKING:
    from lightly_fs.decoding.videos import FrameBatch, Position

_PIXELS, _COPIES, _RESULTS, _BATCHES = "pixels.u8", "copies.u8", "results.json", "batches.json"
_DRAFT = ".part"
_RECORD_BYTES = 1024
"""More than a sample's line in `results.json` takes."""

_LARGER = "give a directory on a larger local disk as cache_dir="

Images = NDArray[np.uint8]


class Pack:
    """Decoded images below one local directory.

    Attributes:
        directory: Where the shards lie.
        size: Side S of the model's input.
        copy_size: Side L of the larger copies.
    """

    def __init__(self, directory: Path, size: int, copy_size: int) -> None:
        self.directory = directory
        self.size, self.copy_size = size, copy_size

    def shards(self) -> list[int]:
        """Return the numbers of the shards that are there, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def require_space(self, n_samples: int) -> None:
        """Make sure that so many more samples fit on the disk.

        Raises:
            ConfigError: They do not, or the directory cannot be written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for draft in self.directory.glob(f"*{_DRAFT}"):
                shutil.rmtree(draft)
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            raise ConfigError(
                f"the images to train on cannot be kept in `{self.directory}`: {error.strerror}",
                hint="give a local directory that can be written as cache_dir=",
            ) from error
        needed = n_samples * (3 * (self.size**2 + self.copy_size**2) + _RECORD_BYTES)
        if needed > free:
            raise ConfigError(
                f"training keeps {n_samples:,} decoded images in `{self.directory}`: that takes "
                f"{needed:,} bytes, and {free:,} are free",
                hint=_LARGER,
            )

    def write(
        self,
        number: int,
        batches: Iterator[ImageBatch] | Iterator[FrameBatch],
        *,
        progress: Callable[[int], None],
    ) -> list[Failure]:
        """Commit a shard from its decoded batches; return the samples that have no row.

        Args:
            progress: Told how many more samples have ended, batch by batch.

        Raises:
            ConfigError: The disk is full.
        """
        draft = self.directory / f"{number:05d}{_DRAFT}"
        try:
            draft.mkdir(parents=True)
            failures = self._write(draft, batches, progress)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if error.errno != errno.ENOSPC:
                raise
            raise ConfigError(
                f"the images to train on do not fit into `{self.directory}`: the disk is full",
                hint=_LARGER,
            ) from error
        draft.rename(self.directory / f"{number:05d}")
        return failures

    def _write(
        self,
        draft: Path,
        batches: Iterator[ImageBatch] | Iterator[FrameBatch],
        progress: Callable[[int], None],
    ) -> list[Failure]:
        results: list[ImageRecord | Failure] = []
        ended: list[Failure] = []
        lines: list[Any] = []
        with (draft / _PIXELS).open("wb") as pixels, (draft / _COPIES).open("wb") as copies:
            for batch in batches:
                good = [i for i, one in enumerate(batch.results) if isinstance(one, ImageRecord)]
                pixels.write(batch.pixels[good].numpy().data)
                if batch.copies is None:
                    raise ValueError("the batches were decoded without copies")
                copies.write(batch.copies[good].numpy().data)
                results += batch.results
                if not isinstance(batch, ImageBatch):
                    lines.append(_line(batch))
                    ended += [one for one in batch.ended if isinstance(one, Failure)]
                progress(len(batch.results))
            _flush(pixels)
            _flush(copies)
        _write_json(draft / _RESULTS, [_encode(result) for result in results])
        if lines:
            _write_json(draft / _BATCHES, lines)
        return [*(result for result in results if isinstance(result, Failure)), *ended]

    def failures(self, number: int) -> list[Failure]:
        """Return the samples of a shard that have no row, and videos that failed."""
        failed = [result for result in self._results(number) if isinstance(result, Failure)]
        ended = [_ended(one) for line in self._lines(number) for one in line["ended"]]
        return failed + [one for one in ended if isinstance(one, Failure)]

    def batches(
        self, number: int, samples: Sequence[Sample], batch_size: int
    ) -> Iterator[ImageBatch]:
        """Yield a shard as `image_batches` did when it was written.

        Args:
            samples: The shard's, in inventory order.
        """
        results = self._results(number)
        rows = self._rows(self.directory / f"{number:05d}" / _PIXELS, self.size)
        done = 0
        for start in range(0, len(results), batch_size):
            part = results[start : start + batch_size]
            pixels = torch.zeros((batch_size, self.size, self.size, 3), dtype=torch.uint8)
            good = [i for i, one in enumerate(part) if isinstance(one, ImageRecord)]
            pixels[good] = torch.from_numpy(np.array(rows[done : done + len(good)]))
            done += len(good)
            yield ImageBatch(pixels, samples[start : start + batch_size], part)

    def frames(
        self, number: int, videos: Collection[str], start: Position | None, batch_size: int
    ) -> Iterator[FrameBatch]:
        """Yield frames of a shard in the batches in which they were decoded.

        Args:
            number: Of a shard of videos.
            videos: Those that are wanted.
            start: Which frame to begin with; None: with the first of them.
            batch_size: B, as when they were decoded.
        """
        from lightly_fs.decoding.videos import FrameBatch, Position

        results = self._results(number)
        rows = self._rows(self.directory / f"{number:05d}" / _PIXELS, self.size)
        at = row = 0
        for line in self._lines(number):
            pixels = torch.zeros((batch_size, self.size, self.size, 3), dtype=torch.uint8)
            wanted: list[ImageRecord | Failure] = []
            for result in results[at : at + line["frames"]]:
                if _is_wanted(result, videos, start):
                    if isinstance(result, ImageRecord):
                        pixels[len(wanted)] = torch.from_numpy(np.array(rows[row]))
                    wanted.append(result)
                row += isinstance(result, ImageRecord)
            at += line["frames"]
            ended = [one for one in map(_ended, line["ended"]) if one.filename in videos]
            resume = None if line["resume"] is None else Position(**line["resume"])
            if wanted or ended:
                yield FrameBatch(pixels=pixels, results=wanted, ended=ended, resume=resume)

    def copies(self) -> Copies:
        """Return the larger copies of all shards that are there."""
        shards = self.shards()
        return Copies([self.directory / f"{n:05d}" / _COPIES for n in shards], self.copy_size)

    def plain(self) -> Copies:
        """Return what the model embeds, of all shards that are there."""
        shards = self.shards()
        return Copies([self.directory / f"{n:05d}" / _PIXELS for n in shards], self.size)

    def remove(self) -> None:
        """Delete the pack; nothing there is no error."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _results(self, number: int) -> list[ImageRecord | Failure]:
        data = (self.directory / f"{number:05d}" / _RESULTS).read_bytes()
        return [_decode(row) for row in json.loads(data)]

    def _lines(self, number: int) -> list[dict[str, Any]]:
        path = self.directory / f"{number:05d}" / _BATCHES
        lines: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
        return lines

    @staticmethod
    def _rows(path: Path, side: int) -> Images:
        return _mapped(path, side)


class Copies:
    """All images in one size, by row over all shards; maps files when they are used."""

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self._files, self._side = list(files), side
        counts = [path.stat().st_size // (3 * side * side) for path in files]
        self._ends = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> Images:
        """Return (L, L, 3)."""
        shard = int(np.searchsorted(self._ends, row, side="right")) - 1
        image: Images = self._maps[shard][row - int(self._ends[shard])]
        return image

    def __getstate__(self) -> dict[str, Any]:
        """A process that gets this maps the files itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    @cached_property
    def _maps(self) -> list[Images]:
        return [_mapped(path, self._side) for path in self._files]


def _mapped(path: Path, side: int) -> Images:
    count = path.stat().st_size // (3 * side * side)
    if count == 0:
        return np.empty((0, side, side, 3), np.uint8)
    return np.memmap(path, np.uint8, "r", shape=(count, side, side, 3))


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_json(path: Path, values: list[Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(values).encode())
        _flush(file)


def _encode(result: ImageRecord | Failure) -> list[Any]:
    frame = [] if result.frame is None else [astuple(result.frame)]
    if isinstance(result, Failure):
        return [result.filename, result.outcome.value, result.reason, *frame]
    hashes = (result.content_hash.hex(), result.pixel_hash.hex())
    properties = dict(result.properties)
    return [result.filename, result.width, result.height, *hashes, properties, *frame]


def _decode(row: list[Any]) -> ImageRecord | Failure:
    length = 3 if isinstance(row[1], str) else 6
    frame = Frame(*row[length]) if len(row) > length else None
    if length == 3:
        return Failure(row[0], Outcome(row[1]), row[2], frame)
    content, pixels = bytes.fromhex(row[3]), bytes.fromhex(row[4])
    return ImageRecord(row[0], row[1], row[2], content, pixels, row[5], frame)


def _line(batch: FrameBatch) -> dict[str, Any]:
    return {
        "frames": len(batch.results),
        "ended": [_encode(one) if isinstance(one, Failure) else asdict(one) for one in batch.ended],
        "resume": None if batch.resume is None else asdict(batch.resume),
    }


def _ended(line: Any) -> VideoFacts | Failure:  # noqa: ANN401 - JSON
    if isinstance(line, dict):
        return VideoFacts(**line)
    return Failure(line[0], Outcome(line[1]), line[2])


def _is_wanted(
    result: ImageRecord | Failure, videos: Collection[str], start: Position | None
) -> bool:
    frame = result.frame
    if frame is None or frame.video not in videos:
        return False
    return start is None or frame.video != start.video or frame.index >= start.index
