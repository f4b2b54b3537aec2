"""What a run from scratch takes from its datapool, so that known files need not be read again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.config import PropertiesMode, RunConfig
from lightly_fs.datapool.columns import PoolRows
from lightly_fs.errors import ModelError
from lightly_fs.pipeline.datapool import PoolRun
from lightly_fs.pipeline.preselecting import is_unit
from lightly_fs.properties import PROPERTIES
from lightly_fs.types import (
    EmbeddedSamples,
    Failure,
    Frame,
    ImageRecord,
    ModelInfo,
    Outcome,
    Sample,
    VideoFacts,
    provisional_name,
)

logger = logging.getLogger(__name__)


class Reused:
    """Embeddings, records and failures of files that did not change."""

    def __init__(self, config: RunConfig, pool: PoolRun) -> None:
        """Read what the datapool holds of the files that are known.

        Args:
            config: Which properties are measured, and which frames are taken.
            pool: The run's datapool; its embeddings are of the run's model.
        """
        names = pool.listed.table["filename"].take(pa.array(pool.known.known))
        files = pool.pool.files_named(names)
        failed = files.filter(pc.equal(files["outcome"], Outcome.CORRUPT.value))
        self._corrupt = dict(
            zip(failed["filename"].to_pylist(), failed["reason"].to_pylist(), strict=True)
        )
        told = files.filter(files["video"].is_valid())
        self._told = dict(zip(told["filename"].to_pylist(), told["video"].to_pylist(), strict=True))
        self._sampling = config.video.model_dump(mode="json")
        self._properties = () if config.properties is PropertiesMode.OFF else tuple(PROPERTIES)
        self._rows = pool.pool.reuse(names.to_pylist())
        self._of_file = self._by_file(self._rows)

    @property
    def is_unit(self) -> bool:
        """The embeddings are of unit length."""
        return is_unit(self._rows.table.vectors)

    def images(self, samples: Sequence[Sample]) -> EmbeddedSamples:
        """Return what became of the images that are known, in the order given."""
        names = [sample.filename for sample in samples]
        rows = [self._of_file[name][0] for name in names if name in self._of_file]
        failures = [
            Failure(name, Outcome.CORRUPT, self._corrupt[name])
            for name in names
            if name in self._corrupt
        ]
        return self._embedded(rows, failures)

    def videos(
        self, samples: Sequence[Sample]
    ) -> tuple[EmbeddedSamples, list[VideoFacts | Failure]]:
        """Return the frames of the videos that are known, and these, in the order given."""
        ended: list[VideoFacts | Failure] = []
        rows: list[int] = []
        failures: list[Failure] = []
        for name in (sample.filename for sample in samples):
            if name in self._corrupt:
                ended.append(Failure(name, Outcome.CORRUPT, self._corrupt[name]))
                continue
            told = json.loads(self._told.get(name) or "{}")
            if name not in self._of_file or told.get("sampling") != self._sampling:
                continue
            rows += self._of_file[name]
            for index, pts, seconds, reason in told["corrupt"]:
                frame = Frame(name, index, pts, seconds)
                corrupt = provisional_name(name, index)
                failures.append(Failure(corrupt, Outcome.CORRUPT, reason, frame))
            ended.append(VideoFacts(**told["facts"]))
        failures += [one for one in ended if isinstance(one, Failure)]
        return self._embedded(rows, failures), ended

    def _by_file(self, found: PoolRows) -> dict[str, list[int]]:
        """Return the rows of each file, without files of which a property is missing."""
        usable = np.ones(len(found.table), np.bool_)
        for name in self._properties:
            values = found.table.properties.get(name)
            usable &= False if values is None else ~np.isnan(values)
        of_file: dict[str, list[int]] = {}
        files = pc.coalesce(found.frames["video"], pa.array(found.table.filenames, pa.string()))
        for row, file in enumerate(files.to_pylist()):
            of_file.setdefault(file, []).append(row)
        return {name: rows for name, rows in of_file.items() if usable[rows].all()}

    def _embedded(self, rows: Sequence[int], failures: Sequence[Failure]) -> EmbeddedSamples:
        places = np.array(rows, np.int64)
        frames = self._rows.frames.take(pa.array(places)).to_pylist()
        records = [self._record(row, one) for row, one in zip(rows, frames, strict=True)]
        return EmbeddedSamples(self._rows.table.vectors[places], records, list(failures))

    def _record(self, row: int, given: dict[str, object]) -> ImageRecord:
        table, frame = self._rows.table, None
        name = table.filenames[row]
        if given["video"] is not None:
            frame = Frame(*given.values())  # type: ignore[arg-type] # the columns of a frame
            name = provisional_name(frame.video, frame.index)
        return ImageRecord(
            name,
            int(table.widths[row]),
            int(table.heights[row]),
            table.content_hashes[row].tobytes(),
            table.pixel_hashes[row].tobytes(),
            {key: float(table.properties[key][row]) for key in self._properties},
            frame,
        )


def reusable(config: RunConfig, pool: PoolRun, model: ModelInfo) -> Reused | None:
    """Return what the run need not embed again; None when that is nothing."""
    if not pool.from_scratch or not len(pool.known.known):
        return None
    try:
        pool.pool.check_model(model)
    except ModelError as error:
        logger.warning("everything is embedded again: %s", error.message)
        return None
    reused = Reused(config, pool)
    if reused.is_unit != config.normalize_embeddings:
        logger.warning("everything is embedded again: normalize_embeddings was changed")
        return None
    return reused
