"""How fast is a large object read in blocks? One JSON line per case, all in the same run.

    python scripts/bench_ranges.py --megabytes 200 --delay-ms 0 --delay-ms 20

A process that serves from memory (the tests' stub; or `rclone serve s3`, which sends ranges with
status 200 and so makes `open` use botocore) holds the object; a proxy makes it far. Cases take
turns in every round: `open` (this library's file, read 32 KiB at a time as PyAV does),
`obstore` (one GET of the whole object), `boto3` (its streamed body, 1 MiB at a time), `download`
(boto3's managed transfer, parallel ranges into memory). Only `open` holds a part of the object.
CPU is that of this process and its threads; the best round counts.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_read import KEYS, s3_server

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.types import Sample
from tests.latency_proxy import latency_proxy

BUCKET, NAME = "stub", "film.mp4"
_PIECE = 32 << 10


def by_open(bucket: Bucket, sample: Sample) -> tuple[int, int]:
    store = ObjectStore(bucket)
    with closing(ObjectReader(store)) as reader, closing(reader.open(sample)) as file:
        handle, n = file.handle(), 0
        while piece := handle.read(_PIECE):
            n += len(piece)
    return n, store.requests["GET"]


def by_obstore(bucket: Bucket, sample: Sample) -> tuple[int, int]:
    data = ObjectStore(bucket).get(sample.filename, etag=sample.etag, timeout_s=120)
    return len(data), 1


def client(bucket: Bucket):  # type: ignore[no-untyped-def] # noqa: ANN201 - boto3 is untyped
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=bucket.url,
        region_name=bucket.region,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    )


def by_boto3(bucket: Bucket, sample: Sample) -> tuple[int, int]:
    body = client(bucket).get_object(Bucket=bucket.name, Key=sample.filename)["Body"]
    return sum(len(piece) for piece in body.iter_chunks(1 << 20)), 1


def by_download(bucket: Bucket, sample: Sample) -> tuple[int, int]:
    target = io.BytesIO()
    client(bucket).download_fileobj(bucket.name, sample.filename, target)
    return target.getbuffer().nbytes, -(-sample.size // (8 << 20))


CASES: dict[str, Callable[[Bucket, Sample], tuple[int, int]]] = {
    "open": by_open,
    "obstore": by_obstore,
    "boto3": by_boto3,
    "download": by_download,
}


_STUB = """
import sys
from tests.s3_stub import s3_stub
data = sys.stdin.buffer.read()
with s3_stub({NAME!r: data}) as stub:
    print(stub.url, flush=True)
    while True:
        __import__("time").sleep(60)
"""


@contextlib.contextmanager
def serving(server: str, data: bytes) -> Iterator[str]:
    """Serve the object from another process; give the server's URL."""
    if server == "rclone":
        shm = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as root:
            (Path(root) / BUCKET).mkdir()
            (Path(root) / BUCKET / NAME).write_bytes(data)
            with s3_server(Path(root)) as url:
                yield url
        return
    words = [sys.executable, "-c", _STUB.replace("NAME!r", repr(NAME))]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data)
        process.stdin.close()
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait()


def place(url: str) -> Bucket:
    return Bucket(BUCKET, "", url, "us-east-1", path_style=True, credentials=KEYS)


def measure(case: str, bucket: Bucket, sample: Sample) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    n, requests = CASES[case](bucket, sample)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    if n != sample.size:
        raise SystemExit(f"{case} read {n} of {sample.size} bytes")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "requests": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, action="append", help="0 and 20 by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=["stub", "rclone"], default="stub")
    given = parser.parse_args()
    data = random.Random(1).randbytes(given.megabytes * 1_000_000)
    sample = Sample(NAME, len(data), hashlib.md5(data).hexdigest(), 0)
    with serving(given.server, data) as url:
        for delay in given.delay_ms or [0.0, 20.0]:
            with latency_proxy(url, delay_ms=delay) as proxy:
                bucket = place(proxy.url if delay else url)
                rounds = [
                    {case: measure(case, bucket, sample) for case in CASES}
                    for _ in range(given.rounds)
                ]
            for case in CASES:
                best = min((found[case] for found in rounds), key=lambda row: row["seconds"])
                result = {
                    "bench": "ranges",
                    "server": given.server,
                    "case": case,
                    "delay_ms": delay,
                    "mb": given.megabytes,
                    "mb_per_s": round(given.megabytes / best["seconds"], 1),
                    "cpu_ms_per_mb": round(best["cpu_s"] / given.megabytes * 1000, 2),
                    "requests": best["requests"],
                }
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
