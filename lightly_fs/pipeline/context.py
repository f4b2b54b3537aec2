"""What the stages of one process share."""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightly_fs.artifacts import RunDir
from lightly_fs.config import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.lock import Lease
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.datasource.source import Source
from lightly_fs.types import Failure, Progress, Stage, Timing

logger = logging.getLogger(__name__)


@dataclass
class RunContext:
    """One run while it lasts.

    Attributes:
        staging: Local directory where artifacts are made before they are published.
        timings: Filled stage by stage.
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

    def took(self, stage: Stage, since: float, samples: int) -> None:
        """Note what a stage that began at monotonic time `since` took."""
        self.timings[stage] = Timing(time.monotonic() - since, samples)
        logger.info("%s: %d samples in %.1f s", stage.value, samples, self.timings[stage].seconds)

    def read(self, filename: str) -> Buffer | Failure:
        """Read a listed sample once more, for a thumbnail, a copy or a comparison."""
        names = self.inventory.table["filename"]
        # Code point order of str is the order of UTF-8 bytes, in which the inventory is sorted.
        row = bisect.bisect_left(range(len(names)), filename, key=lambda n: names[n].as_py())
        return self.reader.read(self.inventory.samples(row, row + 1)[0])


def place_of(run_dir: RunDir) -> str:
    """Return where people find a run when it is over: its bucket may be mounted only for it."""
    return run_dir.uri if run_dir.config.output_dir.startswith("s3://") else str(run_dir.directory)
