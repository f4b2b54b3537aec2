"""The stage from samples to vectors: decoding of the next batch goes on while one is embedded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.reader import Reader
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.loader import ImageBatch, image_batches
from lightly_fs.embedding.embedder import Embedder
from lightly_fs.types import EmbeddedSamples, Failure, ImageRecord, Outcome, Sample

_IN_FLIGHT = 2
"""Batches between decoding and the results: one is embedded while the next is decoded."""

Row = NDArray[np.float32]


class Batch(Protocol):
    """Decoded samples: images, or frames of videos."""

    @property
    def pixels(self) -> Tensor:
        """(B, S, S, 3) uint8."""
        ...

    @property
    def results(self) -> Sequence[ImageRecord | Failure]:
        """What became of each sample, at most B."""
        ...


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def embed_samples(
    samples: Sequence[Sample],
    reader: Reader,
    embedder: Embedder,
    config: RunConfig,
    *,
    progress: Callable[[int], None],
) -> EmbeddedSamples:
    """Return the vectors and records of `samples`, and a `Failure` for each of the others.

    Args:
        samples: One shard, in inventory order, which the result keeps.
        reader: Gives their bytes.
        embedder: Gives their vectors; one that is not finite is a failure, as is a zero vector
            that should be scaled to unit length.
        config: `batch_size`, `num_threads`, `properties`, `normalize_embeddings` and limits.
        progress: Told how many more samples have ended, batch by batch.
    """
    batches = image_batches(samples, reader, decode_settings(config, embedder.info.input_size))
    return embed_batches(batches, embedder, config, progress=progress)


def embed_batches(
    batches: Iterator[ImageBatch],
    embedder: Embedder,
    config: RunConfig,
    *,
    progress: Callable[[int], None],
) -> EmbeddedSamples:
    """Return what `embed_samples` does, of images that are decoded already."""
    ended = []
    for batch, one in embedded_batches(batches, embedder, config):
        ended.append(one)
        progress(len(batch.results))
    return joined(ended, embedder.info.dimensions)


def embedded_batches(
    batches: Iterator[AnyBatch], embedder: Embedder, config: RunConfig
) -> Iterator[tuple[AnyBatch, EmbeddedSamples]]:
    """Yield every batch with what its samples became, in order; the next one is being decoded."""
    for batch, vectors in _embedded(batches, embedder):
        rows: list[Row] = []
        records: list[ImageRecord] = []
        failures: list[Failure] = []
        for result, vector in zip(batch.results, vectors, strict=False):
            ended = _finish(result, vector, embedder, normalize=config.normalize_embeddings)
            if isinstance(ended, Failure):
                failures.append(ended)
            else:
                records.append(ended[0])
                rows.append(ended[1])
        stacked = np.array(rows, np.float32).reshape(len(rows), embedder.info.dimensions)
        yield batch, EmbeddedSamples(vectors=stacked, records=records, failures=failures)


def joined(ended: Sequence[EmbeddedSamples], dimensions: int) -> EmbeddedSamples:
    """Return several as one, in their order; the vectors have D `dimensions` also if none does."""
    return EmbeddedSamples(
        vectors=np.concatenate(
            [np.empty((0, dimensions), np.float32), *(e.vectors for e in ended)]
        ),
        records=[record for one in ended for record in one.records],
        failures=[failure for one in ended for failure in one.failures],
    )


def decode_settings(config: RunConfig, size: int, copy_size: int = 0) -> DecodeSettings:
    """Return how a run decodes its images for a model with inputs of `size` pixels."""
    return DecodeSettings(
        size=size,
        properties=config.properties,
        max_pixels=config.max_image_pixels,
        threads=config.num_threads,
        batch_size=config.batch_size,
        copy_size=copy_size,
    )


def _embedded(batches: Iterator[AnyBatch], embedder: Embedder) -> Iterator[tuple[AnyBatch, Row]]:
    """Yield every batch with its vectors, embedding in a thread while the next one is decoded."""
    pending: deque[tuple[AnyBatch, Future[Row]]] = deque()
    decoding = cast(Generator[AnyBatch, None, None], batches)
    with closing(decoding), ThreadPoolExecutor(1, thread_name_prefix="embed") as thread:
        for batch in batches:
            names = [result.filename for result in batch.results]
            pending.append((batch, thread.submit(embedder.embed, batch.pixels, names)))
            if len(pending) == _IN_FLIGHT:
                done, vectors = pending.popleft()
                yield done, vectors.result()
        for done, vectors in pending:
            yield done, vectors.result()


def _finish(
    result: ImageRecord | Failure, vector: Row, embedder: Embedder, *, normalize: bool
) -> tuple[ImageRecord, Row] | Failure:
    if isinstance(result, Failure):
        return result
    if not np.isfinite(vector).all():
        return Failure(result.filename, Outcome.FAILED, embedder.no_vector, result.frame)
    if not normalize:
        return result, vector
    # In float64, because the squares of large float32 values overflow.
    length = np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        reason = "its embedding is a zero vector, which has no direction"
        return Failure(result.filename, Outcome.FAILED, reason, result.frame)
    return result, (vector / length).astype(np.float32)
