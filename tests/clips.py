"""Small videos, made with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE = (96, 64)
"""Width and height of the clips."""


def picture(number: int, seed: int = 0) -> np.ndarray:
    """Return an image that no other number or seed has: a bright square on a slanting ramp."""
    width, height = SIDE
    rows, columns = np.mgrid[0:height, 0:width]
    ramp = (rows * 2 + columns + 37 * seed) % 160
    image = np.stack([ramp, (ramp + 60 * seed) % 160, 160 - ramp], axis=2).astype(np.uint8)
    left, top = (7 * number) % (width - 16), (5 * number) % (height - 16)
    image[top : top + 16, left : left + 16] = (255, (40 * number) % 256, (90 * seed) % 256)
    return image


def write_clip(
    path: Path,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    codec: str = "mpeg4",
    rate: int = 10,
    keyframe_every: int = 12,
) -> Path:
    """Write a video of the pictures of `numbers`, one after the other, `rate` a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIDE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.time_base = Fraction(1, rate)
        stream.bit_rate = 2_000_000
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number, seed), format="rgb24")
            frame.pts = place
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def count_frames(path: Path) -> int:
    """Return how many frames a plain decode gives."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
