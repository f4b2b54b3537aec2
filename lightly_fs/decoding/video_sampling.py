"""Which frames of a video are used, and where a later process goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Packet = Any
"""`av.Packet`: imported only where files are opened."""

_ROUNDING = 1e-6
"""Of a sampling interval: 29.97 is no rate that any clock keeps, and a frame must not be lost."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames are given; all of them by default, and at most one rule.

    Attributes:
        fps: Frames per second of the video's time: the first frame at or after every 1/fps s.
        every_nth: Frames 0, n, 2n, … by their index over all frames.
        keyframes_only: Frames that are coded without any other; the others are not decoded.
    """

    fps: float | None = None
    every_nth: int = 1
    keyframes_only: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: More than one rule is given, or one that selects nothing.
        """
        if (self.fps is not None) + (self.every_nth != 1) + self.keyframes_only > 1:
            raise ValueError("fps, every_nth and keyframes_only exclude one another: give one")
        if self.fps is not None and not (0 < self.fps < math.inf):
            raise ValueError(f"fps={self.fps} must be a positive number")
        if self.every_nth < 1:
            raise ValueError(f"every_nth={self.every_nth} must be at least 1")

    @property
    def is_all(self) -> bool:
        return self == Sampling()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a later process goes on in a video.

    Attributes:
        video: Its filename.
        index: Of the next frame, over all frames.
        pts: Of the next frame, in the stream's time base.
        undecoded: Packets before that could not be decoded, by the reason.
        container_problems: What was broken about the container before.
    """

    video: str
    index: int
    pts: int
    undecoded: Mapping[str, int] = field(default_factory=dict)
    container_problems: Sequence[str] = ()


@dataclass(slots=True)
class Picker:
    """Decides frame after frame, in presentation order.

    Attributes:
        sampling: The rule.
        time_base: Seconds per unit of the timestamps.
        frame_rate: Tells the time of frames without a timestamp.
        origin: Timestamp at which the video begins.
    """

    sampling: Sampling
    time_base: Fraction
    frame_rate: Fraction
    origin: int
    _slot: int | None = field(default=None)

    @property
    def keyframes_only(self) -> bool:
        """Whether packets of other frames need not be decoded."""
        return self.sampling.keyframes_only

    def wants(self, index: int, pts: int | None, *, key: bool) -> bool:
        if self.sampling.keyframes_only:
            return key
        if self.sampling.fps is None:
            return index % self.sampling.every_nth == 0
        seconds = index / self.frame_rate if pts is None else (pts - self.origin) * self.time_base
        slot = math.floor(float(seconds) * self.sampling.fps + _ROUNDING)
        wanted = self._slot is None or slot > self._slot
        self._slot = slot if self._slot is None else max(slot, self._slot)
        return wanted


def numbered_keyframes(packets: Iterable[Packet]) -> Iterator[tuple[Packet, int]]:
    """Yield keyframe packets alone, each with its frame's index by the timestamps of all packets.

    An index is the number of packets that are shown earlier. It is known once decoding time has
    passed the keyframe's timestamp, so a keyframe waits for the few that are shown before it.
    The last item is the empty packet that ends a stream, with the number of all packets.
    """
    settled = 0
    later: list[int] = []  # timestamps that may still have earlier ones behind them
    waiting: list[Packet] = []
    for packet in packets:
        if packet.pts is None or not packet.size:
            if not packet.size:
                yield from _numbered(waiting, settled, later)
                yield packet, settled + len(later)
                return
            settled += 1
            continue
        if packet.is_discard:
            continue
        later.append(packet.pts)
        if packet.is_keyframe:
            waiting.append(packet)
        now = packet.dts
        if now is None:
            continue
        ready = [one for one in waiting if one.pts <= now]
        if ready:
            waiting = [one for one in waiting if one.pts > now]
            yield from _numbered(ready, settled, later)
        settled += sum(pts < now for pts in later)
        later = [pts for pts in later if pts >= now]
    yield from _numbered(waiting, settled, later)


def _numbered(
    ready: Iterable[Packet], settled: int, later: list[int]
) -> Iterator[tuple[Packet, int]]:
    for packet in ready:
        yield packet, settled + sum(pts < packet.pts for pts in later)
