"""The nouns of lightly-fs: immutable values that every layer may import; no torch, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Stage(StrEnum):
    LIST = "list"
    MODEL = "model"
    TRAIN = "train"
    EMBED = "embed"
    PRETAG = "pretag"
    CROPS = "crops"
    SELECT = "select"
    REPORT = "report"


class Outcome(StrEnum):
    """How a sample of the inventory ended. Every sample ends as exactly one of these."""

    EMBEDDED = "embedded"
    CORRUPT = "corrupt"
    """The bytes arrived, but the pixels cannot be fully decoded."""
    GONE = "gone"
    """Listed, but deleted before it was read."""
    FAILED = "failed"
    """Storage did not deliver the listed bytes: timeouts, errors, changed during the run."""
    UNREADABLE = "unreadable"
    """Listed, but no reader of this run can ever name it (a key that no path can express, 403)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a datasource.

    Attributes:
        filename: POSIX path below the datasource's root; the sample's identity.
        size: Bytes of the object.
        etag: The object's ETag without quotes; None when the listing came from a directory.
        mtime_ns: When the object last changed; with `size`, tells a changed file.
    """

    filename: str
    size: int
    etag: str | None
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that was not embedded, and why."""

    filename: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What one decoded image is, beside its pixels.

    Attributes:
        width: Pixels, after EXIF orientation.
        height: Pixels, after EXIF orientation.
        content_hash: SHA-256 of the object's bytes.
        pixel_hash: SHA-256 of the model input (S, S, 3) uint8.
        properties: Values by the names of `lightly_fs.properties`; empty when they are off.
    """

    filename: str
    width: int
    height: int
    content_hash: bytes
    pixel_hash: bytes
    properties: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model made an embedding; embeddings of different models never mix."""

    name: str
    weights_sha256: str
    input_size: int
    dimensions: int
    preprocessing: str
    runtime: str
    precision: str


@dataclass(frozen=True, eq=False)
class EmbeddedSamples:
    """What one shard became: row `i` of `vectors` belongs to `records[i]`, in inventory order.

    Attributes:
        vectors: (N, D) float32.
        records: N records.
        failures: The shard's other samples.
    """

    vectors: NDArray[np.float32]
    records: Sequence[ImageRecord]
    failures: Sequence[Failure]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An embedded sample that shows exactly what an earlier one (in inventory order) shows."""

    filename: str
    original: str
    reason: str
    """`content` (same bytes) or `pixels` (same pixels, other bytes)."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Candidates in the order they were chosen; any prefix is the selection of that size.

    Attributes:
        indices: (K,) int64 rows of the candidates.
        distances: (K,) float32 distance of each pick to the nearest sample picked before it,
            at the time it was picked; inf for the first pick without preselected samples.
        stopped_by: `n_samples`, `min_distance` or `all` (every candidate was selected).
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    stopped_by: str


@dataclass(frozen=True, slots=True)
class Counts:
    """The sums that every finished run satisfies; see `check`."""

    inventory: int
    embedded: int
    corrupt: int
    gone: int
    failed: int
    unreadable: int
    duplicate: int
    selected: int
    removed: int

    def check(self) -> str | None:
        """Return what does not add up, or None."""
        ended = self.embedded + self.corrupt + self.gone + self.failed + self.unreadable
        if ended != self.inventory:
            return f"{self.inventory} samples in the inventory, but {ended} ended"
        used = self.duplicate + self.selected + self.removed
        if used != self.embedded:
            return f"{self.embedded} samples embedded, but {used} accounted for"
        return None


class Progress(Protocol):
    """Told what a stage has done; the CLI draws a bar, a worker beats, a test appends."""

    def __call__(self, stage: Stage, done: int, total: int | None, note: str = "") -> None: ...


def silent(stage: Stage, done: int, total: int | None, note: str = "") -> None:
    """Progress for nobody."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds and samples of one stage."""

    seconds: float
    samples: int


Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a report says about the run itself.

    Attributes:
        timings: By stage, this process's share of the work.
        requests: Requests sent to the object store, by kind.
    """

    run_id: str
    started: float
    finished: float
    input_uri: str
    timings: Mapping[Stage, Timing] = field(default_factory=dict)
    bytes_read: int = 0
    read_through: str = ""
    other_files: int = 0
