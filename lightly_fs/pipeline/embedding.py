"""The embed stage: every shard that has no committed part yet is read, decoded and embedded."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.decoding.loader import ImageBatch, image_batches
from lightly_fs.embedding.embed import decode_settings, embed_batches
from lightly_fs.errors import NoUsableSampleError, TooManyFailuresError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.types import Failure, Outcome, Sample, Stage

if TYPE_CHECKING:
    from lightly_fs.embedding.embedder import Embedder

logger = logging.getLogger(__name__)

Decoded = Callable[[int, Sequence[Sample]], Iterator[ImageBatch] | None]
"""Gives the batches of a shard that is decoded already, or None."""


def embed_missing(
    this: RunContext,
    embedder: Callable[[], Embedder],
    decoded: Decoded | None = None,
) -> int:
    """Embed and commit the shards that are missing; return how many samples got a vector.

    Args:
        embedder: Gives the model; called only when a shard is missing.
        decoded: Gives the batches of a shard that needs not be read, or None.

    Raises:
        TooManyFailuresError: As soon as more samples failed than `max_failures` allows.
    """
    size = this.config.shard_size
    committed = this.run_dir.committed()
    missing = [n for n in range(this.inventory.n_shards(size)) if n not in committed]
    total = len(this.inventory)
    open_samples = sum(len(this.inventory.shard(number, size)) for number in missing)
    tally = _Tally(this, total - open_samples)
    if committed:
        logger.info("%d shards are there already, %d to embed", len(committed), len(missing))
    model = embedder() if missing else None
    since = time.monotonic()
    this.progress(Stage.EMBED, tally.done, total)
    embedded = 0
    if model is not None:
        this.run_dir.set_model(model.info)
        with ThreadPoolExecutor(1, "write-part") as writer:
            batches = _batches(this, model.info.input_size, decoded or _read)
            shards = ((number, batches(number)) for number in missing)
            embedded = _embed_shards(this, model, shards, tally, writer)
    this.took(Stage.EMBED, since, open_samples)
    return embedded


def _batches(
    this: RunContext, size: int, decoded: Decoded
) -> Callable[[int], Iterator[ImageBatch]]:
    """Return what gives the images of a shard, from the datasource unless they are decoded."""

    def batches(number: int) -> Iterator[ImageBatch]:
        samples = this.inventory.shard(number, this.config.shard_size)
        ready = decoded(number, samples)
        settings = decode_settings(this.config, size)
        return image_batches(samples, this.reader, settings) if ready is None else ready

    return batches


def _read(_number: int, _samples: Sequence[Sample]) -> None:
    """Tell that no shard is decoded."""


def _embed_shards(
    this: RunContext,
    model: Embedder,
    shards: Iterable[tuple[int, Iterator[ImageBatch]]],
    tally: _Tally,
    writer: ThreadPoolExecutor,
) -> int:
    """Write each part while the next shard is embedded; at most one is on its way."""
    pending: Future[None] | None = None
    n_embedded = 0
    for number, batches in shards:
        embedded = embed_batches(batches, model, this.config, progress=tally.advance)
        tally.add(embedded.failures)
        n_embedded += len(embedded.records)
        if pending is not None:
            pending.result()
        this.lease.check()
        pending = writer.submit(this.run_dir.write_part, number, embedded)
    if pending is not None:
        pending.result()
    return n_embedded


class _Tally:
    """Counts samples for the progress line, and failures against `max_failures`."""

    def __init__(self, this: RunContext, done: int) -> None:
        self._this = this
        self.done = done
        self._outcomes: Counter[Outcome] = Counter()

    def advance(self, n_samples: int) -> None:
        self.done += n_samples
        self._this.progress(Stage.EMBED, self.done, len(self._this.inventory), self._note())

    def add(self, failures: Iterable[Failure]) -> None:
        self._outcomes.update(failure.outcome for failure in failures)
        check_failures(sum(self._outcomes.values()), self._this.config.max_failures)
        self._this.progress(Stage.EMBED, self.done, len(self._this.inventory), self._note())

    def _note(self) -> str:
        return ", ".join(f"{n:,} {outcome.value}" for outcome, n in sorted(self._outcomes.items()))


def require_samples(table: EmbeddedTable, n_listed: int) -> None:
    """Raise `NoUsableSampleError` when nothing was embedded."""
    if not len(table):
        raise nothing_usable(
            table.failures, f"not one of the {n_listed:,} samples could be embedded"
        )


def nothing_usable(failures: Sequence[Failure], message: str) -> NoUsableSampleError:
    """Return the error that gives the reasons, and an example."""
    reasons = sorted({failure.reason for failure in failures})
    return NoUsableSampleError(
        f"{message}: {'; '.join(reasons[:3])}",
        hint=f"for example `{failures[0].filename}`" if failures else None,
    )


def check_failures(n_failures: int, allowed: int) -> None:
    """Raise `TooManyFailuresError` when more failed than `allowed` (-1: any number)."""
    if 0 <= allowed < n_failures:
        raise TooManyFailuresError(
            f"{n_failures:,} samples are corrupt, gone, failed or unreadable; "
            f"max_failures={allowed} allows no more than that",
            hint="raise max_failures and run the same command again: it resumes",
        )
