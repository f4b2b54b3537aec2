"""Pieces of images: decoded at full size, cut, and squashed to the model input in batches.

The unit of work is an image with all its crops, or as many as memory allows. Batches are filled
from these in order, so that no thread ever waits with an image in its hands.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lightly_fs.config.run import RunConfig
from lightly_fs.cpus import usable_cpus
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.decoding.budget import Budget
from lightly_fs.decoding.corrupt import CorruptImage
from lightly_fs.decoding.export import exporter, suffix_of
from lightly_fs.decoding.images import PROPERTY_SIDE, DecodeSettings
from lightly_fs.decoding.jpeg import SIGNATURE, decode_jpeg
from lightly_fs.decoding.loader import ImageBatch
from lightly_fs.decoding.pillow import decode_with_pillow
from lightly_fs.decoding.raster import Pixels, Raster, resized
from lightly_fs.types import CHANGED, Failure, ImageRecord, Outcome, Sample

_BATCHES_AHEAD = 2
_BYTES_AHEAD = 256 << 20
_CHUNK_BYTES = 128 << 20
"""Crops that are cut from one image at once; one with more is decoded several times."""
_BEING_CUT = Budget(1 << 28)
"""Pixels of images that are being cut in this process: 3 bytes each."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageCrops:
    """What is to be cut from one image.

    Attributes:
        sample: The image.
        width: Of the upright image, in pixels, when the boxes were made.
        height: Likewise.
        names: K names that the records of the crops get.
        boxes: (K, 4) int64 left, top, right, bottom in pixels of the upright image, right and
            bottom excluded; inside it, and never empty.
    """

    sample: Sample
    width: int
    height: int
    names: Sequence[str]
    boxes: NDArray[np.int64]


def cut(
    image: ImageCrops,
    data: Buffer,
    each: Callable[[int, Pixels], None],
    *,
    max_pixels: int,
    numbers: range | None = None,
    side: int = 0,
) -> Failure | None:
    """Decode an image and hand out its crops, one by one.

    Args:
        image: What to cut.
        data: The image's bytes.
        each: Gets the number of a crop and its (h, w, 3) pixels, a view that it must not keep.
        max_pixels: As for the run.
        numbers: Which crops; None for all.
        side: A JPEG may be decoded at a fraction of its size at which every crop of the image
            still has so many pixels on both sides; 0: never.

    Returns:
        Why the image cannot be cut, or None. It was decoded before: either its bytes are others
        now, or there is not enough memory.
    """
    data = bytes(data)
    by = _reduction(image, side) if data.startswith(SIGNATURE) else 1
    with _BEING_CUT.hold(image.width * image.height // by**2):
        raster = _decoded(image, data, max_pixels, by)
        if isinstance(raster, Failure):
            return raster
        height, width = raster.pixels.shape[:2]
        for number in range(len(image.boxes)) if numbers is None else numbers:
            left, top, right, bottom = image.boxes[number].tolist()
            rows = slice(*_scaled(top, bottom, height, image.height))
            columns = slice(*_scaled(left, right, width, image.width))
            each(number, raster.pixels[rows, columns])
    return None


def _reduction(image: ImageCrops, side: int) -> int:
    """Return by how much a JPEG may shrink: 1, 2, 4 or 8.

    All crops of an image decide, whichever are cut now: memory must not change a vector.
    """
    shortest = int((image.boxes[:, 2:] - image.boxes[:, :2]).min())
    return next((by for by in (8, 4, 2) if side and shortest // by >= side), 1)


def _decoded(image: ImageCrops, data: bytes, max_pixels: int, by: int) -> Raster | Failure:
    name = image.sample.filename
    least = None if by == 1 else min(image.width, image.height) // by
    try:
        decode = decode_jpeg if data.startswith(SIGNATURE) else decode_with_pillow
        raster = decode(data, least, max_pixels)
    except CorruptImage as corrupt:
        return Failure(name, Outcome.CORRUPT, corrupt.reason)
    except MemoryError:
        return Failure(name, Outcome.FAILED, "not enough memory to decode the image")
    if (raster.width, raster.height) != (image.width, image.height):
        reason = (
            f"{CHANGED}: {image.width}x{image.height} pixels were embedded, "
            f"{raster.width}x{raster.height} are there"
        )
        return Failure(name, Outcome.FAILED, reason)
    return raster


def _scaled(start: int, stop: int, length: int, whole: int) -> tuple[int, int]:
    """Return the pixels of a side of `length` that show `start` to `stop` of its `whole`."""
    return start * length // whole, -(-stop * length // whole)


def crop_exporter(config: RunConfig) -> tuple[str, Callable[[Pixels], bytes]]:
    """Return the extension of a crop's file, and what makes its bytes of (h, w, 3) pixels.

    The format is that of copied images, and its limits hold; where those are the originals, crops
    are PNG. A crop keeps its own size.
    """
    form = config.output_image_format
    own = {
        "output_image_format": "png" if form == "original" else form,
        "output_image_size": -1,
    }
    config = config.model_copy(update=own)
    export = exporter(config)

    def exported(pixels: Pixels) -> bytes:
        bitmap = io.BytesIO()  # lossless, and nothing but a copy
        Image.fromarray(np.ascontiguousarray(pixels)).save(bitmap, "BMP")
        return export(bitmap.getvalue())

    return suffix_of(config), exported


def crop_batches(
    images: Sequence[ImageCrops], reader: Reader, settings: DecodeSettings
) -> Generator[ImageBatch, None, None]:
    """Yield all crops in order, in batches; the next ones are cut while one is used.

    The record of a crop has the crop's name and size, the hash of its image's bytes, and that of
    its own pixels as the model gets them. All crops of an image that cannot be read or decoded
    have its `Failure` in their places. Closing the iterator ends its threads.

    Args:
        images: In the order in which the reader is to read them, each with at least one crop.
        reader: Gives the bytes of each image once.
        settings: `size`, `batch_size`, `threads` and `max_pixels`.
    """
    threads = settings.threads if settings.threads > 0 else usable_cpus()
    pool = ThreadPoolExecutor(threads, "crop")
    stream = reader.stream([image.sample for image in images])
    side, length = settings.size, settings.batch_size
    rows = _rows(_started(images, stream, settings, pool), (_BATCHES_AHEAD + 1) * length)
    try:
        while batch := list(islice(rows, length)):
            pixels = torch.zeros((length, side, side, 3), dtype=torch.uint8)
            for place, row in enumerate(batch):
                if row.pixels is not None:
                    pixels[place] = torch.from_numpy(row.pixels)
            samples, results = [row.sample for row in batch], [row.result for row in batch]
            yield ImageBatch(pixels, samples, results)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        close = getattr(stream, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One crop; (S, S, 3) pixels, or None where the image failed."""

    sample: Sample
    result: ImageRecord | Failure
    pixels: Pixels | None


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """Crops of an image that are being cut, `count` of them."""

    sample: Sample
    count: int
    ended: Future[_Ended] | Failure

    def rows(self) -> Iterator[_Row]:
        """Wait for the crops, and yield them."""
        ended = self.ended if isinstance(self.ended, Failure) else self.ended.result()
        if isinstance(ended, Failure):
            yield from [_Row(self.sample, ended, None)] * self.count
        else:
            for record, pixels in zip(*ended, strict=True):
                yield _Row(self.sample, record, pixels)


def _rows(chunks: Iterator[_Chunk], enough: int) -> Iterator[_Row]:
    """Yield crop after crop; keeps `enough` of the next ones started."""
    ahead: deque[_Chunk] = deque()
    current: Iterator[_Row] = iter(())
    waiting = 0
    while True:
        while waiting < enough and (chunk := next(chunks, None)) is not None:
            ahead.append(chunk)
            waiting += chunk.count
        row = next(current, None)
        if row is not None:
            waiting -= 1
            yield row
        elif ahead:
            current = ahead.popleft().rows()
        else:
            return


def _started(
    images: Sequence[ImageCrops],
    stream: Iterator[Buffer | Failure],
    settings: DecodeSettings,
    pool: ThreadPoolExecutor,
) -> Iterator[_Chunk]:
    """Start the crops of image after image, each when it is asked for."""
    held = Budget(_BYTES_AHEAD)
    most = max(1, _CHUNK_BYTES // (3 * settings.size**2))

    def work(image: ImageCrops, data: Buffer, numbers: range) -> _Ended:
        try:
            return _squashed(image, data, numbers, settings)
        finally:
            held.give(len(data))

    for image, data in zip(images, stream, strict=True):
        for start in range(0, len(image.boxes), most):
            numbers = range(start, min(start + most, len(image.boxes)))
            if isinstance(data, Failure):
                yield _Chunk(image.sample, len(numbers), data)
            else:
                held.take(len(data))
                ended = pool.submit(work, image, data, numbers)
                yield _Chunk(image.sample, len(numbers), ended)


_Ended = tuple[list[ImageRecord], Pixels] | Failure


def _squashed(image: ImageCrops, data: Buffer, numbers: range, settings: DecodeSettings) -> _Ended:
    """Return the records of some crops of an image, and their (n, S, S, 3) pixels."""
    size = settings.size
    content_hash = hashlib.sha256(data).digest()
    records: list[ImageRecord] = []
    rows = np.empty((len(numbers), size, size, 3), np.uint8)

    def take(number: int, pixels: Pixels) -> None:
        row = rows[len(records)]
        row[:] = resized(np.ascontiguousarray(pixels), size, size)
        left, top, right, bottom = image.boxes[number].tolist()
        records.append(
            ImageRecord(
                filename=image.names[number],
                width=right - left,
                height=bottom - top,
                content_hash=content_hash,
                pixel_hash=hashlib.sha256(row.data).digest(),
                properties={},
            )
        )

    side = max(size, PROPERTY_SIDE)  # as whole images are decoded
    failure = cut(image, data, take, max_pixels=settings.max_pixels, numbers=numbers, side=side)
    return failure or (records, rows)
