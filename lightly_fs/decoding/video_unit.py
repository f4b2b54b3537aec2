"""A stretch of a video, decoded by one thread: from a keyframe on, as far as it is its turn.

A video whose container has an index is divided at keyframes into segments. A unit begins at one
and goes on through the segments behind it until it meets one that another unit has begun. There
it goes on for the few frames until its own decoder gives the keyframe; only when both decoders
made the same picture of it does the unit end. So what comes out is what one decoder would give.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import av
from av.video.frame import PictureType, VideoFrame

from lightly_fs.decoding.corrupt import CorruptImage
from lightly_fs.decoding.video_file import Entry, VideoError, VideoFile, describe
from lightly_fs.decoding.video_sampling import Position, numbered_keyframes
from lightly_fs.decoding.video_scaling import ScaledFrame
from lightly_fs.types import Outcome

if TYPE_CHECKING:
    from lightly_fs.decoding.video_file import VideoPacket

CORRUPT_FRAME = "broken data (the decoder had to guess parts of this frame)"
TAINTED_FRAME = "broken data (this frame is predicted from one that is broken or missing)"
_B_FRAMES = 16
"""B-frames in a row that wait; encoders that call every frame one must not be waited for."""
_REFRESHED = 2
"""Marks of a stream without whole keyframes after which every part of a frame is new."""
_TAIL = 64
"""Last packets whose frames must have come out, where several threads decode."""

_ALL = -(1 << 63)
"""Instead of a timestamp: the number of all frames."""


@dataclass(slots=True, eq=False)
class Row:
    """One frame that is used.

    Attributes:
        local: Its index among all frames of its unit.
        pts: In the stream's time base; None where the file has none, or one that goes back.
        scaled: Its pixels, or the reason why it has none.
        seekable: Whether a later process can get to it from a keyframe before.
        undecoded: How many packets of its unit could not be decoded, by the reason, before the
            segment in which a later process would begin.
        container_problems: What was broken about the container as far as it was read.
    """

    local: int
    pts: int | None
    scaled: ScaledFrame | str
    seekable: bool
    undecoded: Mapping[str, int]
    container_problems: Sequence[str]


class LostKeyframe(Exception):
    """The frame at which a unit was to begin does not come out of its decoder."""


class _Untrusted(Exception):
    """Something is broken, and several threads decode: what comes out depends on their timing."""


class Picks(Protocol):
    """Decides which frames are used; see `Picker`."""

    @property
    def keyframes_only(self) -> bool: ...
    def wants(self, index: int, pts: int | None, *, key: bool) -> bool: ...


Meet = Callable[[int, int, Callable[[], bytes]], bool]
"""Told a segment's number, its keyframe's timestamp and hash: tells whether the unit ends."""


@dataclass(slots=True, eq=False)
class Unit:
    """Decodes from a segment on.

    Attributes:
        video: The opened container; nobody else may use it meanwhile.
        scale: Makes pixels of a frame.
        picker: Decides which frames are used, by their index in the video.
        entries: Keyframes at which segments begin: segment `i` at `entries[i - 1]`.
        first: Number of the segment in which the unit begins.
        start: The first frame, where it is not the first of the segment.
        meet: Asked at every segment that is reached.
        n_frames: All frames so far.
        n_corrupt: Corrupt ones of them.
        last_pts: The largest timestamp so far.
        ended_at: Number of the segment at which the unit ended; None at the video's end.
    """

    video: VideoFile
    scale: Callable[[VideoFrame], ScaledFrame]
    picker: Picks
    entries: Sequence[Entry]
    first: int
    start: Position | None
    meet: Meet
    n_frames: int = 0
    n_corrupt: int = 0
    last_pts: int | None = None
    ended_at: int | None = None
    container_problems: Sequence[str] = ()
    _problems: dict[tuple[int, str], int] = field(default_factory=dict)
    _reached: int = 0
    _segment: int = 0
    """The segment of the frame that is shown; `_reached` that of the packet that is read."""
    _seekable: bool = True
    _marks: dict[int, int] = field(default_factory=dict)
    """Segments whose keyframes are in the decoder, by their timestamps."""
    _numbers: dict[int, int] = field(default_factory=dict)
    """Indices of keyframes that are in the decoder, by their timestamps."""
    _tainted: int | None = None
    """Keyframes since a frame was broken; None when every frame is what was encoded."""
    _lost_pts: int | None = None
    """Timestamp of a frame that could not be decoded; those before it are good."""
    _origin: int | None = None
    """Index that the first keyframe would have if the unit began the video."""

    @property
    def undecoded(self) -> Mapping[str, int]:
        """How many packets could not be decoded, by the reason."""
        return self._undecoded(len(self.entries) + 1 if self.ended_at is None else self.ended_at)

    def _undecoded(self, before: int) -> Mapping[str, int]:
        counted: dict[str, int] = {}
        for (number, reason), count in self._problems.items():
            if number < before:
                counted[reason] = counted.get(reason, 0) + count
        return counted

    def rows(self) -> Iterator[Row]:
        """Decode, and yield the frames that are used.

        Where something is broken, several threads of one decoder do not always make the same of
        it: then all is decoded again by one, and what was given is not given again.

        Raises:
            LostKeyframe: The unit cannot begin where it was to.
            VideoError: The file cannot be read.
        """
        try:
            yield from self._rows(skip=0)
            return  # noqa: TRY300 - all that follows is for the exception
        except _Untrusted:
            skip = self.n_frames
        self.n_frames = self.n_corrupt = 0
        self._origin = self._tainted = self._lost_pts = None
        for kept in (self._problems, self._marks, self._numbers):
            kept.clear()
        self.video.restart(threads=1)
        yield from self._rows(skip=skip)

    def _rows(self, skip: int) -> Iterator[Row]:
        opening, frames = self._begin()
        self._segment = self.first
        wanted = None if self.start is None else self.start.pts
        self.last_pts = None
        for frame, broken in self._judged(frames, opening):
            if wanted is not None and not _reaches(frame, wanted):
                continue
            wanted = None
            pts = frame.pts
            if pts is None or (self.last_pts is not None and pts <= self.last_pts):
                pts = None
            else:
                self.last_pts = pts
            number = None if frame.pts is None else self._marks.pop(frame.pts, None)
            if number is not None:
                self._segment = number
                if self._ends(frame, number, pts):
                    return
            row = self._counted(frame, pts, broken, skip)
            if row is not None:
                yield row
        if wanted is not None:
            raise LostKeyframe
        if _ALL in self._numbers:
            self.n_frames = max(self.n_frames, self._numbers.pop(_ALL) - (self._origin or 0))

    def _begin(self) -> tuple[int | None, Iterator[VideoFrame]]:
        """Go to the first segment; return its keyframe's timestamp, and the frames from there."""
        self._reached = self.first
        if not self.first:
            return None, self._frames(self.video.packets(), None)
        entry = self.entries[self.first - 1]
        packets = self.video.packets()
        try:
            self.video.seek(entry)
            packet = next(packets)
        except (av.FFmpegError, OSError) as error:
            self.video.check_file(error)
            raise LostKeyframe from error
        pts = packet.pts if packet.size else None
        if self.start is not None and pts is not None and pts > self.start.pts:
            packets.close()
            self.first -= 1
            if not self.first:
                self.video.restart(threads=self.video.threads)
            return self._begin()
        if pts is None or not entry.is_at(packet):
            raise LostKeyframe
        return pts, self._frames(chain([packet], packets), pts)

    def _frames(self, packets: Iterator[VideoPacket], opening: int | None) -> Iterator[VideoFrame]:
        """Yield all frames of packets; what cannot be decoded is counted, and left out."""
        threaded = self.video.threads > 1
        fed: deque[int] = deque(maxlen=_TAIL)
        given: deque[int] = deque(maxlen=2 * _TAIL)
        surplus = 0
        for packet in self._chosen(packets, opening):
            ends = not packet.size
            if not ends:
                self._mark(packet)
            try:
                frames = self.video.decode(None if ends else packet)
            except av.FFmpegError as error:
                self._failed(error, packet, opening)
                continue
            if threaded:
                if any(frame.is_corrupt for frame in frames):
                    raise _Untrusted
                surplus += (not ends and not packet.is_discard) - len(frames)
                if packet.pts is not None and not packet.is_discard:
                    fed.append(packet.pts)
                given.extend(frame.pts for frame in frames if frame.pts is not None)
            yield from frames
        if threaded and (not set(fed) <= set(given) if fed else surplus > 0):
            raise _Untrusted  # an error at the end takes the frames behind it along

    def _chosen(self, packets: Iterator[VideoPacket], opening: int | None) -> Iterator[VideoPacket]:
        """Yield the packets that are decoded: all, or keyframes where their index can be told."""
        first = next(packets, None)
        if first is None:
            return
        packets = chain([first], packets)
        if not self.picker.keyframes_only or first.pts is None:
            yield from packets
            return
        own = (p for p in packets if not p.size or p.pts is None or p.pts >= (opening or p.pts))
        for packet, number in numbered_keyframes(own):
            self._numbers[_ALL if packet.pts is None else packet.pts] = number
            yield packet

    def _mark(self, packet: VideoPacket) -> None:
        """Remember that a packet begins a segment."""
        if not packet.is_keyframe or packet.pts is None:
            return
        number = self._reached + 1
        while number <= len(self.entries) and not self.entries[number - 1].is_at(packet):
            entry = self.entries[number - 1]
            if packet.dts is None or entry.timestamp > max(packet.dts, packet.pts):
                return
            number += 1
        if number <= len(self.entries):
            self._reached = number
            self._marks[packet.pts] = number

    def _failed(self, error: av.FFmpegError, packet: VideoPacket, opening: int | None) -> None:
        if isinstance(error, MemoryError):
            reason = "not enough memory to decode the video"
            raise VideoError(Outcome.FAILED, reason) from error
        if self.video.threads > 1:
            raise _Untrusted from error
        if opening is None or packet.pts is None or packet.pts >= opening:
            if not packet.is_disposable:
                self._tainted, self._lost_pts = 0, packet.pts
            key = self._reached, describe(error)
            self._problems[key] = self._problems.get(key, 0) + 1

    def _opens(self, frame: VideoFrame, opening: int | None) -> bool:
        """Return whether this is the keyframe at which the unit begins; frames before it are not.

        They belong to the unit before, and here the frames that they refer to are missing.
        """
        if frame.pts is None or opening is None or frame.pts < opening:
            return False
        if frame.pts > opening or not _is_whole_keyframe(frame):
            raise LostKeyframe
        return True

    def _ends(self, frame: VideoFrame, number: int, pts: int | None) -> bool:
        """Meet the segment that this frame begins."""
        self._seekable = pts is not None and _is_whole_keyframe(frame)
        if pts is None or not self._seekable:
            return self.meet(number, -1, bytes)
        if self.meet(number, pts, lambda: self.scale(frame).pixel_hash):
            self.ended_at = number
            return True
        return False

    def _counted(self, frame: VideoFrame, pts: int | None, broken: str, skip: int) -> Row | None:
        """Count a frame; return it if it is used and was not given before."""
        local = self.n_frames
        if frame.pts is not None and frame.pts in self._numbers:
            number = self._numbers.pop(frame.pts)
            if self._origin is None:
                self._origin = number if self.start is not None else 0
            local = number - self._origin
        self.n_frames = local + 1
        self.n_corrupt += bool(broken)
        if local < skip:
            return None
        base = 0 if self.start is None else self.start.index
        if not self.picker.wants(base + local, pts, key=frame.key_frame):
            return None
        scaled: ScaledFrame | str = broken
        if not broken:
            try:
                scaled = self.scale(frame)
            except CorruptImage as error:
                scaled = error.reason
                self.n_corrupt += 1
        return Row(
            local,
            pts,
            scaled,
            seekable=self._seekable and pts is not None,
            undecoded=self._undecoded(self._segment) if self._problems else {},
            container_problems=(*self.video.problems,),
        )

    def _judged(
        self, frames: Iterator[VideoFrame], opening: int | None
    ) -> Iterator[tuple[VideoFrame, str]]:
        """Yield the unit's own frames, each with what is wrong with it.

        B-frames are shown before a frame that they are predicted from: they wait for it.
        """
        held: deque[tuple[VideoFrame, str]] = deque()
        opened = opening is None
        for frame in frames:
            opened = opened or self._opens(frame, opening)
            if not opened:
                continue
            broken = self._broken(frame)
            if broken == CORRUPT_FRAME:
                held = deque((one, reason or TAINTED_FRAME) for one, reason in held)
            held.append((frame, broken))
            if frame.pict_type != PictureType.B:
                yield from held
                held.clear()
            elif len(held) > _B_FRAMES:
                yield held.popleft()
        yield from held
        if not opened:
            raise LostKeyframe

    def _broken(self, frame: VideoFrame) -> str:
        """Return why a frame is not what was encoded; "" when it is.

        A decoder flags the frame of which it had to guess parts, but not those that are
        predicted from it, up to the next keyframe: they are smeared, and the most diverse of all.
        """
        if self.picker.keyframes_only:  # nothing is predicted
            return CORRUPT_FRAME if frame.is_corrupt else ""
        if frame.is_corrupt:
            self._tainted, self._lost_pts = 0, None
            return CORRUPT_FRAME
        if self._tainted is None or self._precedes_the_loss(frame):
            return ""
        self._tainted += frame.key_frame
        if _is_whole_keyframe(frame) or self._tainted >= _REFRESHED:
            self._tainted = self._lost_pts = None
            return ""
        return TAINTED_FRAME

    def _precedes_the_loss(self, frame: VideoFrame) -> bool:
        if frame.pict_type == PictureType.B or frame.pts is None or self._lost_pts is None:
            return False
        return frame.pts < self._lost_pts


def _reaches(frame: VideoFrame, wanted: int) -> bool:
    if frame.pts is not None and frame.pts > wanted:
        raise LostKeyframe
    return frame.pts == wanted


def _is_whole_keyframe(frame: VideoFrame) -> bool:
    """Return whether a frame is intact without any other one.

    Streams that are refreshed piece by piece mark such points as keyframes, but not as I-frames.
    """
    return frame.key_frame and not frame.is_corrupt and frame.pict_type == PictureType.I
