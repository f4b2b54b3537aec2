"""The pretag stage: a detector looks at the images; what it found becomes a prediction task."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.objects import PredictedObject, Predictions, PredictionsBuilder
from lightly_fs.artifacts import RunDir, dump_names
from lightly_fs.artifacts.tables import write_csv
from lightly_fs.config import RunConfig
from lightly_fs.decoding.images import CorruptImage, thumbnail
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.embedding import nothing_usable
from lightly_fs.pipeline.tally import check_failures
from lightly_fs.pretagging import parts
from lightly_fs.pretagging.boxes import BoxesFile, drawn, spread
from lightly_fs.pretagging.config import PretaggingConfig, read_pretagging_config
from lightly_fs.pretagging.detect import DetectSettings, detect_samples
from lightly_fs.pretagging.detections import Detections
from lightly_fs.pretagging.detector import Detector, load_detector
from lightly_fs.types import Failure, Sample, Stage

logger = logging.getLogger(__name__)

SAMPLES_PER_PART = 1024
"""Detectors are slow: so many images are looked at again after a kill, at most."""
BOXES = "data/bounding_boxes.json"
EXAMPLES = "data/bounding_boxes_examples"
FAILURES = "data/pretagging_failures.csv"
RECORD = "config/pretagging.json"
N_EXAMPLES = 12
_EXAMPLE_SIDE = 1024


def check_pretagging(config: RunConfig) -> None:
    """Load the detector, so that a mistake shows before an image is read.

    Raises:
        ConfigError: `pretagging_config` is wrong.
        ModelError: The weights cannot be used.
    """
    load_detector(config, read_pretagging_config(config, config.pretagging_config))


def pretag(this: RunContext, filenames: Sequence[str]) -> Predictions:
    """Return what the detector of `pretagging_config` finds in samples.

    What an earlier process of this run found is taken from the run directory. An image that cannot
    be read now is listed in `invalid` and has no prediction, as opposed to one without objects.
    Staged are the boxes, the failures, the record of the detector, and with `pretagging_debug` some
    images with their boxes.

    Args:
        this: The run.
        filenames: N embedded samples in inventory order, the rows of the result.

    Raises:
        ConfigError: `pretagging_config` is wrong.
        ModelError: The weights cannot be used, or a batch does not fit into memory.
        NoUsableSampleError: Not one image could be read.
        TooManyFailuresError: More failed than `max_failures` allows.
    """
    since = time.monotonic()
    this.progress(Stage.PRETAG, 0, len(filenames), "loading the detector")
    settings = read_pretagging_config(this.config, this.config.pretagging_config)
    detector = load_detector(this.config, settings)
    logger.info("pretagging with %s on %s", detector.facts["model"], detector.device)
    _record(this.staging / RECORD, detector)
    failures: list[Failure] = []
    builder = PredictionsBuilder(detector.schema, filenames)
    sizes = np.zeros((len(filenames), 2), np.int32)
    with (
        tempfile.TemporaryDirectory(dir=this.staging) as scratch,
        BoxesFile(this.staging / BOXES, detector.schema) as boxes,
    ):
        work = _Work(this, detector, settings, Path(scratch))
        for row, (name, result) in enumerate(work.results(filenames)):
            if name != filenames[row]:
                raise ValueError(f"{filenames[row]!r} is not in inventory order")
            if isinstance(result, Failure):
                failures.append(result)
                builder.skip(row + 1)
                builder.invalid.append(InvalidFile(name, result.reason))
            else:
                builder.add(_objects(result))
                boxes.add(name, result)
                sizes[row] = result.width, result.height
    predictions = builder.build()
    _list_failures(this, predictions, failures)
    if this.config.pretagging_debug:
        _draw_examples(this, predictions, sizes)
    this.took(Stage.PRETAG, since, work.looked_at)
    return predictions


def forget_parts(run_dir: RunDir) -> None:
    """Delete what only resuming needs, when a run is complete."""
    run_dir.output.below(run_dir.folder).delete_folder(parts.FOLDER)


class _Work:
    """Looks at what no committed part holds, and commits that.

    Attributes:
        looked_at: Samples that this process read.
    """

    def __init__(
        self, this: RunContext, detector: Detector, settings: PretaggingConfig, scratch: Path
    ) -> None:
        self._this, self._detector, self._scratch = this, detector, scratch
        self._settings = DetectSettings(
            settings.batch_size, this.config.num_threads, this.config.max_image_pixels
        )
        self._files = this.run_dir.output.below(this.run_dir.folder)
        self._n_failed = self._n_objects = self._done = 0
        self.looked_at = 0

    def results(self, filenames: Sequence[str]) -> Iterator[tuple[str, Detections | Failure]]:
        """Yield what became of each sample, in inventory order."""
        total, there = len(filenames), self._committed()
        self._this.progress(Stage.PRETAG, 0, total, self._note())
        for number, samples in self._numbered(set(filenames)):
            found = self._read(there.get(number), samples)
            if found is None:
                found = self._detect(samples, total)
                self._write(number, found)
                self.looked_at += len(samples)
            self._done += len(samples)
            self._n_failed += sum(isinstance(one, Failure) for _, one in found)
            self._n_objects += sum(
                len(one.scores) for _, one in found if isinstance(one, Detections)
            )
            check_failures(self._n_failed, self._this.config.max_failures)
            self._this.progress(Stage.PRETAG, self._done, total, self._note())
            yield from found

    def _note(self) -> str:
        note = f"{self._n_objects:,} objects"
        return f"{note}, {self._n_failed:,} failed" if self._n_failed else note

    def _numbered(self, wanted: set[str]) -> Iterator[tuple[int, list[Sample]]]:
        this = self._this
        names = this.inventory.table["filename"] if this.table is None else this.table.filenames
        for number, start in enumerate(range(0, len(names), SAMPLES_PER_PART)):
            chunk = names[start : start + SAMPLES_PER_PART]
            listed = chunk if isinstance(chunk, list) else chunk.to_pylist()
            if samples := this.samples([name for name in listed if name in wanted]):
                yield number, samples

    def _committed(self) -> dict[int, str]:
        """Return the parts of this detector by number; those of another one are deleted."""
        found: dict[int, str] = {}
        for name in self._files.names(parts.FOLDER):
            number = parts.part_of(name, self._detector.digest)
            if number is None or number in found:
                logger.warning("deleting %s: it is of another detector or configuration", name)
                self._files.delete(f"{parts.FOLDER}/{name}")
            else:
                found[number] = name
        return found

    def _read(self, name: str | None, samples: Sequence[Sample]) -> parts.Results | None:
        """Return what a part says of exactly these samples; one that does not is deleted."""
        if name is None:
            return None
        place = f"{parts.FOLDER}/{name}"
        found = parts.read_part(name, self._files.read(place))
        if found is not None and [one for one, _ in found] == [s.filename for s in samples]:
            return found
        logger.warning("deleting %s: it is torn, or about other images", name)
        self._files.delete(place)
        return None

    def _detect(self, samples: Sequence[Sample], total: int) -> parts.Results:
        done = 0

        def advance(n_samples: int) -> None:
            nonlocal done
            done += n_samples
            self._this.progress(Stage.PRETAG, self._done + done, total, self._note())

        found = detect_samples(
            samples, self._this.files, self._detector, self._settings, progress=advance
        )
        return [(sample.filename, one) for sample, one in zip(samples, found, strict=True)]

    def _write(self, number: int, results: parts.Results) -> None:
        local = parts.write_part(self._scratch, number, self._detector.digest, results)
        self._this.lease.check()
        self._files.put(f"{parts.FOLDER}/{local.name}", local)
        local.unlink()


def _objects(found: Detections) -> list[PredictedObject]:
    rows = zip(found.categories.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return [PredictedObject(place, score, box) for place, score, box in rows]


def _record(path: Path, detector: Detector) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(detector.facts, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _list_failures(this: RunContext, predictions: Predictions, failures: Sequence[Failure]) -> None:
    """Write which images could not be looked at, and why.

    Raises:
        NoUsableSampleError: It is all of them.
    """
    if failures and not predictions.predicted.any():
        raise nothing_usable(
            failures, f"not one of the {len(failures):,} images could be pretagged"
        )
    if failures:
        logger.warning(
            "%d images could not be read to pretag them, the first is %s: %s; %s lists them",
            *(len(failures), failures[0].filename, failures[0].reason, FAILURES),
        )
    write_csv(
        this.staging / FAILURES,
        {
            "filename": (failure.filename for failure in failures),
            "outcome": (failure.outcome.value for failure in failures),
            "reason": (failure.reason for failure in failures),
        },
    )


def _draw_examples(this: RunContext, predictions: Predictions, sizes: NDArray[np.int32]) -> None:
    """Write some images with their boxes, chosen evenly over those in which something was found."""
    counts = np.diff(predictions.offsets)
    rows = spread(np.flatnonzero(counts > 0).tolist(), N_EXAMPLES)
    names = dump_names([predictions.filenames[row] for row in rows], ".jpg")
    for row, name in zip(rows, names, strict=True):
        picture = _picture(this, predictions, row, sizes[row])
        if isinstance(picture, str):
            logger.warning("no picture of the boxes in %s: %s", predictions.filenames[row], picture)
        else:
            path = this.staging / EXAMPLES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)


def _picture(
    this: RunContext, predictions: Predictions, row: int, size: NDArray[np.int32]
) -> bytes | str:
    """Return a JPEG of an image with its boxes, or why there is none."""
    data = this.read(predictions.filenames[row])
    if isinstance(data, Failure):
        return data.reason
    try:
        pixels = thumbnail(data, _EXAMPLE_SIDE, this.config.max_image_pixels)
    except CorruptImage as corrupt:
        return corrupt.reason
    objects = predictions.of(row)
    boxes = predictions.boxes[objects]
    boxes[:, 2:] += boxes[:, :2]
    places = predictions.categories[objects].tolist()
    names = predictions.schema.category_names
    scores = predictions.scores[objects]
    labels = [f"{names[place]} {score:.2f}" for place, score in zip(places, scores, strict=True)]
    return drawn(pixels, boxes / np.tile(size, 2), labels, places)
