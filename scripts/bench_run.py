"""Measure a whole run, from a bucket 20 ms away to the report, against the naive program.

    python scripts/bench_run.py [--images 2500] [--cases naive bundled …] [--work DIR]

Makes the images, serves them with `rclone serve s3` behind a proxy that delays each response, and
runs every case in a fresh process with empty caches. CPU and memory are those of the whole process
tree, s3fs processes included, the server and the proxy not. Results go to a plain directory. One
JSON line per case, then one with the ratios. `beyond_start` (the whole process) and `steady` (the
embed stage) subtract a run on 64 images; left out when there are not ten times as many.

Cases: `naive` (`naive_pipeline.py` on the first `--naive-images`; `img_s_extrapolated` is for all
of them, with its start counted once), `bundled` (the default model), `same` (the naive program's
model), `off` and `same-off` (without properties, which the naive program does not measure
either), `mount` (bundled, read through s3fs), `alone` (decoding and inference in one process,
bytes in memory).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from bench_images import make_images, path_of  # noqa: E402
from bench_process import Usage, run_measured  # noqa: E402

MODEL = "mobilenet_v3_large"
BUCKET, NAIVE_BUCKET, FEW_BUCKET = "photographs", "photographs-naive", "photographs-few"
FEW = 64
"""A run on so few images costs little but its start; what is beyond it grows with the images."""
STAGES = {
    "list": ["list"],
    "embed": ["model", "embed"],
    "work": ["list", "model", "embed", "select"],
}
"""The naive program loads its model in the embed step."""
"""`work` is what the naive program does too; it makes no report."""
RUNS = {
    "bundled": [],
    "same": [f"model=torchvision/{MODEL}", "weights=random"],
    "off": ["properties=off"],
    "same-off": [f"model=torchvision/{MODEL}", "weights=random", "properties=off"],
    "mount": ["read_through=mount"],
}
DEFAULT = ["naive", "bundled", "same", "off", "same-off", "alone"]


@contextlib.contextmanager
def served(directory: Path, delay_ms: float) -> Iterator[str]:
    """Serve the folders of a directory as buckets; yield the URL of the delaying proxy."""
    from tests.latency_proxy import latency_proxy

    rclone = shutil.which("rclone") or str(Path(sys.executable).parent / "rclone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "test,test"]
    command += ["--vfs-cache-mode", "off", "--no-checksum", str(directory)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        with latency_proxy(f"http://127.0.0.1:{port}", delay_ms=delay_ms) as proxy:
            yield proxy.url
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("rclone serve s3 did not start")


@dataclass
class Bench:
    work: Path
    url: str
    images: int
    naive_images: int
    keep_caches: bool

    def environ(self) -> dict[str, str]:
        """Return an environment with credentials, and with a home where nothing is cached yet."""
        home = self.work / "home"
        if not self.keep_caches:
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(exist_ok=True)
        kept = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(home),
            "NUMBA_CACHE_DIR": str(home / "numba"),
            "PYTHONPATH": str(ROOT),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def naive(self) -> dict[str, Any]:
        script, mount = ROOT / "scripts" / "naive_pipeline.py", self.work / "naive-mount"
        command = [sys.executable, str(script), NAIVE_BUCKET, str(mount), "--url", self.url]
        command += ["--model", MODEL, "--output", str(self.work / "naive.csv")]
        usage = run_measured(command, self.environ(), self.work / "naive.log")
        if usage.code:
            raise SystemExit(
                f"the naive program ended with {usage.code}, see {self.work}/naive.log"
            )
        said = json.loads(usage.stdout)
        result = _described("naive", usage, said["images"])
        result["seconds"] = said["seconds"]
        for name, stages in STAGES.items():
            seconds = sum(said["seconds"].get(stage, 0) for stage in stages)
            result[f"{name}_img_s"] = round(said["images"] / seconds, 1)
        # Starting costs the same for any number of images; the rest grows with it.
        steps = sum(said["seconds"].values())
        whole = usage.wall_s - steps + steps * self.images / said["images"]
        result["img_s_extrapolated"] = round(self.images / whole, 1)
        return result

    def lightly_fs(self, case: str) -> dict[str, Any]:
        few, few_said = self._run(case, FEW_BUCKET)
        usage, said = self._run(case, BUCKET)
        result = _described(case, usage, self.images)
        beyond = self.images - FEW
        if beyond >= 10 * FEW and usage.wall_s > few.wall_s:
            result["beyond_start_img_s"] = round(beyond / (usage.wall_s - few.wall_s), 1)
            beyond_cpu = (usage.cpu_s - few.cpu_s) / beyond * 1000
            result["beyond_start_cpu_ms_per_image"] = round(beyond_cpu, 2)
        result["start_wall_s"], result["start_cpu_s"] = round(few.wall_s, 2), round(few.cpu_s, 2)
        timings = {stage: one["seconds"] for stage, one in said["timings"].items()}
        result["seconds"] = timings
        for name, stages in STAGES.items():
            seconds = sum(timings.get(stage, 0) for stage in stages)
            result[f"{name}_img_s"] = round(self.images / max(seconds, 0.001), 1)
        cpu, few_cpu = _embed_cpu(usage), _embed_cpu(few)
        if cpu is not None:
            result["embed_cpu_ms_per_image"] = round(cpu / self.images * 1000, 3)
        # What the stage costs per image once the model is loaded and compiled code is at hand.
        steady = timings["embed"] - few_said["timings"]["embed"]["seconds"]
        if beyond >= 10 * FEW and steady > 0:
            result["steady_img_s"] = round(beyond / steady, 1)
            if cpu is not None and few_cpu is not None:
                result["steady_cpu_ms_per_image"] = round((cpu - few_cpu) / beyond * 1000, 3)
        return {**result, "counts": said["counts"], "read_through": said["read_through"]}

    def _run(self, case: str, bucket: str) -> tuple[Usage, dict[str, Any]]:
        output = self.work / "out"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        words = [f"input_dir=s3://{bucket}/", f"output_dir={output}", "run_directory=bench"]
        words += ["stopping_condition.n_samples=0.1", "read_through=object", *RUNS[case]]
        command = [sys.executable, "-m", "lightly_fs", "run", "--json", *_last_of_each(words)]
        usage = run_measured(command, self.environ(), self.work / f"{case}.log")
        if usage.code:
            raise SystemExit(f"`{case}` ended with {usage.code}, see {self.work}/{case}.log")
        return usage, json.loads(usage.stdout.strip().split("\n")[-1])

    def alone(self, cases: Sequence[str]) -> list[dict[str, Any]]:
        results = []
        folder = self.work / "buckets" / BUCKET
        for case in cases:
            words = RUNS[case]
            command = [sys.executable, __file__, "--alone", str(folder), str(self.images), *words]
            usage = run_measured(command, self.environ(), self.work / f"alone-{case}.log")
            if usage.code:
                raise SystemExit(f"`alone` failed, see {self.work}/alone-{case}.log")
            results.append({"case": f"alone-{case}", **json.loads(usage.stdout.split("\n")[-1])})
        return results


def _last_of_each(words: Sequence[str]) -> list[str]:
    """Keep the last word of each key."""
    return list({word.partition("=")[0]: word for word in words}.values())


def _cpu_when(usage: Usage, stage: str) -> float | None:
    """Return the tree's CPU seconds when the progress line that ends a stage was printed."""
    return next((cpu for _, cpu, line in usage.cpu_at if line.startswith(stage)), None)


def _embed_cpu(usage: Usage) -> float | None:
    before, after = (_cpu_when(usage, stage) for stage in ("list", "embed"))
    return None if before is None or after is None else after - before


def _described(case: str, usage: Usage, images: int) -> dict[str, Any]:
    return {
        "case": case,
        "images": images,
        "img_s": round(images / usage.wall_s, 1),
        "wall_s": round(usage.wall_s, 2),
        "cpu_ms_per_image": round(usage.cpu_s / images * 1000, 2),
        "peak_rss_mb": round(usage.peak_rss_mb),
    }


def decode_and_infer(folder: Path, count: int, words: Sequence[str]) -> dict[str, Any]:
    """Decode and embed the images of a folder, bytes in memory, nothing else: the floor."""
    import torch

    from lightly_fs.config import load_config
    from lightly_fs.decoding.images import DecodeSettings, decode_image
    from lightly_fs.decoding.jpeg import decode_jpeg
    from lightly_fs.decoding.raster import resized
    from lightly_fs.embedding.load import load_embedder

    config = load_config([f"input_dir={folder}", "output_dir=/nowhere", *words])
    embedder = load_embedder(config)
    side = embedder.info.input_size
    settings = DecodeSettings(size=side, properties=config.properties)
    data = [(folder / path_of(index)).read_bytes() for index in range(min(count, 1000))]

    def plainly(one: bytes) -> Any:  # noqa: ANN401 - an array
        raster = decode_jpeg(one, max(side, 224), settings.max_pixels)
        return resized(raster.pixels, side, side)

    plain, pixels = _cpu(plainly, data)
    whole, _ = _cpu(lambda one: decode_image(one, settings), data)
    size = config.batch_size
    batches = [
        torch.stack([torch.from_numpy(image) for image in pixels[start : start + size]])
        for start in range(0, len(pixels) - size + 1, size)
    ] or [torch.from_numpy(pixels[0])[None].repeat(size, 1, 1, 1)]
    names = [str(row) for row in range(size)]
    embedder.embed(batches[0], names)
    started, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        embedder.embed(batch, names)
    embed_wall, embed_cpu = time.perf_counter() - started, time.process_time() - cpu
    infer = embed_cpu / len(batches) / size
    return {
        "images": len(data),
        "mean_bytes": round(statistics.fmean(map(len, data))),
        "model": embedder.info.name,
        "runtime": f"{embedder.info.runtime} {embedder.info.precision}",
        "input_size": side,
        "decode_cpu_ms": round(plain * 1000, 3),
        "decode_hash_properties_cpu_ms": round(whole * 1000, 3),
        "infer_cpu_ms": round(infer * 1000, 3),
        "infer_img_s": round(len(batches) * size / embed_wall, 1),
        "cpu_ms_per_image": round((plain + infer) * 1000, 3),
        "cpu_ms_per_image_with_hash_and_properties": round((whole + infer) * 1000, 3),
    }


def _cpu(function: Callable[[bytes], Any], data: Sequence[bytes]) -> tuple[float, list[Any]]:
    """Return CPU seconds per item on two threads, and the results."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(function, data[:8]))
        cpu = time.process_time()
        results = list(pool.map(function, data))
        return (time.process_time() - cpu) / len(data), results


def compare(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ratios that can be made of the cases that were measured."""

    def ratio(a: str, b: str, key: str, other: str | None = None) -> float | None:
        if key not in results.get(a, {}) or (other or key) not in results.get(b, {}):
            return None
        return round(cast("float", results[a][key]) / cast("float", results[b][other or key]), 2)

    ratios: dict[str, float | None] = {}
    for case in ("bundled", "same", "off", "same-off"):
        whole = ratio(case, "naive", "img_s", "img_s_extrapolated")
        ratios[f"{case}_of_naive_whole_process"] = whole
        ratios[f"{case}_of_naive_beyond_start"] = ratio(
            case, "naive", "beyond_start_img_s", "work_img_s"
        )
        ratios[f"{case}_of_naive_steady"] = ratio(case, "naive", "steady_img_s", "embed_img_s")
        for name in STAGES:
            ratios[f"{case}_of_naive_{name}"] = ratio(case, "naive", f"{name}_img_s")
    for key in ("img_s", "beyond_start_img_s", "embed_img_s", "steady_img_s"):
        ratios[f"properties_on_of_off_{key}"] = ratio("bundled", "off", key)
    for case in ("bundled", "same", "off", "same-off"):
        for key in ("embed_cpu_ms_per_image", "steady_cpu_ms_per_image"):
            ratios[f"{case}_{key}_of_alone"] = ratio(case, f"alone-{case}", key, "cpu_ms_per_image")
    targets = {"bundled_of_naive": 18, "same_of_naive": 13, "cpu_of_alone": 1.25, "on_of_off": 0.67}
    found = {name: value for name, value in ratios.items() if value is not None}
    return {"case": "ratios", **found, "targets": targets}


def main() -> int:
    if sys.argv[1:2] == ["--alone"]:
        print(json.dumps(decode_and_infer(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--naive-images", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--work", type=Path, help="where images are made and kept")
    parser.add_argument("--keep-caches", action="store_true", help="later cases find warm caches")
    parser.add_argument("--cases", nargs="+", default=DEFAULT)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = arguments.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-run-")))
        work = work.resolve()
        naive_images = min(arguments.naive_images, arguments.images)
        _report(make_buckets(work / "buckets", arguments.images, naive_images))
        url = stack.enter_context(served(work / "buckets", arguments.delay_ms))
        bench = Bench(work, url, arguments.images, naive_images, arguments.keep_caches)
        results: dict[str, dict[str, Any]] = {}
        for case in arguments.cases:
            for result in _measure(bench, case, arguments.cases):
                results[result["case"]] = result
                _report(result)
        _report(compare(results))
    return 0


def _measure(bench: Bench, case: str, cases: Sequence[str]) -> list[dict[str, Any]]:
    if case == "alone":
        return bench.alone([one for one in RUNS if one in cases and one != "mount"])
    return [bench.naive() if case == "naive" else bench.lightly_fs(case)]


def make_buckets(directory: Path, images: int, naive_images: int) -> dict[str, Any]:
    """Make the images, and hard links to the first of them as smaller buckets."""
    for path in (directory / BUCKET).rglob("*.jpg"):
        if int(path.stem.removeprefix("image_")) >= images:
            path.unlink()
    size = make_images(directory / BUCKET, images)
    subset = _link_first(directory, NAIVE_BUCKET, naive_images)
    _link_first(directory, FEW_BUCKET, min(FEW, images))
    return {
        "case": "data",
        "images": images,
        "mean_bytes": size // images,
        "naive_images": naive_images,
        "naive_mean_bytes": subset // naive_images,
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _link_first(directory: Path, bucket: str, count: int) -> int:
    shutil.rmtree(directory / bucket, ignore_errors=True)
    size = 0
    for index in range(count):
        source, target = (directory / name / path_of(index) for name in (BUCKET, bucket))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(source)
        size += source.stat().st_size
    return size


def _report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
