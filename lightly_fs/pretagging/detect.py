"""Samples to detections: images are read and decoded while the detector looks at earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lightly_fs.cpus import usable_cpus
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.decoding.budget import Budget
from lightly_fs.decoding.corrupt import CorruptImage
from lightly_fs.decoding.jpeg import SIGNATURE, decode_jpeg
from lightly_fs.decoding.pillow import decode_with_pillow
from lightly_fs.decoding.raster import resized
from lightly_fs.pretagging.detections import Detections
from lightly_fs.pretagging.detector import Detector
from lightly_fs.pretagging.scaling import InputSize, Size
from lightly_fs.types import Failure, Outcome, Sample

_BATCHES_AHEAD = 2
_BYTES_AHEAD = 256 << 20
_SHAPES = 4
"""How many batches of different shapes are filled at the same time, at most."""


@dataclass(frozen=True, slots=True)
class DetectSettings:
    """Attributes: decoding `threads` (below 1: one per usable core); see `RunConfig`."""

    batch_size: int
    threads: int
    max_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class ScaledImage:
    """An image as the detector wants it: (h, w, 3) uint8 RGB; height and width of the whole one."""

    pixels: Tensor
    whole: Size


def detect_samples(
    samples: Sequence[Sample],
    reader: Reader,
    detector: Detector,
    settings: DetectSettings,
    *,
    progress: Callable[[int], None],
) -> list[Detections | Failure]:
    """Return what is in each image, in the order of the samples; or why one could not be seen.

    Only images that have the same size after padding share a batch, so that what is found in an
    image depends on that image alone, not on its neighbours.

    Args:
        samples: In inventory order, in which they are read, each once.
        reader: Gives their bytes.
        detector: Looks at them.
        settings: How many at a time.
        progress: Told how many more samples have ended.

    Raises:
        ModelError: A batch does not fit into memory.
    """
    results: list[Detections | Failure | None] = [None] * len(samples)
    waiting: dict[Size, list[tuple[int, ScaledImage]]] = {}

    def look(shape: Size) -> None:
        batch = waiting.pop(shape)
        images = [image for _, image in batch]
        found = detector.detect([one.pixels for one in images], [one.whole for one in images])
        for (row, _), detections in zip(batch, found, strict=True):
            results[row] = detections
        progress(len(batch))

    images = scaled_images(samples, reader, detector.size, settings)
    with closing(cast(Generator[ScaledImage | Failure, None, None], images)):
        for row, image in enumerate(images):
            if isinstance(image, Failure):
                results[row] = image
                progress(1)
                continue
            shape = detector.size.padded((image.pixels.shape[0], image.pixels.shape[1]))
            waiting.setdefault(shape, []).append((row, image))
            if len(waiting[shape]) == settings.batch_size:
                look(shape)
            elif len(waiting) > _SHAPES:
                look(max(waiting, key=lambda one: len(waiting[one])))
    for shape in list(waiting):
        look(shape)
    return [cast(Detections | Failure, one) for one in results]


def scaled_images(
    samples: Sequence[Sample], reader: Reader, size: InputSize, settings: DetectSettings
) -> Iterator[ScaledImage | Failure]:
    """Yield every sample's image in order, at the size that a detector wants; close it early.

    What cannot be read or decoded is a `Failure` in its place.
    """
    threads = settings.threads if settings.threads > 0 else usable_cpus()
    held = Budget(_BYTES_AHEAD)
    ahead: deque[Future[ScaledImage | Failure] | Failure] = deque()

    def decode(sample: Sample, data: Buffer) -> ScaledImage | Failure:
        try:
            return _scaled(data, size, settings.max_pixels)
        except CorruptImage as corrupt:
            return Failure(sample.filename, Outcome.CORRUPT, corrupt.reason)
        except MemoryError:
            reason = "not enough memory to decode the image"
            return Failure(sample.filename, Outcome.FAILED, reason)
        finally:
            held.give(len(data))

    stream = cast(Generator[Buffer | Failure, None, None], reader.stream(samples))
    with closing(stream), ThreadPoolExecutor(threads, "decode") as pool:
        try:
            for sample, data in zip(samples, stream, strict=True):
                if isinstance(data, Failure):
                    ahead.append(data)
                else:
                    held.take(len(data))
                    ahead.append(pool.submit(decode, sample, data))
                if len(ahead) > _BATCHES_AHEAD * settings.batch_size:
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _result(one: Future[ScaledImage | Failure] | Failure) -> ScaledImage | Failure:
    return one if isinstance(one, Failure) else one.result()


def _scaled(data: Buffer, size: InputSize, max_pixels: int) -> ScaledImage:
    """Decode, upright, and resize.

    Raises:
        CorruptImage: Not every pixel can be decoded.
    """
    data = bytes(data)
    if not data:
        raise CorruptImage("empty file")
    decode = decode_jpeg if data.startswith(SIGNATURE) else decode_with_pillow
    raster = decode(data, size.least, max_pixels)
    height, width = size.of(raster.height, raster.width)
    pixels = resized(raster.pixels, height, width)
    return ScaledImage(torch.from_numpy(pixels), (raster.height, raster.width))
