"""Decoded frames to pixels: the model input, the larger copy, the properties, the full frame."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from lightly_fs.config.run import PropertiesMode
from lightly_fs.decoding.corrupt import CorruptImage, check_size
from lightly_fs.decoding.images import PROPERTY_SIDE, DecodeSettings
from lightly_fs.decoding.raster import Pixels

_RGB = "rgb24"
_PLANES = "gbrp"
"""What is scaled to: swscale has fast code for colours in planes, and none for `rgb24`."""
_HALVED: Mapping[str, tuple[int, int, type[np.unsignedinteger[Any]]]] = {
    "yuv420p": (2, 2, np.uint8),
    "yuvj420p": (2, 2, np.uint8),
    "yuv422p": (2, 1, np.uint8),
    "yuvj422p": (2, 1, np.uint8),
    "yuv444p": (1, 1, np.uint8),
    "yuvj444p": (1, 1, np.uint8),
    "yuv420p10le": (2, 2, np.uint16),
    "yuv422p10le": (2, 1, np.uint16),
    "yuv420p12le": (2, 2, np.uint16),
}
"""Pixel formats that are halved here: luma samples per chroma sample across and down, and type."""


@dataclass(frozen=True, slots=True, eq=False)
class ScaledFrame:
    """What is made of one decoded frame.

    Attributes:
        pixels: (S, S, 3) uint8 RGB, the right way up.
        copy: (L, L, 3) uint8 likewise; None when none was asked for.
        pixel_hash: SHA-256 of `pixels`.
        properties: By the names of `lightly_fs.properties`; empty when they are off.
        width: Of the whole frame in pixels, the right way up.
        height: Likewise.
    """

    pixels: Pixels
    copy: Pixels | None
    pixel_hash: bytes
    properties: Mapping[str, float]
    width: int
    height: int


class FrameScaler:
    """Scales frames for one thread; the tables of the scaler are kept from frame to frame."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def scale(self, frame: VideoFrame) -> ScaledFrame:
        """Squash a frame to the model input, as images are, and measure it.

        Raises:
            CorruptImage: It is too large, or its pixel format is not supported.
        """
        settings = self._settings
        check_size(frame.width, frame.height, settings.max_pixels)
        turns = quarter_turns(frame)
        # As with JPEGs: the same reduction whatever is measured, and both sides stay large enough.
        small = halved(frame, max(settings.size, PROPERTY_SIDE))
        pixels = self._rgb(small, settings.size, settings.size, turns)
        length = settings.copy_size
        width, height = (frame.width, frame.height)[:: -1 if turns % 2 else 1]
        return ScaledFrame(
            pixels=pixels,
            copy=self._rgb(self._source(frame, small, length), length, length, turns)
            if length
            else None,
            pixel_hash=hashlib.sha256(pixels.data).digest(),
            properties=self._properties(frame, small, turns),
            width=width,
            height=height,
        )

    def _source(self, frame: VideoFrame, small: VideoFrame, side: int) -> VideoFrame:
        return small if min(small.width, small.height) >= side else frame

    def _properties(self, frame: VideoFrame, small: VideoFrame, turns: int) -> Mapping[str, float]:
        mode = self._settings.properties
        if mode is PropertiesMode.OFF:
            return {}
        from lightly_fs.properties.measure import measure

        width, height = frame.width, frame.height
        whole = (height, width) if turns % 2 else (width, height)
        source = frame
        shrink = PROPERTY_SIDE / min(width, height)
        if mode is PropertiesMode.SCALED and shrink < 1:
            source = small
            width, height = (max(PROPERTY_SIDE, round(side * shrink)) for side in (width, height))
        pixels = self._rgb(source, width, height, turns)
        known = {"width": whole[0], "height": whole[1], "sizeInBytes": pixels_bytes(*whole)}
        return {name: float(value) for name, value in {**known, **measure(pixels)}.items()}

    def _rgb(self, frame: VideoFrame, width: int, height: int, turns: int) -> Pixels:
        """Return (h, w, 3) pixels, turned; `width` and `height` are as stored."""
        scaler = self._scalers.setdefault((width, height), VideoReformatter())
        # The filter that images are scaled with. Without the chroma flag swscale gives two pixels
        # of a row one colour. One thread: the others decode meanwhile.
        flags = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
        try:
            scaled = scaler.reformat(frame, width, height, _PLANES, interpolation=flags, threads=1)
        except (av.FFmpegError, ValueError) as error:
            raise CorruptImage(f"unsupported (pixel format {frame.format.name})") from error
        return upright(interleaved(scaled), turns)


def pixels_bytes(width: int, height: int) -> int:
    """Return the bytes of a frame's pixels: it has no others of its own."""
    return 3 * width * height


def full_pixels(frame: VideoFrame) -> Pixels:
    """Return (H, W, 3) uint8 RGB at full size, the right way up.

    Raises:
        CorruptImage: The pixel format is not supported.
    """
    try:
        whole = frame.reformat(format=_RGB, threads=1)
    except (av.FFmpegError, ValueError) as error:
        raise CorruptImage(f"unsupported (pixel format {frame.format.name})") from error
    return upright(packed(whole), quarter_turns(frame))


def quarter_turns(frame: VideoFrame) -> int:
    """Return how often a frame is to be turned counterclockwise by 90 degrees; 0 to 3."""
    return round(frame.rotation / 90) % 4


def upright(pixels: Pixels, turns: int) -> Pixels:
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def packed(frame: VideoFrame) -> Pixels:
    """Return a copy of an RGB frame's pixels, (H, W, 3), without the padding of its rows."""
    rows = samples(frame, 0, np.uint8)
    return np.ascontiguousarray(rows[:, : 3 * frame.width]).reshape(frame.height, frame.width, 3)


def interleaved(frame: VideoFrame) -> Pixels:
    """Return the pixels of a frame whose colours lie in planes (green, blue, red), (H, W, 3)."""
    from lightly_fs.decoding.video_kernels import interleave

    green, blue, red = (samples(frame, plane, np.uint8) for plane in range(3))
    pixels = np.empty((frame.height, frame.width, 3), np.uint8)
    interleave(red, green, blue, pixels)
    return pixels


def samples(frame: VideoFrame, plane: int, kind: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Return a view of a plane, (height, samples of a padded row)."""
    one = frame.planes[plane]
    values = np.frombuffer(one, kind)  # type: ignore[call-overload]
    return values.reshape(one.height, -1)  # type: ignore[no-any-return]


def halved(frame: VideoFrame, side: int) -> VideoFrame:
    """Return a frame shrunk by 1, 2, 4 or more, with both sides at least `side` pixels.

    The samples of 2x2 squares are averaged. This costs next to nothing, and the exact scaling
    that follows has a fraction of the samples to look at.
    """
    layout = _HALVED.get(frame.format.name)
    if layout is None:
        return frame
    across, down, kind = layout
    while (
        min(frame.width, frame.height) >= 2 * side
        and frame.width % (2 * across) == 0
        and frame.height % (2 * down) == 0
    ):
        frame = _half(frame, across, down, kind)
    return frame


def _half(
    frame: VideoFrame, across: int, down: int, kind: type[np.unsignedinteger[Any]]
) -> VideoFrame:
    from lightly_fs.decoding.video_kernels import halve

    small = VideoFrame(frame.width // 2, frame.height // 2, frame.format.name)
    small.colorspace, small.color_range = frame.colorspace, frame.color_range
    for plane in range(3):
        width = small.width // (across if plane else 1)
        height = small.height // (down if plane else 1)
        large = samples(frame, plane, kind)[: 2 * height, : 2 * width]
        halve(large, samples(small, plane, kind)[:height, :width])
    return small
