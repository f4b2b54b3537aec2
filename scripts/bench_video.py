"""Speed of decoding videos, against plain PyAV in the same round: one JSON line per case.

    python scripts/bench_video.py [--codecs h264 hevc …] [--threads 2] [--rounds 3] [--images DIR]
    python scripts/bench_video.py --codecs --long --resume
    python scripts/bench_video.py --codecs --long --whole-run

The floor is PyAV decoding alone, with as many threads; `plain` turns each frame into an RGB array
besides. Cases take turns in every round, so that a busy machine slows them all; medians count.
CPU milliseconds are the process's: the figure to go by where other programs run. `--whole-run` is
`lightly-fs run` on the long video, with embedding, selection and report; its peak memory is given
above that of a run on 64 frames too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import psutil
from av.video.stream import VideoStream
from bench_process import run_measured
from PIL import Image

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.videos import FrameBatch, Position, Sampling, frame_batches
from lightly_fs.types import Failure, Sample, VideoFacts

WIDTH, HEIGHT, RATE = 1280, 720, 25


@dataclass(frozen=True)
class Coding:
    suffix: str
    encoder: str
    options: dict[str, str]
    pixels: str = "yuv420p"
    bit_rate: int = 4_000_000


CODINGS = {
    "h264": Coding("mp4", "libx264", {"preset": "veryfast"}),
    "hevc": Coding(
        "mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=48"}
    ),
    "vp9": Coding("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": Coding("mp4", "libsvtav1", {"preset": "12", "svtav1-params": "keyint=48"}),
    "mpeg4": Coding("mp4", "mpeg4", {}),
    "mpeg2": Coding("mpg", "mpeg2video", {}),
    "mjpeg": Coding("avi", "mjpeg", {}, "yuvj420p", 20_000_000),
}


def scenery(images: Path | None) -> np.ndarray:
    """Return a large picture: photographs beside each other, or smooth noise."""
    paths = sorted(images.rglob("*.jpg"))[:24] if images else []
    if len(paths) < 24:
        noise = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
        return np.asarray(Image.fromarray(noise).resize((3840, 1920), Image.Resampling.BICUBIC))
    tiles = [np.asarray(Image.open(path).convert("RGB").resize((640, 480))) for path in paths]
    return np.concatenate([np.concatenate(tiles[i : i + 6], 1) for i in range(0, 24, 6)], 0)


def film(path: Path, coding: Coding, frames: int, picture: np.ndarray) -> None:
    """Write a window that moves over a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(coding.encoder, rate=RATE, options=dict(coding.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, coding.pixels
        stream.codec_context.bit_rate = coding.bit_rate
        stream.codec_context.gop_size = 48
        for number in range(frames):
            x = int((picture.shape[1] - WIDTH) * (0.5 + 0.5 * np.sin(number / 37)))
            y = int((picture.shape[0] - HEIGHT) * (0.5 + 0.5 * np.cos(number / 53)))
            seen = np.ascontiguousarray(picture[y : y + HEIGHT, x : x + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")))
        container.mux(stream.encode(None))


def plainly(path: Path, threads: int, use: Callable[[av.VideoFrame], object]) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO"
        return sum(1 for frame in container.decode(stream) if use(frame) is not None)


def batches(
    path: Path,
    threads: int,
    mode: PropertiesMode,
    start: Position | None = None,
    size: int = 224,
) -> Iterator[FrameBatch]:
    reader = DirectoryReader(path.parent, threads=2)
    stat = path.stat()
    sample = Sample(path.name, stat.st_size, None, stat.st_mtime_ns)
    settings = DecodeSettings(size, mode, threads=threads)
    with closing(reader):
        yield from frame_batches([sample], reader.open, settings, Sampling(), start=start)


def compare(name: str, path: Path, threads: int, rounds: int, size: int) -> None:
    def ours(mode: PropertiesMode) -> Callable[[], int]:
        return lambda: sum(len(batch.results) for batch in batches(path, threads, mode, size=size))

    cases = {
        "floor": lambda: plainly(path, threads, lambda frame: frame),
        "plain": lambda: plainly(path, threads, lambda frame: frame.to_ndarray(format="rgb24")),
        "off": ours(PropertiesMode.OFF),
        "scaled": ours(PropertiesMode.SCALED),
    }
    wall: dict[str, list[float]] = {case: [] for case in cases}
    cpu: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, run in cases.items():
            begun, used = time.perf_counter(), time.process_time()
            frames = run()
            wall[case].append((time.perf_counter() - begun) / frames)
            cpu[case].append((time.process_time() - used) / frames)
    floor = {"wall": statistics.median(wall["floor"]), "cpu": statistics.median(cpu["floor"])}
    for case in cases:
        seconds, used = statistics.median(wall[case]), statistics.median(cpu[case])
        row = {
            "codec": name,
            "case": case,
            "threads": threads,
            "size": size,
            "frames_per_s": round(1 / seconds, 1),
            "of_floor": round(floor["wall"] / seconds, 3),
            "cpu_ms_per_frame": round(1000 * used, 3),
            "of_floor_by_cpu": round(floor["cpu"] / used, 3),
        }
        print(json.dumps(row), flush=True)


class Peak:
    """Largest resident memory of this process while it is open, in MiB above the start."""

    def __enter__(self) -> Peak:
        self._process, self._ended = psutil.Process(), threading.Event()
        self._start = self._most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._most = max(self._most, self._process.memory_info().rss)

    @property
    def mebibytes(self) -> float:
        return (self._most - self._start) / (1 << 20)


def long_film(path: Path, frames: int) -> None:
    """Write two hours of small frames: what grows with the length shows, and takes no hour."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=max(1, round(frames / 7200)), options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.gop_size = 60
        picture = np.zeros((240, 320, 3), np.uint8)
        for number in range(frames):
            picture[:, number * 8 % 320] = number * 7 % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def measure_long(path: Path, threads: int, frames: int) -> None:
    for _ in batches(path, threads, PropertiesMode.OFF):
        break
    with Peak() as peak:
        begun, count, ended = time.perf_counter(), 0, None
        for batch in batches(path, threads, PropertiesMode.OFF):
            count += len(batch.results)
            ended = batch.ended[0] if batch.ended else None
    facts = ended if isinstance(ended, VideoFacts) else None
    row = {
        "case": "long",
        "hours": round((facts.seconds or 0) / 3600, 2) if facts else None,
        "frames_written": frames,
        "frames": count,
        "n_frames": facts.n_frames if facts else None,
        "frames_per_s": round(count / (time.perf_counter() - begun)),
        "peak_mib_above_start": round(peak.mebibytes),
    }
    print(json.dumps(row), flush=True)


def measure_run(path: Path, scratch: Path) -> None:
    """Run the whole program on a long video, and on one of a few frames to compare with."""
    few = path.with_name("few.mp4")
    if not few.exists():
        long_film(few, 64)
    peaks = {}
    for video in (few, path):
        folder, output = scratch / f"in-{video.stem}", scratch / f"out-{video.stem}"
        folder.mkdir()
        output.mkdir()
        (folder / video.name).hardlink_to(video)
        command = [sys.executable, "-m", "lightly_fs", "run", f"input_dir={folder}"]
        command += [f"output_dir={output}", "stopping_condition.n_samples=30", "run_directory=r"]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        usage = run_measured(command, environ, scratch / f"{video.stem}.log")
        if usage.code:
            raise SystemExit((scratch / f"{video.stem}.log").read_text())
        counts = json.loads((output / "r/manifest.json").read_text())["counts"]
        peaks[video] = usage.peak_rss_mb * 1e6 / (1 << 20)
        row = {
            "case": "run",
            "frames": counts["frames"],
            "embedded": counts["embedded"],
            "seconds": round(usage.wall_s, 1),
            "cpu_seconds": round(usage.cpu_s, 1),
            "peak_mib": round(peaks[video]),
            "peak_mib_above_few_frames": round(peaks[video] - peaks[few]),
        }
        print(json.dumps(row), flush=True)


def hashes_of(batch: FrameBatch) -> list[bytes]:
    return [b"" if isinstance(one, Failure) else one.pixel_hash for one in batch.results]


def measure_resume(name: str, path: Path, threads: int) -> None:
    """Stop in the middle, go on there, and compare with one pass."""
    hashes: list[bytes] = []
    position, done = None, 0
    for batch in batches(path, threads, PropertiesMode.OFF):
        hashes += hashes_of(batch)
        if position is None and len(hashes) >= 150 and batch.resume is not None:
            position, done = batch.resume, len(hashes)
    rest = [
        digest
        for batch in batches(path, threads, PropertiesMode.OFF, position)
        for digest in hashes_of(batch)
    ]
    row = {"codec": name, "case": "resume", "at": done, "same": rest == hashes[done:]}
    print(json.dumps({**row, "frames": len(hashes), "rest": len(rest)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codecs", nargs="*", choices=CODINGS, default=list(CODINGS))
    parser.add_argument("--images", type=Path, help="photographs to film; default: noise")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224], help="of the input")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, nargs="?", const=108_000, help="frames of two hours")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--whole-run", action="store_true", help="and a run on the long video")
    parser.add_argument("--keep", type=Path, help="directory of the videos; those there are used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = given.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        picture = scenery(given.images)
        for name in given.codecs:
            coding = CODINGS[name]
            if coding.encoder not in av.codecs_available:
                print(json.dumps({"codec": name, "skipped": f"no {coding.encoder}"}))
                continue
            path = directory / f"{name}.{coding.suffix}"
            if not path.exists():
                film(path, coding, given.frames, picture)
            for _ in batches(path, given.threads, PropertiesMode.SCALED):
                break  # compiled, imported, in the page cache
            for size in given.sizes:
                compare(name, path, given.threads, given.rounds, size)
            if given.resume:
                measure_resume(name, path, given.threads)
        if given.long:
            path = directory / f"long-{given.long}.mp4"
            if not path.exists():
                long_film(path.with_suffix(".part.mp4"), given.long)
                path.with_suffix(".part.mp4").rename(path)
            if given.whole_run:
                measure_run(path, Path(scratch))
            else:
                measure_long(path, given.threads, given.long)


if __name__ == "__main__":
    main()
