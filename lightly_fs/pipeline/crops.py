"""The crops stage: objects or tiles of embedded images are cut, embedded and committed in parts."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations.crops import Crops
from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.artifacts.crop_parts import CropParts
from lightly_fs.datasource.private import private_directory
from lightly_fs.decoding.crops import ImageCrops, crop_batches
from lightly_fs.embedding.embed import decode_settings, embed_batches
from lightly_fs.errors import ArtifactError, ModelError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.types import EmbeddedSamples, Failure, ModelInfo, Stage, Timing

if TYPE_CHECKING:
    from lightly_fs.embedding.embedder import Embedder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CropVectors:
    """The crops of one task that have a vector: K of N images.

    Attributes:
        vectors: (K, D) float32; row `i` belongs to crop `i`.
        crops: K crops; `samples` are positions in `filenames`.
        offsets: (N + 1,) int64; the crops of image `i` are rows `offsets[i]:offsets[i + 1]`.
        failures: Images that could not be read again, and single crops without a vector.
        task: The task, or tiling, whose crops they are.
        filenames: N images.
        sizes: (N, 2) int64 width and height of the images in pixels.
    """

    vectors: NDArray[np.float32]
    crops: Crops
    offsets: NDArray[np.int64]
    failures: Sequence[Failure]
    task: str
    filenames: Sequence[str]
    sizes: NDArray[np.int64]


def embed_crops(
    this: RunContext,
    embedder: Callable[[], Embedder],
    task: str,
    filenames: Sequence[str],
    sizes: NDArray[np.int64],
    crops: Crops,
) -> CropVectors:
    """Embed the crops of images that are embedded; those that earlier processes did are kept.

    Args:
        embedder: Gives the model; called only when crops are missing.
        task: Whose crops they are.
        filenames: N images of the inventory, in its order.
        sizes: (N, 2) their width and height in pixels, after EXIF orientation.
        crops: Pieces of them; `samples` are positions in `filenames`.

    Raises:
        ArtifactError: The model is another one than that of the images.
        ModelError: The vectors of the images come from a file.
    """
    since = time.monotonic()
    model = _model(this, task)
    work = _Work.of(task, filenames, sizes, crops)
    with private_directory("crops") as local:
        parts = CropParts(this.run_dir, work.digest(model), local)
        shards = _shards(np.diff(work.starts), this.config.shard_size)
        missing = [number for number in range(len(shards)) if number not in parts.committed]
        n_open = sum(work.n_crops(shards[number]) for number in missing)
        tally = _Tally(this, task, len(crops.samples) - n_open, len(crops.samples))
        if missing:
            loaded = embedder()
            this.run_dir.set_model(loaded.info)
            images = ((number, work.images(this, shards[number])) for number in missing)
            _embed_shards(this, loaded, images, parts, tally)
        table = parts.read()
    _took(this, since, n_open)
    found = _found(work, table, model.dimensions)
    for failure in found.failures[:3]:
        logger.warning("no crop of `%s`: %s", failure.filename, failure.reason)
    logger.info(
        "%s: %d of %d crops embedded, %d failures",
        *(task, len(found.vectors), len(crops.samples), len(found.failures)),
    )
    return found


def _model(this: RunContext, task: str) -> ModelInfo:
    model = this.run_dir.model()
    if model is None:
        raise ArtifactError(
            f"{this.run_dir.uri} does not say which model made its embeddings",
            hint="run `lightly-fs embed` with the same run_directory first",
        )
    if model.runtime == "csv":
        raise ModelError(
            f"the embeddings of {model.name} are of whole images; nothing embeds the crops of "
            f"`{task}`",
            hint="leave out `embeddings`, so that a model embeds images and crops, or the "
            "selection input with this task",
        )
    return model


@dataclass(frozen=True, eq=False)
class _Work:
    """All crops of a task, by image.

    Attributes:
        positions: (I,) int64 places in `filenames` of the images that have crops.
        starts: (I + 1,) int64; the crops of the i-th of them are rows `starts[i]:starts[i + 1]`.
        names: K unique names of the crops, for the parts.
    """

    task: str
    filenames: Sequence[str]
    sizes: NDArray[np.int64]
    crops: Crops
    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(
        cls, task: str, filenames: Sequence[str], sizes: NDArray[np.int64], crops: Crops
    ) -> _Work:
        positions, first = np.unique(crops.samples, return_index=True)
        starts = np.append(first, len(crops.samples)).astype(np.int64)
        pairs = zip(crops.samples.tolist(), crops.parts.tolist(), strict=True)
        names = [f"{filenames[sample]}#{part}" for sample, part in pairs]
        return cls(task, filenames, sizes, crops, positions, starts, names)

    def digest(self, model: ModelInfo) -> str:
        """Hash all that decides about the vectors but for the images, which are frozen."""
        facts = {"format": 1, "task": self.task, "model": asdict(model), "names": self.names}
        hasher = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        hasher.update(self.crops.boxes.astype("<i8").tobytes())
        hasher.update(self.sizes[self.positions].astype("<i8").tobytes())
        return hasher.hexdigest()

    def n_crops(self, shard: range) -> int:
        return int(self.starts[shard.stop] - self.starts[shard.start])

    def images(self, this: RunContext, shard: range) -> list[ImageCrops]:
        """Return what is to be cut in a shard."""
        positions = self.positions[shard.start : shard.stop].tolist()
        samples = this.samples([self.filenames[position] for position in positions])
        made = []
        for index, position, sample in zip(shard, positions, samples, strict=True):
            start, stop = self.starts[index], self.starts[index + 1]
            width, height = self.sizes[position].tolist()
            boxes = self.crops.boxes[start:stop]
            made.append(ImageCrops(sample, width, height, self.names[start:stop], boxes))
        return made


def _shards(counts: NDArray[np.int64], size: int) -> list[range]:
    """Part images into runs of at most `size` crops; one with more is a shard of its own."""
    shards: list[range] = []
    start, held = 0, 0
    for index, count in enumerate(counts.tolist()):
        if held and held + count > size:
            shards.append(range(start, index))
            start, held = index, 0
        held += count
    return [*shards, range(start, len(counts))] if held else shards


def _embed_shards(
    this: RunContext,
    model: Embedder,
    shards: Iterable[tuple[int, Sequence[ImageCrops]]],
    parts: CropParts,
    tally: _Tally,
) -> None:
    """Write each part while the next shard is embedded; at most one is on its way."""
    settings = decode_settings(this.config, model.info.input_size)
    pending: Future[None] | None = None
    with ThreadPoolExecutor(1, "write-crops") as writer:
        for number, images in shards:
            batches = crop_batches(images, this.files, settings)
            embedded = embed_batches(batches, model, this.config, progress=tally.advance)
            embedded = _once(embedded)
            tally.add(len(embedded.failures))
            if pending is not None:
                pending.result()
            pending = writer.submit(parts.write, number, embedded)
        if pending is not None:
            pending.result()


def _once(embedded: EmbeddedSamples) -> EmbeddedSamples:
    """Name an image that failed once, not once for every crop of it."""
    return replace(embedded, failures=list(dict.fromkeys(embedded.failures)))


class _Tally:
    """Counts crops, and what failed, for the progress line."""

    def __init__(self, this: RunContext, task: str, done: int, total: int) -> None:
        self._this, self._task = this, task
        self._done, self._total = done, total
        self._failures = 0
        self.advance(0)

    def advance(self, n_crops: int) -> None:
        self._done += n_crops
        note = f"{self._task}, {self._failures:,} failed" if self._failures else self._task
        self._this.progress(Stage.CROPS, self._done, self._total, note)

    def add(self, n_failures: int) -> None:
        self._failures += n_failures
        self.advance(0)


def _took(this: RunContext, since: float, n_crops: int) -> None:
    """Add to what the crops of other tasks took."""
    before = this.timings.get(Stage.CROPS, Timing(0.0, 0))
    this.took(Stage.CROPS, since - before.seconds, before.samples + n_crops)


def _found(work: _Work, table: EmbeddedTable, dimensions: int) -> CropVectors:
    """Bring crops and vectors together by the names in the parts."""
    row_of = {name: row for row, name in enumerate(work.names)}
    rows = np.array([row_of[name] for name in table.filenames], np.int64)
    crops = work.crops
    samples = crops.samples[rows]
    failures = []
    for failure in table.failures:
        row = row_of.get(failure.filename)  # names of images end in `.jpg` and the like
        if row is None:
            failures.append(failure)
        else:
            image = work.filenames[crops.samples[row]]
            reason = f"crop {crops.parts[row]}: {failure.reason}"
            failures.append(Failure(image, failure.outcome, reason))
    return CropVectors(
        vectors=table.vectors.reshape(len(rows), dimensions),
        crops=Crops(samples, crops.parts[rows], crops.boxes[rows], crops.left_out),
        offsets=np.searchsorted(samples, np.arange(len(work.filenames) + 1)).astype(np.int64),
        failures=failures,
        task=work.task,
        filenames=work.filenames,
        sizes=work.sizes,
    )
