"""The nouns of lightly-fs: immutable values that every layer may import; no torch, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


VIDEO_EXTENSIONS = (
    ".mp4",
    ".m4v",
    ".hevc",
    ".mpg",
    ".mpeg",
    ".avi",
    ".mov",
    ".webm",
    ".mkv",
)
"""Files with these extensions (any case) are videos."""

CHANGED = "changed during the run"
"""How the reason begins of whoever finds that a file is not the one that was listed."""

_FRAME = re.compile(
    r"(?is)(?P<stem>.+)-(?P<index>\d{1,18})-(?P<extension>"
    + "|".join(extension[1:] for extension in VIDEO_EXTENSIONS)
    + r")\.[^./]+"
)


class Stage(StrEnum):
    LIST = "list"
    MODEL = "model"
    TRAIN = "train"
    EMBED = "embed"
    PRETAG = "pretag"
    CROPS = "crops"
    SELECT = "select"
    REPORT = "report"
    DATAPOOL = "datapool"


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
    """One image or video of a datasource.

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
class Frame:
    """Which frame of which video.

    Attributes:
        video: The video's filename in the inventory.
        index: 0-based, in presentation order, over all frames that the decoder gave.
        pts: Presentation timestamp in the stream's time base; None where the file has none.
        seconds: `pts` in seconds from the stream's time base; None where `pts` is.
    """

    video: str
    index: int
    pts: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A sample that was not embedded, and why; with `frame`, a frame of a video."""

    filename: str
    outcome: Outcome
    reason: str
    frame: Frame | None = None

    @property
    def is_outdated(self) -> bool:
        """Whether the input is not what was listed any more, so that trying again is no use."""
        return self.outcome is Outcome.GONE or self.reason.startswith(CHANGED)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What one decoded image or frame is, beside its pixels.

    Attributes:
        filename: Of a frame: `frame_name`; `provisional_name` until its video is decoded.
        width: Pixels, after EXIF orientation or the video's rotation.
        height: Pixels, after EXIF orientation or the video's rotation.
        content_hash: SHA-256 of the object's bytes; of a frame, its `pixel_hash`.
        pixel_hash: SHA-256 of the model input (S, S, 3) uint8.
        properties: Values by the names of `lightly_fs.properties`; empty when they are off.
        frame: Which frame of which video; None for an image.
    """

    filename: str
    width: int
    height: int
    content_hash: bytes
    pixel_hash: bytes
    properties: Mapping[str, float]
    frame: Frame | None = None


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is known about a video once it is fully decoded.

    Attributes:
        n_frames: Frames that the decoder gave, corrupt ones included.
        n_corrupt: Frames of these that are corrupt.
        codec: As FFmpeg names it, e.g. `h264`.
        container: As FFmpeg names it, e.g. `mov,mp4,m4a,3gp,3g2,mj2`.
        width: Pixels, after rotation.
        height: Pixels, after rotation.
        frame_rate: Frames per second, averaged; None where the file does not tell.
        seconds: Duration; None where the file does not tell.
        problem: Why part of the video could not be decoded; empty when it is whole.
    """

    filename: str
    n_frames: int
    n_corrupt: int
    codec: str
    container: str
    width: int
    height: int
    frame_rate: float | None
    seconds: float | None
    problem: str = ""


def is_video(filename: str) -> bool:
    """Return whether the file is taken for a video: by its extension, in any case."""
    return filename.lower().endswith(VIDEO_EXTENSIONS)


def frame_name(video: str, index: int, n_frames: int) -> str:
    """Return the filename of a frame of a fully decoded video: `dir/name-007-mp4.png`.

    Args:
        n_frames: All frames of the video; the index is padded to as many digits.
    """
    stem, _, extension = video.rpartition(".")
    return f"{stem}-{index:0{len(str(n_frames))}}-{extension}.png"


def frame_of(filename: str) -> tuple[str, int] | None:
    """Return the video and the index that a frame's filename tells; None when it is no frame's.

    Frames that others extracted may be of any image format: `a/v-007-mp4.jpg` is a frame too.
    """
    found = _FRAME.fullmatch(filename)
    return (f"{found['stem']}.{found['extension']}", int(found["index"])) if found else None


def frame_sample(filename: str, width: int, height: int) -> Sample:
    """Return a frame as a sample by its name; it has no object and no bytes of its own.

    Its size is what its pixels take, by which readers bound what they hold.
    """
    return Sample(filename, 3 * width * height, None, 0)


def provisional_name(video: str, index: int) -> str:
    """Return what a frame is called as long as nobody knows how many frames its video has."""
    return f"{video}#{index}"


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
    """The sums that every finished run satisfies; see `check`.

    Attributes:
        inventory: Files that were listed: images and videos.
        videos: Those of them that gave frames; each of these counts by its frames from there on.
        frames: The frames that were taken of them: all, unless the configuration samples.
        unusable_videos: Videos that gave none.
    """

    inventory: int
    embedded: int
    corrupt: int
    gone: int
    failed: int
    unreadable: int
    duplicate: int
    selected: int
    removed: int
    videos: int = 0
    frames: int = 0
    unusable_videos: int = 0

    @property
    def images(self) -> int:
        """Files that are no videos."""
        return self.inventory - self.videos - self.unusable_videos

    @property
    def samples(self) -> int:
        """Images, frames, and videos that gave no frame."""
        return self.inventory - self.videos + self.frames

    def check(self) -> str | None:
        """Return what does not add up, or None."""
        ended = self.embedded + self.corrupt + self.gone + self.failed + self.unreadable
        if ended != self.samples:
            listed = f"{self.inventory} samples in the inventory"
            if self.videos:
                listed += f", {self.videos} of them videos of {self.frames} frames"
            return f"{listed}, but {ended} ended"
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
