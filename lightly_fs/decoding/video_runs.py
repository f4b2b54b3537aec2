"""A video that several threads decode, and what each of them made of it so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from lightly_fs.decoding.video_file import Entry, ReadableFile
from lightly_fs.decoding.video_sampling import Position
from lightly_fs.decoding.video_unit import Row, Unit
from lightly_fs.types import Failure, Sample, VideoFacts


@dataclass(slots=True, eq=False)
class Run:
    """A unit that is being decoded, and what came out of it.

    Attributes:
        first: Number of its first segment.
        rows: Frames that nobody has taken yet.
        opening: Timestamp and hash of its first frame.
        void: It turned out that the unit before goes on instead.
        ended: Everything has come out; `unit` tells how it ended.
        unit: The decoder's books.
    """

    first: int
    rows: deque[Row] = field(default_factory=deque)
    opening: tuple[int | None, bytes] | None = None
    void: bool = False
    ended: bool = False
    unit: Unit | None = None


@dataclass(slots=True, eq=False)
class Video:
    """A video on its way; everything is guarded by the schedule's condition.

    Attributes:
        owners: By segment, the run that decodes it; None where none does. Empty until the
            container is open.
        runs: By their first segment.
        lost: Segments at which no run may begin.
        shared: Whether several threads may decode it.
        readers: How many threads are decoding it.
        left: Nobody wants its frames any more: the last reader closes the file.
        facts: Known once a run has reached the end.
        end_problem: What the end shows not to be whole.
        failure: Why nothing of it can be used.
    """

    sample: Sample
    start: Position | None
    taken: bool = False
    file: ReadableFile | None = None
    entries: Sequence[Entry] = ()
    owners: list[Run | None] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    shared: bool = False
    readers: int = 0
    left: bool = False
    time_base: Fraction = Fraction(1)
    facts: VideoFacts | None = None
    end_problem: str = ""
    failure: Failure | None = None

    def void(self, run: Run) -> int:
        """Forget a run; return how many rows that frees."""
        freed = len(run.rows)
        run.void = True
        run.rows.clear()
        self.lost.add(run.first)
        self.owners = [None if owner is run else owner for owner in self.owners]
        return freed

    def first_run(self) -> Run | None:
        """Return the run with which the video begins, once it is divided."""
        return self.runs[min(self.runs)] if self.runs else None
