"""Reading through FUSE: the same bytes, and mounts that die, hang or lose their server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.mount_reader import MountReader
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.reader import open_reader
from lightly_fs.datasource.source import open_source
from lightly_fs.datasource.table import s3fs_pids
from lightly_fs.errors import MountError
from tests.integration.reading_support import (
    fill,
    known,
    outcomes,
    shown,
    signal_daemons,
)
from tests.latency_proxy import latency_proxy

pytestmark = [pytest.mark.s3, pytest.mark.fuse]


@pytest.fixture
def environ(s3, tmp_path: Path) -> dict[str, str]:
    state = {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    return {**s3.environ(), **state, "PATH": os.environ["PATH"]}


def test_every_object_has_the_same_bytes_both_ways(s3, bucket: str, tmp_path: Path, environ):
    made = fill(s3, bucket, 40, prefix="in/")
    with shown(known(s3, bucket, "in/"), tmp_path / "m", environ, stripes=2) as source:
        assert len(source.stripes) == 2
        samples = freeze(source).samples()
        mount, objects = MountReader(source, environ), ObjectReader(ObjectStore(source.bucket))
        one = [bytes(data) for data in mount.stream(samples)]
        other = [bytes(data) for data in objects.stream(samples)]
        mount.close()
        objects.close()
    assert one == other == [made[sample.filename] for sample in samples]


def test_a_killed_s3fs_is_mounted_again_and_nothing_is_lost(
    s3, bucket: str, tmp_path: Path, environ
):
    made = fill(s3, bucket, 150)
    with shown(known(s3, bucket), tmp_path / "m", environ) as source:
        samples = freeze(source).samples()
        reader = MountReader(source, environ)
        results = []
        for number, data in enumerate(reader.stream(samples)):
            results.append(data)
            if number in (20, 60, 100):
                signal_daemons(tmp_path / "m", signal.SIGKILL)
        reader.close()
    assert outcomes(results) == [made[sample.filename] for sample in samples]
    assert 1 <= reader.statistics().remounts <= 3


def test_a_frozen_s3fs_costs_a_deadline_and_nothing_else(s3, bucket: str, tmp_path: Path, environ):
    made = fill(s3, bucket, 40)
    with shown(known(s3, bucket), tmp_path / "m", environ) as source:
        samples = freeze(source).samples()
        reader = MountReader(source, environ, deadline_s=3)
        before = s3fs_pids(tmp_path / "m")
        assert signal_daemons(tmp_path / "m", signal.SIGSTOP) == 1
        started = time.monotonic()
        results = outcomes(reader.stream(samples))
        seconds = time.monotonic() - started
        reader.close()
        assert set(before).isdisjoint(s3fs_pids(tmp_path / "m"))
    assert results == [made[sample.filename] for sample in samples]
    assert seconds < 30


def test_a_deleted_object_is_gone_and_a_replaced_one_fails(
    s3, bucket: str, tmp_path: Path, environ
):
    made = fill(s3, bucket, 6)
    with shown(known(s3, bucket), tmp_path / "m", environ) as source:
        samples = freeze(source).samples()
        client = s3.client()
        client.delete_object(Bucket=bucket, Key=samples[1].filename)
        client.put_object(Bucket=bucket, Key=samples[3].filename, Body=b"short")
        reader = MountReader(source, environ)
        results = outcomes(reader.stream(samples))
        reader.close()
    expected: list[bytes | str] = [made[sample.filename] for sample in samples]
    expected[1] = "gone: deleted during the run"
    expected[3] = "failed: changed during the run: its ETag is another"
    assert results == expected


def test_a_mount_whose_server_is_gone_stops_the_run(s3, bucket: str, tmp_path: Path, environ):
    fill(s3, bucket, 6)
    with latency_proxy(s3.url) as proxy:
        far = known(s3, bucket, url=proxy.url)
        with shown(far, tmp_path / "m", environ) as source:
            samples = freeze(source).samples()
            reader = MountReader(source, environ, deadline_s=2, outage_s=5)
            proxy.tell("reset")
            with pytest.raises(MountError) as caught:
                list(reader.stream(samples))
            reader.close()
            proxy.tell("pass")
    assert caught.value.reason == "stopped"


@pytest.mark.parametrize("fault", ["refuse 403 1", "refuse 400 1"])
def test_refused_credentials_stop_the_run_and_invent_no_empty_files(
    s3, bucket: str, tmp_path: Path, environ, fault: str
):
    made = fill(s3, bucket, 30)
    results = []
    with (
        latency_proxy(s3.url) as proxy,
        shown(known(s3, bucket, url=proxy.url), tmp_path / "m", environ) as source,
    ):
        samples = freeze(source).samples()
        reader = MountReader(source, environ, deadline_s=5, outage_s=20)
        stream = reader.stream(samples)
        results.append(next(stream))
        proxy.tell(fault)
        with pytest.raises(MountError) as caught:
            results.extend(stream)
        reader.close()
        proxy.tell("pass")
    assert caught.value.reason == "credentials"
    assert outcomes(results) == [made[sample.filename] for sample in samples[: len(results)]]


def test_a_mount_that_was_taken_away_makes_no_file_gone(s3, bucket: str, tmp_path: Path, environ):
    made = fill(s3, bucket, 60)
    with shown(known(s3, bucket), tmp_path / "m", environ) as source:
        samples = freeze(source).samples()
        reader = MountReader(source, environ)
        results = []
        for number, data in enumerate(reader.stream(samples)):
            results.append(data)
            if number == 10:
                subprocess.run(["umount", "-l", str(tmp_path / "m")], check=True)
        reader.close()
    assert outcomes(results) == [made[sample.filename] for sample in samples]


def test_a_dead_mount_of_ours_is_mounted_again_at_the_start(
    s3, bucket: str, tmp_path: Path, environ
):
    fill(s3, bucket, 6)
    with shown(known(s3, bucket), tmp_path / "m", environ):
        signal_daemons(tmp_path / "m", signal.SIGKILL)
        with open_source(RunConfig(input_dir=str(tmp_path / "m")), environ) as source:
            assert len(freeze(source)) == 6
            assert source.bucket is not None
            assert len(list((tmp_path / "m").iterdir())) == 3


def test_auto_reads_objects_and_says_so(s3, bucket: str, tmp_path: Path, environ, caplog):
    made = fill(s3, bucket, 6)
    config = RunConfig(input_dir=f"s3://{bucket}", s3={"url": s3.url})
    with caplog.at_level("INFO", "lightly_fs"), open_source(config, environ) as source:
        assert source.owned
        assert source.root is not None
        assert len(list(source.root.iterdir())) == 3
        reader = open_reader(source, config, environ)
        assert reader.kind == "object"
        inventory = freeze(source)
        assert outcomes(reader.stream(inventory.samples())) == [
            made[s.filename] for s in inventory.samples()
        ]
        reader.close()
    assert not source.root.exists()
    assert caplog.text.count("reading through: object") == 1


def test_a_directory_below_a_mount_is_read_directly(s3, bucket: str, tmp_path: Path, environ):
    made = fill(s3, bucket, 9)
    with shown(known(s3, bucket), tmp_path / "m", environ, stripes=2):
        config = RunConfig(input_dir=str(tmp_path / "m" / "folder_1"))
        with open_source(config, environ) as source:
            assert source.bucket is not None
            assert source.bucket.prefix == "folder_1/"
            assert [path.name for path in source.stripes] == ["folder_1", "folder_1"]
            samples = freeze(source).samples()
            reader = open_reader(source, config, environ)
            read = outcomes(reader.stream(samples))
            reader.close()
    assert reader.kind == "object"
    assert read == [made[f"folder_1/{sample.filename}"] for sample in samples]


def test_no_thread_outlives_a_reader(s3, bucket: str, tmp_path: Path, environ):
    fill(s3, bucket, 12)
    before = threading.active_count()
    with shown(known(s3, bucket), tmp_path / "m", environ) as source:
        reader = MountReader(source, environ)
        stream = reader.stream(freeze(source).samples())
        next(stream)
        stream.close()
        reader.close()
    assert threading.active_count() == before
