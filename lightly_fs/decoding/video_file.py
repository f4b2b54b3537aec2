"""An opened video: its packets, its seekable keyframes, and why it cannot be decoded."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, cast

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lightly_fs.datasource.ranged import RangedReadError
from lightly_fs.decoding.corrupt import CorruptImage, check_size
from lightly_fs.decoding.video_container import HEAD_BYTES, ends_in_index, told_bytes
from lightly_fs.decoding.video_input import VideoInput
from lightly_fs.types import Outcome, VideoFacts

if TYPE_CHECKING:
    from av.container import InputContainer

    VideoPacket = Packet[VideoStream]

_BUFFER_BYTES = 1 << 18
"""Read at once from the file object: each read takes the interpreter lock."""
_WITH_INDEX = frozenset({"mov", "matroska", "avi"})
"""Containers whose index is whole once it is read; others build theirs while they are read."""
_SLACK = 0.05
"""Of the duration that a whole file may lack; two frames and half a second in any case."""
_TRUNCATED = "truncated: the file ends in the middle"
_CUT_INDEX = "truncated: the file ends in the middle of its index (moov)"
_INDEXED = 0.8
"""Of the duration that an index must cover to be taken for whole."""
_FORGIVEN = 64
"""Errors of a container in a row after which nothing more is expected of it."""


class ReadableFile(Protocol):
    """What is needed of a `lightly_fs.datasource.ranged.RangedFile`."""

    size: int

    @property
    def error(self) -> RangedReadError | None: ...
    def handle(self) -> io.RawIOBase: ...
    def close(self) -> None: ...


class VideoError(Exception):
    """A video without any usable frame."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A keyframe in the index of a container.

    Attributes:
        timestamp: As the index has it: decoding or presentation time.
        pos: Its byte, or the byte of what contains it.
        until: The last timestamp before the next keyframe's.
    """

    timestamp: int
    pos: int
    until: int

    def is_at(self, packet: VideoPacket) -> bool:
        """Return whether the packet is this keyframe."""
        where = (packet.dts, packet.pts)
        return packet.is_keyframe and (self.timestamp in where or packet.pos == self.pos)


class VideoFile:
    """One opened container, for one thread at a time; several may read the same file."""

    def __init__(self, file: ReadableFile, *, threads: int, max_pixels: int) -> None:
        """Open the container and its first video stream.

        Args:
            file: Where the bytes are; stays the caller's.
            threads: Of the decoder.
            max_pixels: Larger frames are refused.

        Raises:
            VideoError: No frame of it can be decoded.
        """
        if not file.size:
            raise VideoError(Outcome.CORRUPT, "empty file")
        self._file = file
        self._input = VideoInput(file.handle())
        self._max_pixels = max_pixels
        self.problems: list[str] = []
        try:
            self.container = self._opened()
            self.stream = self._video_stream()
        except BaseException:
            self._input.close()
            raise
        self.use_threads(threads)

    def use_threads(self, threads: int) -> None:
        """Set the threads of the decoder, before anything is decoded."""
        self.threads = threads
        if self.stream.codec_context.name == "mjpeg":  # else it fills in what is missing, silently
            self.stream.codec_context.options = {"err_detect": "explode"}
        self.stream.codec_context.thread_count = threads
        self.stream.codec_context.thread_type = "SLICE" if threads == 1 else "AUTO"

    def restart(self, threads: int) -> None:
        """Begin anew, with a decoder that knows of nothing.

        Raises:
            VideoError: The file cannot be opened any more.
        """
        self.container.close()
        self._input.seek(0)
        self.container = self._opened()
        self.stream = self._video_stream()
        self.use_threads(threads)

    @property
    def name(self) -> str:
        """The container's kind, as FFmpeg names it."""
        return self.container.format.name

    @property
    def time_base(self) -> Fraction:
        return self.stream.time_base or Fraction(1, 1_000_000)

    @property
    def frame_rate(self) -> Fraction | None:
        return self.stream.average_rate or self.stream.guessed_rate or None

    @property
    def seconds(self) -> float | None:
        """Duration as the file tells it."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        return self.container.duration / 1e6 if self.container.duration else None

    def packets(self) -> Generator[VideoPacket, None, None]:
        """Yield packets from where the container is, the empty one at the end last.

        What cannot be read is left out, and a reason is added to `problems`.

        Raises:
            VideoError: The file cannot be read.
        """
        errors = 0
        while True:
            try:
                for packet in self.container.demux(self.stream):
                    if not packet.size:
                        self.check_file()
                    else:
                        errors = 0
                    yield packet
                return  # noqa: TRY300 - the loop is left here
            except (av.FFmpegError, OSError, RangedReadError) as error:
                self.check_file(error)
                errors += 1
                self.problems.append(f"the container is broken ({describe(error)})")
                if errors >= _FORGIVEN:
                    yield cast("VideoPacket", Packet())
                    return

    def check_file(self, error: BaseException | None = None) -> None:
        """Raise what reading the file raised, which FFmpeg makes something else of.

        Raises:
            VideoError: The file cannot be read.
            LightlyFSError: The system is broken.
        """
        failed = self._file.error
        if failed is not None:
            raise VideoError(failed.outcome, failed.reason) from error
        if self._input.error is not None:
            raise self._input.error

    def entries(self, step: float) -> list[Entry]:
        """Return keyframes at which decoding may begin, about `step` seconds apart, in order.

        The first of the video is left out. Empty where the container has no index, or one of a
        part only: then there is one way through it, from the start to the end.

        Raises:
            VideoError: The file cannot be read.
        """
        if self.name.split(",", 1)[0] not in _WITH_INDEX:
            return []
        if self.name.startswith("matroska"):
            try:
                self.container.seek(0, stream=self.stream)  # only now its index is read
            except (av.FFmpegError, OSError, RangedReadError) as error:
                self.check_file(error)
                return []
            self.check_file()
        index = self.stream.index_entries
        if len(index) < 2 or not self._reaches_the_end(index[len(index) - 1].timestamp):
            return []
        stride = max(1, int(step / self.time_base))
        origin, last = index[0].timestamp, index[len(index) - 1].timestamp
        found: list[Entry] = []
        at = origin
        while True:
            at = max(at + 1, origin + ((at - origin) // stride + 1) * stride)
            number = index.search_timestamp(at, backward=False)
            if number < 0 or index[number].pos >= self._file.size:
                break
            at, pos = index[number].timestamp, index[number].pos
            after = index.search_timestamp(at + 1, backward=False)
            found.append(Entry(at, pos, index[after].timestamp - 1 if after >= 0 else last))
        return found

    def problem(self, seconds: float | None) -> str:
        """Return what shows that the file is not whole, once it is read; "" where nothing does.

        Args:
            seconds: Time of the last frame.
        """
        index = self.stream.index_entries
        if self.name.startswith("mov"):
            if not len(index) and self._ends_in_index():
                return _CUT_INDEX
            if (
                len(index)
                and index[len(index) - 1].pos + index[len(index) - 1].size > self._file.size
            ):
                return _TRUNCATED
        return self._missing_seconds(seconds) or self._missing_bytes()

    def _missing_seconds(self, seconds: float | None) -> str:
        end = self._own_seconds()
        begin = float((self.stream.start_time or 0) * self.time_base)
        if end is None or seconds is None or self.name.split(",", 1)[0] not in _WITH_INDEX:
            return ""  # others tell a duration by their last timestamps
        missing = end - (seconds - begin)
        if missing > max(0.5, 2 / float(self.frame_rate or 25), _SLACK * end):
            return f"{_TRUNCATED}: {end:,.1f} s are told, the last frame is at {seconds:,.1f} s"
        return ""

    def _missing_bytes(self) -> str:
        """Return how many bytes the file tells and does not have; "" where it has them."""
        with self._file.handle() as handle:  # what FFmpeg reads from stays where it is
            told = told_bytes(bytes(handle.read(HEAD_BYTES) or b""))
        if told is None or told <= self._file.size:
            return ""
        return f"{_TRUNCATED}: {told:,} bytes are told, it has {self._file.size:,}"

    def seek(self, entry: Entry) -> None:
        """Go to a keyframe, with a decoder that knows of nothing before it.

        Raises:
            av.FFmpegError: There is no way to it.
        """
        self.container.seek(entry.until, stream=self.stream)

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame]:
        """Return the frames that come out behind a packet; None ends the stream.

        Raises:
            av.FFmpegError: The packet cannot be decoded.
        """
        return self.stream.codec_context.decode(packet)

    def facts(self, filename: str) -> VideoFacts:
        """Return what the container tells; the counts are those of who decoded."""
        rate = self.frame_rate
        return VideoFacts(
            filename=filename,
            n_frames=0,
            n_corrupt=0,
            codec=self.stream.codec_context.codec.canonical_name,
            container=self.name,
            width=self.stream.codec_context.width,
            height=self.stream.codec_context.height,
            frame_rate=float(rate) if rate else None,
            seconds=self.seconds,
        )

    def close(self) -> None:
        self.container.close()
        self._input.close()

    def _opened(self) -> InputContainer:
        try:
            container = av.open(self._input, mode="r", buffer_size=_BUFFER_BYTES)
        except (av.FFmpegError, OSError, ValueError, RangedReadError) as error:
            self.check_file(error)
            raise VideoError(Outcome.CORRUPT, self._why_not(error)) from error
        try:
            self.check_file()
        except BaseException:
            container.close()
            raise
        return container

    def _why_not(self, error: Exception) -> str:
        """Return why the container cannot be opened, in words that name what to do."""
        if self._ends_in_index():
            return _CUT_INDEX
        with self._file.handle() as handle:
            head = bytes(handle.read(12) or b"")
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
            return (
                "truncated: the index (moov) is missing, as when a recording was not finished "
                f"({describe(error)})"
            )
        return f"not a video (begins with {head!r}: {describe(error)})"

    def _video_stream(self) -> VideoStream:
        """Return the first stream of moving pictures; a cover of an audio file is none."""
        if self.name.endswith("_pipe"):
            self.container.close()
            raise VideoError(Outcome.CORRUPT, f"not a video but a still image ({self.name})")
        cover = av.stream.Disposition.attached_pic
        streams = self.container.streams.video
        stream = next((one for one in streams if not one.disposition & cover), None)
        reason = self._no_video() if stream is None else self._unfit(stream)
        if reason is not None and self.name.startswith("mov") and self._ends_in_index():
            reason = _CUT_INDEX
        if stream is None or reason is not None:
            self.container.close()
            raise VideoError(Outcome.CORRUPT, reason or "")
        return stream

    def _ends_in_index(self) -> bool:
        with self._file.handle() as handle:
            return ends_in_index(handle, self._file.size)

    def _unfit(self, stream: VideoStream) -> str | None:
        """Return why no frame of a stream can be used, or None."""
        codec = stream.codec_context
        if codec is None:
            return f"unsupported codec ({_tag_of(stream)})"
        if stream.codec_tag in ("encv", "drmi"):
            return f"encrypted ({stream.codec_tag})"
        try:
            if codec.width and codec.height:
                check_size(codec.width, codec.height, self._max_pixels)
        except CorruptImage as error:
            return error.reason
        return None

    def _no_video(self) -> str:
        kinds = sorted({stream.type for stream in self.container.streams})
        if kinds == ["audio"]:
            return "no video stream: only audio"
        return f"no video stream: {', '.join(kinds) if kinds else 'nothing in the container'}"

    def _own_seconds(self) -> float | None:
        """Return how long the video stream is, where the file tells that of it alone."""
        if self.name == "avi" and self.stream.frames and self.frame_rate:
            return float(self.stream.frames / self.frame_rate)
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        if self.container.duration and len(self.container.streams) == 1:
            return self.container.duration / 1e6
        return None

    def _reaches_the_end(self, timestamp: int) -> bool:
        """Tell whether an index that ends with a timestamp covers the whole file."""
        duration = self.container.duration
        if duration is None:
            return False
        begin = float((self.stream.start_time or 0) * self.time_base)
        return float(timestamp * self.time_base) - begin >= _INDEXED * duration / 1e6


def describe(error: BaseException) -> str:
    """Return what an error of FFmpeg says, without its number and file."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]


def _tag_of(stream: VideoStream) -> str:
    return getattr(stream, "codec_tag", None) or "unknown"
