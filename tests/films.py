"""Make small videos of every kind with PyAV, and damage them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

WIDTH, HEIGHT = 128, 96


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A gradient under a moving square: every frame differs, and motion is predicted."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y + 3 * number) % 256], axis=2)
    left, top = (5 * number) % (width - 24), (3 * number) % (height - 24)
    image[top : top + 24, left : left + 24] = (number * 37 % 256, 255 - number * 11 % 256, 80)
    return image.astype(np.uint8)


@dataclass(frozen=True)
class Film:
    """How a test video is encoded; `muxer` where the file's name does not tell it."""

    codec: str = "libx264"
    frames: int = 60
    gop: int = 10
    rate: int = 25
    pixels: str = "yuv420p"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    options: Mapping[str, str] = field(default_factory=dict)
    timestamps: Callable[[int], int] | None = None
    container: Mapping[str, str] = field(default_factory=dict)
    bit_rate: int = 400_000
    audio: bool = False
    muxer: str | None = None
    grain: int = 0
    """Noise of so many levels: it makes files large."""


def shoot(path: Path, film: Film) -> Path:
    width, height = film.size
    with av.open(str(path), "w", format=film.muxer, options=dict(film.container)) as container:
        stream: Any = container.add_stream(film.codec, rate=film.rate, options=dict(film.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, film.pixels
        stream.codec_context.gop_size = film.gop
        stream.codec_context.bit_rate = film.bit_rate
        stream.codec_context.thread_count = 1
        sound = container.add_stream("aac", rate=8000, layout="mono") if film.audio else None
        noise = np.random.default_rng(0)
        for number in range(film.frames):
            image = picture(number, width, height)
            if film.grain:
                image ^= noise.integers(0, film.grain, image.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if film.timestamps is not None:
                frame.pts, frame.time_base = film.timestamps(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
            if sound is not None:
                container.mux(sound.encode(_silence(number)))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


def record_silence(path: Path, pieces: int = 4) -> Path:
    """Write a file that has sound alone."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(pieces):
            container.mux(sound.encode(_silence(number)))
        container.mux(sound.encode(None))
    return path


def leave_empty(path: Path) -> Path:
    """Write a video that has no frame."""
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    return path


def _silence(number: int) -> av.AudioFrame:
    samples = np.zeros((1, 1024), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 8000, 1024 * number
    return frame


def h265(options: str) -> Mapping[str, str]:
    return {"preset": "ultrafast", "x265-params": f"log-level=none:{options}"}


def damage(path: Path, at: Sequence[float], length: int = 200) -> Path:
    """Overwrite pieces of a file, at shares of its size."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for share in at:
        begin = int(share * len(data))
        data[begin : begin + length] = noise.integers(0, 256, length, np.uint8).tobytes()
    broken = path.with_name(f"broken-{path.name}")
    broken.write_bytes(data)
    return broken
