"""Two buckets on a real S3 server, mounted with `lightly-fs mount`, and runs on them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import S3Server

QUICK = ("model=colour-grid", "runtime=torch", "properties=off", "batch_size=4", "shard_size=4")


@dataclass(frozen=True)
class Buckets:
    """An input and an output bucket with their mounts."""

    s3: S3Server
    source: str
    target: str
    input_dir: Path
    output_dir: Path

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, **self.s3.environ()}

    def command(self, *words: str) -> list[str]:
        return [
            *(sys.executable, "-m", "lightly_fs", "-v", "run", *QUICK, *words),
            *(f"input_dir={self.input_dir}", f"output_dir={self.output_dir}"),
        ]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environ, capture_output=True, text=True, timeout=240
        )

    def start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as stderr:
            return subprocess.Popen(
                self.command(*words), env=self.environ, stderr=stderr, stdout=subprocess.DEVNULL
            )

    def keys(self) -> set[str]:
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.target)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def content(self, key: str) -> bytes:
        return self.s3.client().get_object(Bucket=self.target, Key=key)["Body"].read()

    def wait_for_key(self, prefix: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a key with this prefix is in the output bucket."""
        wait_until(lambda: any(key.startswith(prefix) for key in self.keys()), process)

    def s3fs(self, directory: Path) -> psutil.Process:
        """Return the s3fs process behind a mount."""
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or ()  # a zombie has none
            if process.info["name"] == "s3fs" and str(directory) in words:
                return process
        raise AssertionError(f"no s3fs process for {directory}")


def wait_until(condition, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended early with {process.returncode}"
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


def upload(s3: S3Server, bucket: str, folder: Path) -> None:
    client = s3.client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket=bucket, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes()
            )


@contextmanager
def mounted_buckets(s3: S3Server, images: Path, folder: Path) -> Iterator[Buckets]:
    """Upload `images`, mount an input and an output bucket below `folder`, unmount at the end."""
    buckets = Buckets(s3, s3.new_bucket(), s3.new_bucket(), folder / "in", folder / "out")
    upload(s3, buckets.source, images)
    try:
        mount(buckets, buckets.source, buckets.input_dir)
        mount(buckets, buckets.target, buckets.output_dir, "--profile", "output")
        yield buckets
    finally:
        for directory in (buckets.input_dir, buckets.output_dir):
            cli(buckets, "unmount", str(directory))


def mount(buckets: Buckets, bucket: str, directory: Path, *options: str) -> None:
    done = cli(buckets, "mount", bucket, str(directory), "--url", buckets.s3.url, *options)
    assert done.returncode == 0, done.stderr


def cli(buckets: Buckets, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightly_fs", *words],
        env=buckets.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
