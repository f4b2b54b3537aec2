"""How far the embed stage is: images, frames and videos, and what failed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lightly_fs.errors import TooManyFailuresError
from lightly_fs.pipeline.context import RunContext
from lightly_fs.report.lettering import counted
from lightly_fs.types import Failure, Outcome, Stage, VideoFacts

Ended = Sequence[VideoFacts | Failure]


class Tally:
    """Counts samples for the progress line, and failures against `max_failures`.

    Nobody knows how many frames the videos have. As soon as one has ended, its frames per byte
    tell for the others; before that, the bytes that were read do.

    Attributes:
        done: Images and frames that have ended, in this process and in earlier ones.
    """

    def __init__(self, this: RunContext, done: int, open_videos: Iterable[str]) -> None:
        """Begin.

        Args:
            this: The run.
            done: Samples that earlier processes embedded.
            open_videos: Videos that are still to be decoded, or some of their frames.
        """
        self._this = this
        self.done = done
        self._outcomes: Counter[Outcome] = Counter()
        self._listed = len(this.inventory)
        sizes = {video.filename: video.size for video in this.inventory.videos}
        self._sizes = {name: sizes[name] for name in open_videos}
        self._n_videos, self._n_images = len(sizes), self._listed - len(sizes)
        self._open, self._bytes = len(self._sizes), sum(self._sizes.values())
        self._frames = self._frames_ended = 0
        self._bytes_before = self._bytes_ended = 0

    def begin_videos(self) -> None:
        """Note that all that is read from now on is of videos."""
        self._bytes_before = self._this.reader.statistics().bytes_read

    def advance(self, n_samples: int) -> None:
        """Note that so many more images have ended."""
        self.done += n_samples
        self.report()

    def advance_frames(self, n_frames: int, ended: Ended) -> None:
        """Note that so many more frames have ended, and these videos with them."""
        self._frames += n_frames
        for one in ended:
            self._open -= 1
            self._bytes_ended += self._sizes.get(one.filename, 0)
            self._frames_ended = self._frames
        self.advance(n_frames)

    def add(self, failures: Iterable[Failure]) -> None:
        """Count failures.

        Raises:
            TooManyFailuresError: There are more than `max_failures` allows.
        """
        self._outcomes.update(failure.outcome for failure in failures)
        check_failures(sum(self._outcomes.values()), self._this.config.max_failures)
        self.report()

    def report(self) -> None:
        """Tell the progress."""
        self._this.progress(Stage.EMBED, self.done, self._total(), self._note())

    def _total(self) -> int | None:
        """Return how many samples there are; an estimate as long as videos are open."""
        if not self._n_videos:
            return self._listed
        if not self._open:
            return max(self.done, self._n_images)
        frames, known = self._frames_ended, self._bytes_ended
        if not known:
            read = self._this.reader.statistics().bytes_read - self._bytes_before
            frames, known = self._frames, min(read, self._bytes)
        if not frames or not known:
            return None
        rest = frames * self._bytes // known - self._frames
        return max(self.done + max(0, rest), self._n_images)

    def _note(self) -> str:
        told = [f"{n:,} {outcome.value}" for outcome, n in sorted(self._outcomes.items())]
        if self._n_videos:
            ended = self._n_videos - self._open
            videos = counted(self._n_videos, "video")
            frames = counted(self.done - self._n_images, "frame")
            told.insert(0, f"{ended:,} of {videos}" if self._open else f"{videos}, {frames}")
        return ", ".join(told)


def check_failures(n_failures: int, allowed: int) -> None:
    """Raise `TooManyFailuresError` when more failed than `allowed` (-1: any number)."""
    if 0 <= allowed < n_failures:
        raise TooManyFailuresError(
            f"{n_failures:,} samples are corrupt, gone, failed or unreadable; "
            f"max_failures={allowed} allows no more than that",
            hint="raise max_failures and run the same command again: it resumes",
        )
