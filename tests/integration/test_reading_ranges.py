"""Ranges from a real S3 server and through a real s3fs mount, and what goes wrong in between."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lightly_fs.datasource.mount_reader import MountReader
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.ranged import BLOCK_BYTES, RangedFile, RangedReadError
from lightly_fs.types import Sample
from tests.integration.reading_support import known, shown, signal_daemons
from tests.latency_proxy import latency_proxy

pytestmark = pytest.mark.s3

DATA = random.Random(2).randbytes(100_000_000)
KEY = "films/film one.mp4"


@pytest.fixture
def filled(s3, bucket: str) -> str:
    client = s3.client()
    client.put_object(Bucket=bucket, Key=KEY, Body=DATA)
    client.put_object(Bucket=bucket, Key="films/other.mp4", Body=DATA[:1000])
    return bucket


@pytest.fixture
def environ(s3, tmp_path: Path) -> dict[str, str]:
    state = {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    return {**s3.environ(), **state, "PATH": os.environ["PATH"]}


def sample_of(s3, bucket: str) -> Sample:
    found = s3.client().head_object(Bucket=bucket, Key=KEY)
    modified = int(found["LastModified"].timestamp()) * 10**9
    return Sample(KEY, found["ContentLength"], found["ETag"].strip('"'), modified)


@contextmanager
def directly(s3, bucket: str, url: str | None = None) -> Iterator[tuple[ObjectReader, RangedFile]]:
    store = ObjectStore(known(s3, bucket, url=url))
    with closing(ObjectReader(store)) as reader:
        yield reader, reader.open(sample_of(s3, bucket))


def ending(file: RangedFile) -> str:
    with pytest.raises(RangedReadError) as caught:
        file.handle().read()
    return f"{caught.value.outcome}: {caught.value.reason}"


def test_100_mb_cost_a_request_for_each_8_mib_and_not_a_byte_more(s3, filled: str):
    with directly(s3, filled) as (reader, file):
        handle, read = file.handle(), bytearray()
        while piece := handle.read(32 << 10):
            read += piece
        statistics = reader.statistics()
    assert read == DATA
    assert statistics.requests["GET"] <= -(-len(DATA) // BLOCK_BYTES)
    assert statistics.bytes_read == len(DATA)


def test_threads_at_different_places_share_blocks(s3, filled: str):
    def part(first: int) -> bytes:
        with file.handle() as handle:
            handle.seek(first)
            return handle.read(30_000_000)

    starts = range(0, 100_000_000, 20_000_000)
    with directly(s3, filled) as (reader, file), ThreadPoolExecutor(5) as threads:
        parts = list(threads.map(part, starts))
        statistics = reader.statistics()
    assert parts == [DATA[first : first + 30_000_000] for first in starts]
    assert statistics.bytes_read == len(DATA)


def test_an_object_overwritten_between_blocks_fails(s3, filled: str):
    with directly(s3, filled) as (_, file):
        assert file.handle().read(100) == DATA[:100]
        s3.client().put_object(Bucket=filled, Key=KEY, Body=DATA[::-1])
        assert ending(file) == "failed: changed during the run: its ETag is another"


def test_an_object_deleted_between_blocks_is_gone(s3, filled: str):
    with directly(s3, filled) as (_, file):
        assert file.handle().read(100) == DATA[:100]
        s3.client().delete_object(Bucket=filled, Key=KEY)
        assert ending(file) == "gone: deleted during the run"


@pytest.mark.parametrize("fault", ["refuse 503 3", "refuse 500 4"])
def test_a_busy_store_is_read_to_the_end(s3, filled: str, fault: str):
    with (
        latency_proxy(s3.url, delay_ms=5) as proxy,
        directly(s3, filled, proxy.url) as (reader, file),
    ):
        proxy.tell(fault)
        assert file.handle().read() == DATA
        assert reader.statistics().retries > 0
        assert reader.statistics().bytes_read == len(DATA)


def test_a_connection_reset_in_the_middle_of_a_block_is_made_again(s3, filled: str):
    with (
        latency_proxy(s3.url, delay_ms=200) as proxy,
        directly(s3, filled, proxy.url) as (reader, file),
        ThreadPoolExecutor(1) as threads,
    ):
        read = threads.submit(file.handle().read)
        time.sleep(0.3)
        proxy.tell("reset")
        proxy.tell("pass")
        assert read.result() == DATA
        assert reader.statistics().retries > 0


# Through a mount.


@contextmanager
def mounted(s3, bucket: str, place: Path, environ, **options) -> Iterator[MountReader]:
    with (
        shown(known(s3, bucket), place, environ) as source,
        closing(MountReader(source, environ, **options)) as reader,
    ):
        yield reader


@pytest.mark.fuse
def test_a_mount_gives_the_same_bytes_and_fetches_each_block_once(
    s3, filled: str, tmp_path: Path, environ
):
    with (
        latency_proxy(s3.url) as proxy,
        shown(known(s3, filled, url=proxy.url), tmp_path / "m", environ) as source,
        closing(MountReader(source, environ)) as reader,
    ):
        file = reader.open(sample_of(s3, filled))
        before = proxy.tell("count")[0]
        handle = file.handle()
        assert handle.read() == DATA
        requests = proxy.tell("count")[0] - before
        handle.seek(50_000_000)
        assert handle.read(1000) == DATA[50_000_000:][:1000]
        file.close()
        assert reader.statistics().bytes_read < len(DATA) + 5 * BLOCK_BYTES
    # s3fs asks for 5 MiB at once here; one more question per block: is the object still the same?
    assert requests < 20 + 12 + 10


@pytest.mark.fuse
def test_a_killed_s3fs_is_mounted_again_in_the_middle_of_a_file(
    s3, filled: str, tmp_path: Path, environ
):
    with mounted(s3, filled, tmp_path / "m", environ, deadline_s=5) as reader:
        handle, read = reader.open(sample_of(s3, filled)).handle(), bytearray()
        while piece := handle.read(7_000_000):
            if len(read) in (14_000_000, 49_000_000):
                assert signal_daemons(tmp_path / "m", signal.SIGKILL) == 1
            read += piece
        assert reader.statistics().remounts >= 1
    assert read == DATA


@pytest.mark.fuse
@pytest.mark.slow
def test_a_frozen_s3fs_costs_a_deadline_and_nothing_else(s3, filled: str, tmp_path: Path, environ):
    with mounted(s3, filled, tmp_path / "m", environ, deadline_s=3) as reader:
        handle = reader.open(sample_of(s3, filled)).handle()
        begin = handle.read(100)
        assert signal_daemons(tmp_path / "m", signal.SIGSTOP) == 1
        assert begin + handle.read() == DATA
        assert reader.statistics().remounts == 1


@pytest.mark.fuse
@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 1, 20_000_000])
def test_an_object_overwritten_behind_a_mount_fails(
    s3, filled: str, tmp_path: Path, environ, size: int
):
    with mounted(s3, filled, tmp_path / "m", environ) as reader:
        file = reader.open(sample_of(s3, filled))
        assert file.handle().read(100) == DATA[:100]
        s3.client().put_object(Bucket=filled, Key=KEY, Body=(DATA[::-1] + b"1")[:size])
        assert ending(file).startswith("failed: changed during the run: ")
        file.close()


@pytest.mark.fuse
def test_an_object_deleted_behind_a_mount_is_gone(s3, filled: str, tmp_path: Path, environ):
    with mounted(s3, filled, tmp_path / "m", environ) as reader:
        file = reader.open(sample_of(s3, filled))
        assert file.handle().read(100) == DATA[:100]
        s3.client().delete_object(Bucket=filled, Key=KEY)
        assert ending(file) == "gone: deleted during the run"
        file.close()
