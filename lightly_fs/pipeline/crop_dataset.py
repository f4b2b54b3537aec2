"""The crops of the selected images as a dataset of their own, `data/crops/TASK/…`."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations.objects import Predictions
from lightly_fs.artifacts import EmbeddedTable, dump_names, require_all
from lightly_fs.artifacts.results import CSV_VALUES
from lightly_fs.artifacts.tables import write_csv, write_embeddings_csv, write_embeddings_parquet
from lightly_fs.decoding.crops import ImageCrops, crop_exporter, cut
from lightly_fs.decoding.raster import Pixels
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.crops import CropVectors
from lightly_fs.types import Failure, Sample, Stage

logger = logging.getLogger(__name__)

FOLDER = "data/crops"
_THREADS = 4


def write_crop_dataset(
    this: RunContext,
    found: CropVectors,
    selected: Sequence[str],
    predictions: Predictions | None = None,
    *,
    enable_upload: bool = True,
    enable_upload_for_tasks: Sequence[str] = (),
) -> int:
    """Write the crops of the selected images, what they are, and their vectors.

    Files that are there already are kept. When crops are switched off, only the failures of the
    task are written, if there are any.

    Args:
        found: The crops of one task.
        selected: Filenames of images.
        predictions: Whose objects the crops are, of `found.filenames`; None for tiles.
        enable_upload: Write crops at all.
        enable_upload_for_tasks: Only for these tasks; none named: for all.

    Returns:
        How many crops there are now.

    Raises:
        DatasourceError: An image cannot be read any more.
    """
    if found.failures:
        _write_failures(this, found)
    wanted = not enable_upload_for_tasks or found.task in enable_upload_for_tasks
    if not (enable_upload and wanted):
        return 0
    suffix, encode = crop_exporter(this.config)
    dataset = _Dataset.of(found, selected, predictions, suffix)
    count = len(dataset.rows)
    this.progress(Stage.REPORT, 0, None, f"writing the crops of {found.task} ({count:,})")
    hashes = _write_files(this, dataset, encode)
    _write_tables(this, dataset, hashes)
    logger.info("wrote %d crops of %s to %s", count, found.task, dataset.folder)
    return count


def _write_files(
    this: RunContext, dataset: _Dataset, encode: Callable[[Pixels], bytes]
) -> NDArray[np.uint8]:
    """Write the crops, image by image; return the (R, 32) SHA-256 of their files."""
    hashes = np.zeros((len(dataset.rows), 32), np.uint8)
    names = [dataset.found.filenames[position] for position in dataset.images]

    def write(position: int, sample: Sample) -> Failure | None:
        places = dataset.places(position)

        def publish(number: int, pixels: Pixels) -> None:
            place, data = places[number], encode(pixels)
            hashes[place] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            this.run_dir.publish_bytes(f"{dataset.folder}/{dataset.names[place]}", data)

        data = this.files.read(sample)
        if isinstance(data, Failure):
            return data
        image = dataset.image(position, sample)
        return cut(image, data, publish, max_pixels=this.config.max_image_pixels)

    with ThreadPoolExecutor(_THREADS, "write-crops") as pool:
        try:
            ended = list(pool.map(write, dataset.images, this.samples(names)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failures = [failure for failure in ended if failure is not None]
    what = f"the crops of `{dataset.found.task}` of {len(failures)} images could not be written"
    require_all(failures, what, "crops.enable_upload=False")
    return hashes


@dataclass(frozen=True, eq=False)
class _Dataset:
    """The crops to write, in the order of their images.

    Attributes:
        rows: (R,) int64 rows of `found`.
        numbers: (R,) int64 number of each within its image: object or tile.
        names: R file names below `folder`.
    """

    found: CropVectors
    predictions: Predictions | None
    folder: str
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(
        cls,
        found: CropVectors,
        selected: Sequence[str],
        predictions: Predictions | None,
        suffix: str,
    ) -> _Dataset:
        chosen = set(selected)
        keep = np.array([name in chosen for name in found.filenames], np.bool_)
        rows = np.flatnonzero(keep[found.crops.samples])
        samples, numbers = found.crops.samples[rows], found.crops.parts[rows]
        if predictions is not None:
            numbers = numbers - predictions.offsets[samples]
        names = _names(found.filenames, samples, numbers, suffix)
        return cls(found, predictions, _folder(found.task), rows, numbers, names)

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        return self.found.crops.samples[self.rows]

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        return self.found.crops.boxes[self.rows]

    @cached_property
    def images(self) -> list[int]:
        """Positions of the images that have crops."""
        positions: list[int] = np.unique(self.samples).tolist()
        return positions

    def places(self, position: int) -> range:
        """Return which of the crops are those of an image."""
        start, stop = np.searchsorted(self.samples, (position, position + 1)).tolist()
        return range(start, stop)

    def image(self, position: int, sample: Sample) -> ImageCrops:
        """Return what is to be cut from an image."""
        places = self.places(position)
        width, height = self.found.sizes[position].tolist()
        names = self.names[places.start : places.stop]
        return ImageCrops(sample, width, height, names, self.boxes[places.start : places.stop])

    def categories(self) -> list[str]:
        if self.predictions is None:
            return [""] * len(self.rows)
        names = self.predictions.schema.category_names
        objects = self.found.crops.parts[self.rows]
        return [names[category] for category in self.predictions.categories[objects].tolist()]

    def scores(self) -> list[str]:
        if self.predictions is None:
            return [""] * len(self.rows)
        scores = self.predictions.scores[self.found.crops.parts[self.rows]].tolist()
        return ["" if math.isnan(score) else repr(score) for score in scores]


def _folder(task: str) -> str:
    """Return where a task's crops go; `a/b` must not lie in the folder of another task `a`."""
    return f"{FOLDER}/{quote(task, safe='+=,@: ')}"


def _names(
    filenames: Sequence[str],
    samples: NDArray[np.int64],
    numbers: NDArray[np.int64],
    suffix: str,
) -> list[str]:
    """Return `a/b-07.png` for the seventh crop of `a/b.jpg`, which has up to a hundred.

    Where two images would get the same names, both keep their extension (`a/b.jpg-07.png`).
    """
    positions, index = np.unique(samples, return_inverse=True)
    last = np.zeros(len(positions), np.int64)
    np.maximum.at(last, index, numbers)
    images = dump_names([filenames[position] for position in positions.tolist()], suffix)
    stems = [name.removesuffix(suffix) for name in images]
    return [
        f"{stems[image]}-{number:0{len(str(last[image]))}d}{suffix}"
        for image, number in zip(index.tolist(), numbers.tolist(), strict=True)
    ]


def _write_failures(this: RunContext, found: CropVectors) -> None:
    relative = f"{_folder(found.task)}/failures.csv"
    columns = {
        "image": [failure.filename for failure in found.failures],
        "outcome": [failure.outcome.value for failure in found.failures],
        "reason": [failure.reason for failure in found.failures],
    }
    write_csv(this.staging / relative, columns)
    this.run_dir.publish(relative)


def _write_tables(this: RunContext, dataset: _Dataset, hashes: NDArray[np.uint8]) -> None:
    found, boxes, config = dataset.found, dataset.boxes, this.config
    images = [found.filenames[position] for position in dataset.samples.tolist()]
    corners = zip(("left", "top", "right", "bottom"), boxes.T.tolist(), strict=True)
    folder = PurePosixPath(dataset.folder)
    columns = {
        "filename": dataset.names,
        "image": images,
        "category": dataset.categories(),
        "score": dataset.scores(),
        **{name: [str(value) for value in values] for name, values in corners},
    }
    write_csv(this.staging / folder / "crops.csv", columns)
    table = EmbeddedTable(
        filenames=list(dataset.names),
        vectors=found.vectors[dataset.rows],
        widths=(boxes[:, 2] - boxes[:, 0]).astype(np.int32),
        heights=(boxes[:, 3] - boxes[:, 1]).astype(np.int32),
        content_hashes=hashes,
        pixel_hashes=np.zeros_like(hashes),  # is not written
    )
    made = ["crops.csv", "embeddings.parquet"]
    rows = np.arange(len(dataset.rows))
    write_embeddings_parquet(this.staging / folder / "embeddings.parquet", table, rows)
    few = table.vectors.size <= CSV_VALUES
    if config.embeddings_csv == "always" or (config.embeddings_csv == "auto" and few):
        write_embeddings_csv(this.staging / folder / "embeddings.csv", table, rows)
        made.append("embeddings.csv")
    for name in made:
        this.run_dir.publish(str(folder / name))
