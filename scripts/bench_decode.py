"""Decoding speed, against the floor that was measured in the same round: one JSON line per case.

    python scripts/bench_decode.py DIRECTORY [--size 224] [--threads 1 2] [--rounds 3]

The floor is entropy decoding alone: libjpeg-turbo at 1/8 scale, non-JPEG files left out. Cases
take turns in every round, so that a busy machine slows them all; the best round counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.ranged import RangedFile
from lightly_fs.datasource.reader import Buffer, ReaderStatistics
from lightly_fs.decoding.images import DecodedImage, DecodeSettings, decode_image
from lightly_fs.decoding.loader import image_batches
from lightly_fs.types import Failure, Sample

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


class MemoryReader:
    """Files that are in memory already: what is measured is decoding."""

    kind = "directory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        return (self.files[sample.filename] for sample in samples)

    def read(self, sample: Sample) -> Buffer | Failure:
        return self.files[sample.filename]

    def open(self, sample: Sample) -> RangedFile:
        data = memoryview(self.files[sample.filename])

        def fetch(first: int, length: int) -> Future[Buffer | Failure]:
            result: Future[Buffer | Failure] = Future()
            result.set_result(data[first : first + length])
            return result

        return RangedFile(sample, fetch)

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics()

    def close(self) -> None:
        pass


class OneByOne(Dataset[torch.Tensor]):
    """What most programs do: worker processes that send single images."""

    def __init__(self, files: Sequence[bytes], settings: DecodeSettings) -> None:
        self.files = files
        self.settings = settings

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = decode_image(self.files[index], self.settings)
        if not isinstance(image, DecodedImage):
            return torch.zeros((self.settings.size, self.settings.size, 3), dtype=torch.uint8)
        return torch.from_numpy(image.pixels)


def cases(files: dict[str, bytes], size: int, threads: int) -> dict[str, Callable[[], int]]:
    samples = [Sample(name, len(data), None, 0) for name, data in files.items()]
    jpegs = [data for data in files.values() if data.startswith(b"\xff\xd8")]
    reader = MemoryReader(files)

    def floor() -> int:
        with ThreadPoolExecutor(threads) as pool:
            shapes = pool.map(
                lambda data: simplejpeg.decode_jpeg(data, min_height=1, min_width=1).shape, jpegs
            )
            return len(list(shapes))

    def ours(mode: PropertiesMode) -> Callable[[], int]:
        settings = DecodeSettings(size, mode, threads=threads)
        return lambda: sum(len(b.results) for b in image_batches(samples, reader, settings))

    def processes() -> int:
        settings = DecodeSettings(size, PropertiesMode.OFF)
        loader = DataLoader(
            OneByOne(list(files.values()), settings), batch_size=64, num_workers=threads
        )
        return sum(len(batch) for batch in loader)

    return {
        "floor": floor,
        **{f"properties={mode}": ours(mode) for mode in PropertiesMode},
        "worker processes, properties=off": processes,
    }


def seconds(case: Callable[[], int]) -> tuple[int, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    images = case()
    return images, time.perf_counter() - wall, time.process_time() - cpu


def measure(files: dict[str, bytes], size: int, threads: int, rounds: int) -> None:
    todo = cases(files, size, threads)
    best: dict[str, tuple[int, float, float]] = {}
    for _ in range(rounds):
        for name, case in todo.items():
            result = seconds(case)
            best[name] = min(best.get(name, result), result, key=lambda r: r[1])
    floor = best["floor"][0] / best["floor"][1]
    for name, (images, wall, cpu) in best.items():
        row = {
            "case": name,
            "size": size,
            "threads": threads,
            "images_per_s": round(images / wall, 1),
            "of_floor": round(images / wall / floor, 3),
        }
        if "processes" not in name:
            row["cpu_ms_per_image"] = round(1000 * cpu / images, 3)
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--size", type=int, default=224, help="side of the model input")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=500, help="files at most")
    given = parser.parse_args()
    paths = sorted(p for p in given.directory.rglob("*") if p.suffix.lower() in SUFFIXES)
    files = {str(path): path.read_bytes() for path in paths[: given.limit]}
    if not files:
        parser.error(f"no images below {given.directory}")
    mean = sum(map(len, files.values())) / len(files) / 1000
    print(json.dumps({"case": "data", "files": len(files), "mean_kB": round(mean, 1)}))
    warm = dict(list(files.items())[:4])
    for case in cases(warm, given.size, 1).values():
        case()
    for threads in given.threads:
        measure(files, given.size, threads, given.rounds)


if __name__ == "__main__":
    main()
