"""What a run left, for those who started it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightly_fs.pipeline.datapool import PoolOutcome
from lightly_fs.types import Counts, Stage, Timing

if TYPE_CHECKING:
    from lightly_fs.pipeline.explaining import Explanation


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        directory: The run directory, on the mount when the output is one.
        place: Where people find it: the directory, or `s3://…` when it was mounted for the run.
        counts: None when the run stopped before the samples were counted.
        selected: Filenames in the order they were chosen.
        why: What made each of them win, where the run ended with the selection.
        requests: Requests sent to the object store by this process, by kind.
        training: What was measured of a model that was trained, epoch by epoch.
        was_complete: Nothing was done, an earlier process had finished the run.
        datapool: What became of the datapool; None without one, and of a complete run.
    """

    directory: Path
    place: str
    counts: Counts | None = None
    selected: Sequence[str] = ()
    why: Explanation | None = None
    timings: Mapping[Stage, Timing] = field(default_factory=dict)
    read_through: str = ""
    requests: Mapping[str, int] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    was_complete: bool = False
    datapool: PoolOutcome | None = None

    @property
    def nothing_new(self) -> bool:
        """The datapool knew every file: there is no run directory."""
        return self.datapool is not None and self.datapool.nothing_new

    @property
    def partial(self) -> bool:
        """Some samples could not be read; the others are finished."""
        return self.counts is not None and self.counts.failed + self.counts.unreadable > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "run_directory": None if self.nothing_new else self.place,
            "report": None if self.nothing_new else f"{self.place}/report.pdf",
            "nothing_new": self.nothing_new,
            "complete": self.counts is not None,
            "was_complete": self.was_complete,
            "partial": self.partial,
            "counts": None if self.counts is None else asdict(self.counts),
            "datapool": None if self.datapool is None else asdict(self.datapool),
            "read_through": self.read_through,
            "requests": dict(self.requests),
            "training": [dict(entry) for entry in self.training],
            "timings": {
                stage.value: {"seconds": round(one.seconds, 3), "samples": one.samples}
                for stage, one in self.timings.items()
            },
        }
