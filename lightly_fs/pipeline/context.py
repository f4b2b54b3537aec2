"""What the stages of one process share."""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.artifacts import EmbeddedTable, RunDir
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.lock import Lease
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.datasource.source import Source
from lightly_fs.errors import ArtifactError
from lightly_fs.types import Failure, Frame, Outcome, Progress, Sample, Stage, Timing, frame_sample

if TYPE_CHECKING:
    from lightly_fs.pipeline.datapool import PoolOutcome, PoolRun

logger = logging.getLogger(__name__)


@dataclass
class RunContext:
    """One run while it lasts.

    Attributes:
        staging: Local directory where artifacts are made before they are published.
        inventory: What the run processes.
        timings: Filled stage by stage.
        pool: The datapool that the run began with; None without one.
        outcome: What the run did with it, as soon as it did.
        files: Reads images, and frames as soon as `look_at` has told which there are.
        table: What `look_at` was told.
    """

    config: RunConfig
    environ: Mapping[str, str]
    staging: Path
    source: Source
    run_dir: RunDir
    lease: Lease
    reader: Reader
    inventory: Inventory
    progress: Progress
    timings: dict[Stage, Timing] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    pool: PoolRun | None = None
    outcome: PoolOutcome | None = field(default=None, init=False)
    table: EmbeddedTable | None = field(default=None, init=False)
    files: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.files = self.reader

    def took(self, stage: Stage, since: float, samples: int) -> None:
        """Note what a stage that began at monotonic time `since` took."""
        self.timings[stage] = Timing(time.monotonic() - since, samples)
        logger.info("%s: %d samples in %.1f s", stage.value, samples, self.timings[stage].seconds)

    def look_at(self, table: EmbeddedTable) -> None:
        """Make frames readable by their names, which are known since everything is embedded."""
        if table.frames is None:
            return
        from lightly_fs.pipeline.frame_files import FrameFiles

        def frame(filename: str) -> Frame | None:
            row = table.rows.get(filename)
            return None if row is None else table.frame(row)

        self.table = table
        self.files = FrameFiles(self.reader, self._listed, frame, self.config.max_image_pixels)

    def close(self) -> None:
        """Close the video that is open, if any; the reader is its owner's."""
        if self.files is not self.reader:
            self.files.close()

    def samples(self, filenames: Sequence[str]) -> list[Sample]:
        """Return embedded samples by their names, for `files`.

        Raises:
            ArtifactError: One is neither in the inventory nor a frame.
        """
        frames = [self._frame(name) for name in filenames]
        rows = [self._row(n) for n, one in zip(filenames, frames, strict=True) if one is None]
        listed = iter(self._all.take(np.array(rows, np.int64)))
        return [next(listed) if frame is None else frame for frame in frames]

    def read(self, filename: str) -> Buffer | Failure:
        """Read a sample once more, for a thumbnail, a copy or a comparison.

        Beside those of the run that are images of the datapool.
        """
        if self._is_elsewhere(filename):
            return Failure(filename, Outcome.GONE, "the datapool remembers it, it is not there now")
        return self.files.read(self.samples([filename])[0])

    def read_file(self, filename: str) -> Buffer | Failure:
        """Read an embedded sample as a file to keep: an image's own bytes, a frame as PNG."""
        data = self.read(filename)
        if isinstance(data, Failure) or self._frame(filename) is None:
            return data
        from lightly_fs.pipeline.frame_files import as_png

        return as_png(data)

    def _frame(self, filename: str) -> Sample | None:
        table = self.table
        row = None if table is None else table.rows.get(filename)
        if table is None or row is None or table.frame(row) is None:
            return None
        return frame_sample(filename, int(table.widths[row]), int(table.heights[row]))

    def _is_elsewhere(self, filename: str) -> bool:
        """Tell whether a sample is known by the datapool alone."""
        if self.pool is None or self._frame(filename) is not None:
            return False
        return self._find(filename) is None

    def _listed(self, filename: str) -> Sample:
        row = self._row(filename)
        return self._all.samples(row, row + 1)[0]

    @property
    def _all(self) -> Inventory:
        """Everything that was listed."""
        return self.inventory if self.pool is None else self.pool.listed

    def _row(self, filename: str) -> int:
        """Return a sample's row in all that was listed."""
        row = self._find(filename)
        if row is None:
            raise ArtifactError(f"`{filename}` is not in the inventory")
        return row

    def _find(self, filename: str) -> int | None:
        names = self._all.table["filename"]
        # Code point order of str is the order of UTF-8 bytes, in which the inventory is sorted.
        row = bisect.bisect_left(range(len(names)), filename, key=lambda n: names[n].as_py())
        return None if row == len(names) or names[row].as_py() != filename else row


def place_of(run_dir: RunDir) -> str:
    """Return where people find a run when it is over: its bucket may be mounted only for it."""
    return run_dir.uri if run_dir.config.output_dir.startswith("s3://") else str(run_dir.directory)
