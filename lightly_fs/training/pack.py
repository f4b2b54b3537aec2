"""The local pack: every image of a run, read and decoded once, for training and for embedding.

    00012/pixels.u8      (N, S, S, 3) uint8, exactly what the model embeds
    00012/copies.u8      (N, L, L, 3) uint8, larger, to cut random views from
    00012/results.json   what became of each sample of the shard, in inventory order

A shard appears whole (its folder is renamed), so that a pass that was killed goes on after the
last one. Failed samples have no row.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from lightly_fs.decoding.loader import ImageBatch
from lightly_fs.errors import ConfigError
from lightly_fs.types import Failure, ImageRecord, Outcome, Sample

_PIXELS, _COPIES, _RESULTS = "pixels.u8", "copies.u8", "results.json"
_DRAFT = ".part"
_RECORD_BYTES = 1024
"""More than a sample's line in `results.json` takes."""

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
                hint="give a directory on a larger local disk as cache_dir=",
            )

    def write(
        self, number: int, batches: Iterator[ImageBatch], *, progress: Callable[[int], None]
    ) -> list[Failure]:
        """Commit a shard from its decoded batches; return the samples that have no row.

        Args:
            progress: Told how many more samples have ended, batch by batch.
        """
        draft = self.directory / f"{number:05d}{_DRAFT}"
        draft.mkdir(parents=True)
        results: list[ImageRecord | Failure] = []
        with (draft / _PIXELS).open("wb") as pixels, (draft / _COPIES).open("wb") as copies:
            for batch in batches:
                good = [i for i, one in enumerate(batch.results) if isinstance(one, ImageRecord)]
                pixels.write(batch.pixels[good].numpy().data)
                if batch.copies is None:
                    raise ValueError("the batches were decoded without copies")
                copies.write(batch.copies[good].numpy().data)
                results += batch.results
                progress(len(batch.results))
            _flush(pixels)
            _flush(copies)
        with (draft / _RESULTS).open("wb") as file:
            file.write(json.dumps([_encode(result) for result in results]).encode())
            _flush(file)
        draft.rename(self.directory / f"{number:05d}")
        return [result for result in results if isinstance(result, Failure)]

    def failures(self, number: int) -> list[Failure]:
        """Return the samples of a shard that have no row."""
        return [result for result in self._results(number) if isinstance(result, Failure)]

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


def _encode(result: ImageRecord | Failure) -> list[Any]:
    if isinstance(result, Failure):
        return [result.filename, result.outcome.value, result.reason]
    hashes = (result.content_hash.hex(), result.pixel_hash.hex())
    return [result.filename, result.width, result.height, *hashes, dict(result.properties)]


def _decode(row: list[Any]) -> ImageRecord | Failure:
    if len(row) == 3:
        return Failure(row[0], Outcome(row[1]), row[2])
    content, pixels = bytes.fromhex(row[3]), bytes.fromhex(row[4])
    return ImageRecord(row[0], row[1], row[2], content, pixels, row[5])
