"""Fixtures of all tests: real servers, real images. Skips for missing parts fail when required.

`LIGHTLY_FS_REQUIRE=fuse,s3` turns the skip for a missing part into a failure.
`LIGHTLY_FS_TEST_S3=http://KEY:SECRET@127.0.0.1:19004` runs the S3 tests against that server;
without keys in it they are test/test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

# No deadlines: tests are not timed. The same examples on every run where nobody watches.
settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("default")

REQUIRED = {part for part in os.environ.get("LIGHTLY_FS_REQUIRE", "").split(",") if part}


def need(part: str, *, missing: str | None) -> None:
    """Skip the test by name when `missing` says what is not there; fail when it is required."""
    if missing is None:
        return
    if part in REQUIRED:
        pytest.fail(f"LIGHTLY_FS_REQUIRE names `{part}`, but {missing}")
    pytest.skip(f"{part}: {missing}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fuse"):
        absent = None if Path("/dev/fuse").exists() else "there is no /dev/fuse"
        if shutil.which("s3fs") is None:
            absent = "s3fs is not installed"
        need("fuse", missing=absent)
    if item.get_closest_marker("gpu"):
        import torch

        need("gpu", missing=None if torch.cuda.is_available() else "there is no CUDA device")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    for name in list(os.environ):
        if name.startswith(("AWS_", "AWSACCESS", "AWSSECRET", "LIGHTLY_FS_")) and name not in (
            "LIGHTLY_FS_TEST_DATA",
            "LIGHTLY_FS_TEST_S3",
            "LIGHTLY_FS_REQUIRE",
            "AWS_CA_BUNDLE",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@dataclass(frozen=True)
class S3Server:
    """A real S3 server on loopback."""

    url: str
    access_key: str = "test"
    secret_key: str = "s3cr3t-that-nobody-sees"

    @classmethod
    def given(cls, url: str) -> S3Server:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        return cls(f"{parts.scheme}://{place}", parts.username or "test", parts.password or "test")

    def client(self):
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
        )

    def new_bucket(self) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def environ(self) -> dict[str, str]:
        """Environment variables that let lightly-fs reach this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server for {url} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer within {seconds} s")


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> S3Server:
    given = os.environ.get("LIGHTLY_FS_TEST_S3")
    return S3Server.given(given) if given else request.getfixturevalue("moto")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that takes every key, for tests that make keys up."""
    try:
        import moto.server  # noqa: F401
    except ImportError:
        need("s3", missing="moto[server] is not installed")
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "moto.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/", process)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)
        log.close()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A new, empty bucket."""
    return s3.new_bucket()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real images and videos; tests that can, use what the repository makes instead."""
    given = os.environ.get("LIGHTLY_FS_TEST_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("LIGHTLY_FS_TEST_DATA names no directory")
    return Path(given).resolve()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deterministic images: 24 scenes, two duplicates, three corrupt files, a text file."""
    from tests.images import make_images

    directory = tmp_path_factory.mktemp("images")
    make_images(directory)
    return directory


def pytest_configure() -> None:
    """Let child processes hear Ctrl-C: one that a shell started in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
