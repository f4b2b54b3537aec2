"""Samples to batches: a torch DataLoader whose dataset fetches whole batches through threads.

Decoders release the interpreter lock, so threads that write into one preallocated tensor beat
worker processes, which have to send it (`docs/concepts/decoding.md` has the measurement).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from lightly_fs.cpus import usable_cpus
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.decoding.budget import Budget
from lightly_fs.decoding.images import DecodeSettings, decode_image
from lightly_fs.types import Failure, ImageRecord, Outcome, Sample

_BATCHES_AHEAD = 2
_BYTES_AHEAD = 256 << 20
_LARGE_FILE = 64 << 20
_BYTES_PER_PIXEL = 4


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """A batch of fixed shape.

    Attributes:
        pixels: (B, S, S, 3) uint8. The row of a failed sample, and every row after the last
            sample, is zeros.
        samples: At most B samples, in inventory order.
        results: What became of each of `samples`.
        copies: (B, L, L, 3) uint8, the larger copies where the settings ask for them.
    """

    pixels: Tensor
    samples: Sequence[Sample]
    results: Sequence[ImageRecord | Failure]
    copies: Tensor | None = None


def image_batches(
    samples: Sequence[Sample], reader: Reader, settings: DecodeSettings
) -> Iterator[ImageBatch]:
    """Yield all samples in order, in batches; the next ones are decoded while one is used.

    A sample that cannot be read or decoded is a `Failure` in its place. A row depends neither on
    its neighbours nor on the number of threads. Closing the iterator ends its threads.
    """
    batches = _Batches(samples, reader, settings)
    order = BatchSampler(SequentialSampler(samples), settings.batch_size, drop_last=False)
    unused = torch.Generator()  # a DataLoader draws a seed; the global one is the caller's
    try:
        yield from DataLoader(batches, batch_sampler=order, collate_fn=_as_it_is, generator=unused)
    finally:
        batches.close()


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - typed by torch as a list of items
    return batch


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    pixels: Tensor
    copies: Tensor | None
    results: list[Future[ImageRecord | Failure] | Failure]

    def rows(self, row: int) -> tuple[Tensor, Tensor | None]:
        return self.pixels[row], None if self.copies is None else self.copies[row]


class _Batches(Dataset[ImageBatch]):
    """Fetches batches in their order, and starts the following ones."""

    def __init__(self, samples: Sequence[Sample], reader: Reader, settings: DecodeSettings) -> None:
        threads = settings.threads if settings.threads > 0 else usable_cpus()
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._samples = samples
        self._settings = settings
        self._limit = max(_LARGE_FILE, _BYTES_PER_PIXEL * settings.max_pixels)
        self._stream = reader.stream([sample for sample in samples if sample.size <= self._limit])
        self._bytes = Budget(_BYTES_AHEAD)
        self._ahead: deque[_Pending] = deque()
        self._started = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, indices: list[int]) -> ImageBatch:
        while self._started < len(self._samples) and len(self._ahead) <= _BATCHES_AHEAD:
            self._ahead.append(self._start())
        pending = self._ahead.popleft()
        results = [r if isinstance(r, Failure) else r.result() for r in pending.results]
        samples = self._samples[indices[0] : indices[-1] + 1]
        return ImageBatch(pending.pixels, samples, results, pending.copies)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()

    def _start(self) -> _Pending:
        """Hand the bytes of the next batch to the threads as they arrive."""
        batch = self._empty()
        stop = min(self._started + self._settings.batch_size, len(self._samples))
        for row, sample in enumerate(self._samples[self._started : stop]):
            data = self._too_large(sample) or next(self._stream)
            if isinstance(data, Failure):
                batch.results.append(data)
                continue
            self._bytes.take(len(data))
            future = self._pool.submit(self._decode, sample, data, batch.rows(row))
            batch.results.append(future)
        self._started = stop
        return batch

    def _empty(self) -> _Pending:
        def images(side: int) -> Tensor:
            return torch.zeros((self._settings.batch_size, side, side, 3), dtype=torch.uint8)

        length = self._settings.copy_size
        return _Pending(images(self._settings.size), images(length) if length else None, [])

    def _too_large(self, sample: Sample) -> Failure | None:
        """Refuse, unread, a file that no memory may hold and no image of allowed pixels needs."""
        if sample.size <= self._limit:
            return None
        reason = f"too large: {sample.size:,} bytes, more than {self._limit:,}"
        return Failure(sample.filename, Outcome.CORRUPT, reason)

    def _decode(
        self, sample: Sample, data: Buffer, rows: tuple[Tensor, Tensor | None]
    ) -> ImageRecord | Failure:
        try:
            image = decode_image(data, self._settings)
        except MemoryError:
            return Failure(sample.filename, Outcome.FAILED, "not enough memory to decode the image")
        finally:
            self._bytes.give(len(data))
        if isinstance(image, str):
            return Failure(sample.filename, Outcome.CORRUPT, image)
        row, copy = rows
        row.copy_(torch.from_numpy(image.pixels))
        if copy is not None and image.copy is not None:
            copy.copy_(torch.from_numpy(image.copy))
        return ImageRecord(
            filename=sample.filename,
            width=image.width,
            height=image.height,
            content_hash=image.content_hash,
            pixel_hash=image.pixel_hash,
            properties=image.properties,
        )
