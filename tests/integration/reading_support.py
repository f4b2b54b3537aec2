"""What the tests of reading share: a bucket of small objects, and sources that show it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.reader import Buffer
from lightly_fs.datasource.source import Source
from lightly_fs.datasource.table import s3fs_pids
from lightly_fs.types import Failure


def known(s3, name: str, prefix: str = "", *, url: str | None = None) -> Bucket:
    keys = Credentials(s3.access_key, s3.secret_key)
    return Bucket(name, prefix, url or s3.url, "us-east-1", path_style=True, credentials=keys)


def fill(s3, bucket: str, n: int, *, prefix: str = "", size: int = 3000) -> dict[str, bytes]:
    """Upload objects of differing content and size; return them by name."""
    client = s3.client()
    made = {}
    for number in range(n):
        name = f"folder_{number % 3}/image_{number:04d}.jpg"
        made[name] = f"{name} ".encode() * (size // 25 + number)
        client.put_object(Bucket=bucket, Key=prefix + name, Body=made[name])
    return made


@contextmanager
def shown(
    bucket: Bucket, directory: Path, environ: Mapping[str, str], *, stripes: int = 1
) -> Iterator[Source]:
    """Mount a bucket and describe it as the input of a run."""
    request = MountRequest(
        bucket=bucket.name,
        prefix=bucket.prefix,
        directory=directory,
        url=bucket.url,
        stripes=stripes,
    )
    with mounted(request, environ) as made:
        found = replace(bucket, region=made.bucket.region)
        yield Source(found.uri, made.directory, found, made.stripes, owned=True, mounted=True)


def signal_daemons(directory: Path, number: signal.Signals) -> int:
    found = s3fs_pids(directory)
    for process in found:
        os.kill(process, number)
    return len(found)


def outcomes(results: Iterable[Buffer | Failure]) -> list[bytes | str]:
    """Return bytes as bytes, and failures as `outcome: reason`."""
    return [f"{r.outcome}: {r.reason}" if isinstance(r, Failure) else bytes(r) for r in results]
