"""How fast is a bucket listed, and in how much memory? One JSON line per case.

    python scripts/bench_list.py --objects 1000000

Pages of ListObjectsV2 are rendered once and served by another process, `--delay-ms` late, so that
the client is what is measured. Peers: obstore and botocore's paginator on the same pages.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.source import Source

_PAGE = 1000
_TOKEN = re.compile(rb"continuation-token=(\d+)")


def render(number: int, last: bool) -> bytes:
    first = number * _PAGE
    rows = "".join(
        f"<Contents><Key>images/camera_{n // 10_000:04d}/frame_{n:09d}.jpg</Key>"
        f"<LastModified>2026-11-20T14:03:22.000Z</LastModified><ETag>&quot;{n:032x}&quot;</ETag>"
        f"<Size>{150_000 + n % 20_000}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for n in range(first, first + _PAGE)
    )
    token = "" if last else f"<NextContinuationToken>{number + 1}</NextContinuationToken>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bench</Name>'
        f"<Prefix></Prefix><KeyCount>{_PAGE}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><IsTruncated>{str(not last).lower()}</IsTruncated>"
        f"{token}{rows}</ListBucketResult>"
    ).encode()


def serve(objects: int, delay_s: float, ready: Connection) -> None:
    pages = [render(n, (n + 1) * _PAGE >= objects) for n in range(objects // _PAGE)]
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])

    def answer(client: socket.socket) -> None:
        while asked := client.recv(65536):
            found = _TOKEN.search(asked)
            page = pages[int(found[1]) if found else 0]
            time.sleep(delay_s)
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(page)}"
            )
            client.sendall(f"{head}\r\n\r\n".encode() + page)

    while True:
        client, _ = listener.accept()
        threading.Thread(target=answer, args=(client,), daemon=True).start()


def ours(bucket: Bucket) -> int:
    return len(freeze(Source(bucket.uri, None, bucket)))


def obstore(bucket: Bucket) -> int:
    from obstore.store import S3Store

    store = S3Store(
        bucket.name,
        endpoint=bucket.url or "",
        access_key_id="k",
        secret_access_key="s",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    return sum(len(batch) for batch in store.list(chunk_size=10_000))


def botocore(bucket: Bucket) -> int:
    from botocore.session import Session

    client = Session().create_client(
        "s3",
        endpoint_url=bucket.url,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return sum(len(page["Contents"]) for page in pages)


CASES: dict[str, Callable[[Bucket], int]] = {"ours": ours, "obstore": obstore, "botocore": botocore}


def measure(case: str, bucket: Bucket, result: Connection) -> None:
    import numpy as np  # noqa: F401 - not part of what is timed
    import pyarrow.parquet as pq  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    n = CASES[case](bucket)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result.send(
        {
            "bench": "list",
            "case": case,
            "objects": n,
            "seconds": round(seconds, 2),
            "objects_per_s": round(n / seconds),
            "cpu_us_per_object": round(cpu / n * 1e6, 1),
            "peak_rss_mb": round(after.ru_maxrss / 1024),
            "rss_before_mb": round(before.ru_maxrss / 1024),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--case", action="append", choices=[*CASES])
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(
        target=serve, args=(given.objects, given.delay_ms / 1000, there), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{here.recv()}"
    bucket = Bucket(
        "bench", "", url, "us-east-1", path_style=True, credentials=Credentials("k", "s")
    )
    for case in given.case or CASES:
        run = spawn.Process(target=measure, args=(case, bucket, there))
        run.start()
        run.join()
        if run.exitcode == 0:
            print(json.dumps({**here.recv(), "delay_ms": given.delay_ms}), flush=True)
    server.terminate()


if __name__ == "__main__":
    main()
