"""Verified writes and locks through real s3fs mounts."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from lightly_fs.artifacts import Manifest
from lightly_fs.config import RunConfig
from lightly_fs.datasource import anchor
from lightly_fs.datasource.exclusion import LOCK_NAME
from lightly_fs.datasource.lock import locked
from lightly_fs.datasource.lock_slot import ObjectSlot
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.output import Objects, Output, open_output
from lightly_fs.datasource.table import is_s3fs
from lightly_fs.errors import MountError, RunLockedError
from tests.integration.deaf_proxy import without_conditions
from tests.integration.reading_support import known, signal_daemons
from tests.unit.artifacts.conftest import NAMES, finish, inventory_of

pytestmark = [pytest.mark.s3, pytest.mark.fuse]


@pytest.fixture
def environ(s3, tmp_path):
    state = {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    return {**s3.environ(), **state, "PATH": os.environ["PATH"]}


@contextmanager
def opened(s3, bucket, directory, environ, *, bucket_url=None, **options):
    """Mount a bucket for writing and open it, its bucket known."""
    request = MountRequest(
        bucket=bucket,
        prefix="results",
        directory=directory,
        profile="output",
        url=s3.url,
        **options,
    )
    with mounted(request, environ) as made:
        output = Output(
            made.directory, known(s3, bucket, "results/", url=bucket_url), environ=environ
        )
        try:
            yield output
        finally:
            output.close()


@pytest.fixture
def output(s3, bucket, tmp_path, environ):
    with opened(s3, bucket, tmp_path / "mount", environ) as made:
        yield made


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "local"
    path.write_bytes(b"content")
    return path


def versions(s3, bucket, key):
    """Return the sizes of everything that was ever stored under a key, the oldest first."""
    found = s3.client().list_object_versions(Bucket=bucket, Prefix=key)
    sizes = [one["Size"] for one in found.get("Versions", []) if one["Key"] == key]
    return sizes[::-1]


def stored(s3, bucket):
    """Return the objects below results/, without directory markers."""
    client = s3.client()
    found = client.list_objects_v2(Bucket=bucket, Prefix="results/").get("Contents", [])
    return {
        one["Key"].removeprefix("results/"): client.get_object(Bucket=bucket, Key=one["Key"])[
            "Body"
        ].read()
        for one in found
        if not one["Key"].endswith("/")
    }


def test_a_file_is_one_upload_and_the_same_file_none(s3, bucket, output, local):
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    key = "2026-11-21/14:03:22/data/ü, 猫.bin"

    output.put(key, local)
    output.put(key, local)

    assert versions(s3, bucket, f"results/{key}") == [7]
    assert stored(s3, bucket) == {key: b"content"}


def test_an_empty_file_arrives(s3, bucket, output, tmp_path):
    (tmp_path / "empty").touch()

    output.put("x", tmp_path / "empty")

    assert stored(s3, bucket) == {"x": b""}


def test_a_file_of_several_parts_is_read_back(s3, bucket, output, tmp_path):
    data = os.urandom(30_000_000)
    (tmp_path / "large").write_bytes(data)

    output.put("x", tmp_path / "large")

    assert s3.client().head_object(Bucket=bucket, Key="results/x")["ETag"].strip('"')[-2] == "-"
    assert stored(s3, bucket) == {"x": data}
    assert output.first_broken([output.put("x", tmp_path / "large")]) is None


def test_what_a_killed_process_left_is_replaced(s3, bucket, output, local):
    """The size may even be right; and the mount may have seen it before."""
    s3.client().put_object(Bucket=bucket, Key="results/a/x", Body=b"CONTENT")
    s3.client().put_object(Bucket=bucket, Key="results/a/y", Body=b"cont")
    assert (output.root / "a/x").read_bytes() == b"CONTENT"

    output.put("a/x", local)
    output.put("a/y", local)

    assert stored(s3, bucket) == {"a/x": b"content", "a/y": b"content"}
    assert output.names() == ["a/x", "a/y"]


def test_deleting_deletes_what_the_mount_does_not_know_of(s3, bucket, output, local):
    output.put("parts/a", local)
    output.delete("parts/b")
    s3.client().put_object(Bucket=bucket, Key="results/parts/b", Body=b"by somebody else")

    output.delete_folder("parts")

    assert stored(s3, bucket) == {}
    assert not (output.root / "parts").exists()


def test_without_the_bucket_everything_goes_through_the_mount(s3, bucket, output, local, environ):
    blind = Output(output.root, None, environ=environ)
    try:
        entry = blind.put("a/x", local)
        blind.put("a/x", local)
        s3.client().put_object(Bucket=bucket, Key="results/a/y", Body=b"torn")
        blind.put("a/y", local)

        assert blind.names() == ["a/x", "a/y"]
        assert blind.first_broken([entry]) is None
        assert blind.read("a/x") == b"content"
        blind.delete_folder("a")
        assert stored(s3, bucket) == {}
    finally:
        blind.close()


def test_a_killed_mount_is_mounted_again_and_the_file_written(s3, bucket, output, local):
    output.put("a/x", local)
    assert signal_daemons(output.root, signal.SIGKILL) == 1

    output.put("a/y", local)

    assert stored(s3, bucket) == {"a/x": b"content", "a/y": b"content"}
    assert is_s3fs(output.root)


def test_a_mount_killed_in_mid_write_is_mounted_again(s3, bucket, output, tmp_path):
    data = os.urandom(60_000_000)
    (tmp_path / "large").write_bytes(data)
    killer = threading.Timer(0.25, signal_daemons, (output.root, signal.SIGKILL))
    killer.start()

    output.put("x", tmp_path / "large")

    killer.join()
    assert stored(s3, bucket) == {"x": data}


def test_a_frozen_mount_is_mounted_again(s3, bucket, output, local, monkeypatch):
    monkeypatch.setattr(anchor, "PATIENCE_S", 1.0)
    assert signal_daemons(output.root, signal.SIGSTOP) == 1

    output.put("a/y", local)

    assert stored(s3, bucket) == {"a/y": b"content"}


def test_a_vanished_mount_of_ours_is_mounted_again(s3, bucket, output, local):
    subprocess.run(["umount", "-l", str(output.root)], check=True)

    output.put("x", local)

    assert stored(s3, bucket) == {"x": b"content"}
    subprocess.run(["umount", "-l", str(output.root)], check=True)
    assert list(output.root.iterdir()) == []


def test_a_vanished_mount_of_somebody_else_is_an_error_and_nothing_is_written(
    s3, bucket, tmp_path, environ, local
):
    with opened(s3, bucket, tmp_path / "mount", environ) as output:
        stranger = Output(output.root, None, environ={**environ, "LIGHTLY_FS_STATE_DIR": "/none"})
        subprocess.run(["umount", "-l", str(output.root)], check=True)

        with pytest.raises(MountError) as caught:
            stranger.put("x", local)

        assert caught.value.reason == "vanished"
        assert "--profile output" in caught.value.hint
        assert list((tmp_path / "mount").iterdir()) == []
        stranger.close()
    assert stored(s3, bucket) == {}


def test_a_full_tmpdir_leaves_no_part_of_a_file(s3, bucket, tmp_path, environ):
    tmpdir = tmp_path / "tmpdir"
    tmpdir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "t", str(tmpdir)], check=True)
    try:
        (tmp_path / "large").write_bytes(os.urandom(20_000_000))
        with opened(
            s3, bucket, tmp_path / "mount", environ, options=(f"tmpdir={tmpdir}",)
        ) as output:
            room = os.statvfs(tmpdir).f_bavail * os.statvfs(tmpdir).f_bsize
            (tmpdir / "filler").write_bytes(bytes(room - 1_000_000))

            with pytest.raises(MountError, match="No space left on device") as caught:
                output.put("x", tmp_path / "large")

            assert caught.value.reason == "write"
            assert "tmpdir" in caught.value.hint
            assert stored(s3, bucket) == {}
    finally:
        subprocess.run(["umount", "-l", str(tmpdir)], check=True)


def test_a_bucket_is_mounted_for_the_run_and_unmounted_afterwards(s3, bucket, environ, local):
    config = RunConfig(output_dir=f"s3://{bucket}/results")
    with open_output(config, environ) as output:
        root = output.root
        assert is_s3fs(root)
        assert output.location.uri == f"s3://{bucket}/results/"
        output.put("x", local)

    assert not root.exists()
    assert stored(s3, bucket) == {"x": b"content"}


def test_a_mounted_directory_is_opened_with_its_bucket(s3, bucket, output, environ, local):
    with open_output(RunConfig(output_dir=str(output.root / "sub")), environ) as below:
        below.put("x", local)
        assert below.uri == f"s3://{bucket}/results/sub/"

    assert stored(s3, bucket) == {"sub/x": b"content"}


def test_a_dead_mount_is_revived_when_it_is_opened(output, environ):
    signal_daemons(output.root, signal.SIGKILL)

    with open_output(RunConfig(output_dir=str(output.root)), environ) as again:
        assert again.names() == []


def test_one_writer_per_run_directory(s3, bucket, output):
    with locked(output, "run", owner="run 5") as lease:
        lease.check()
        with pytest.raises(RunLockedError, match="run 5"), locked(output, "run"):
            pass
        with locked(output, "another"):
            assert sorted(stored(s3, bucket)) == [f"another/{LOCK_NAME}", f"run/{LOCK_NAME}"]

    assert stored(s3, bucket) == {}


def test_a_lock_in_a_bucket_is_renewed(s3, bucket, output):
    with locked(output, "run", lease_s=1) as lease:
        first = stored(s3, bucket)
        time.sleep(2.2)
        lease.check()
        assert stored(s3, bucket) != first


def test_a_lock_in_a_bucket_is_taken_over_when_its_lease_ran_out_by_the_store_s_clock(
    s3, bucket, output
):
    key = f"results/run/{LOCK_NAME}"
    with locked(output, "run", lease_s=1):
        holder = json.loads(stored(s3, bucket)[f"run/{LOCK_NAME}"])
    # Its own clock is an hour ahead.
    gone = {**holder, "host": "far-away", "boot_id": "x", "expires_at": "2126-01-01T00:00:00"}
    s3.client().put_object(Bucket=bucket, Key=key, Body=json.dumps(gone))
    with pytest.raises(RunLockedError, match="far-away"), locked(output, "run"):
        pass
    time.sleep(3.2)

    with locked(output, "run") as lease:
        lease.check()
        assert json.loads(stored(s3, bucket)[f"run/{LOCK_NAME}"])["generation"] == 2

    assert stored(s3, bucket) == {}


def test_a_lock_that_was_taken_over_in_a_bucket_is_lost(s3, bucket, output):
    with locked(output, "run", lease_s=1) as lease:
        holder = json.loads(stored(s3, bucket)[f"run/{LOCK_NAME}"])
        other = json.dumps({**holder, "lease_id": "x", "owner": "run 6"})
        s3.client().put_object(Bucket=bucket, Key=f"results/run/{LOCK_NAME}", Body=other)
        time.sleep(1)
        with pytest.raises(RunLockedError, match="run 6"):
            lease.check()

    assert list(stored(s3, bucket)) == [f"run/{LOCK_NAME}"]


def test_of_two_that_saw_the_same_dead_lock_one_takes_over(s3, bucket):
    path = PurePosixPath("run") / LOCK_NAME
    slots = [ObjectSlot(Objects.of(known(s3, bucket)), path) for _ in range(2)]
    assert [slot.create(b"dead") for slot in slots] == [True, False]
    seen = [slot.read() for slot in slots]

    took = [slot.replace(b"mine", one) for slot, one in zip(slots, seen, strict=True)]

    assert took == [True, False]
    assert slots[0].is_exclusive(b"mine")


def test_a_lock_in_a_bucket_that_ignores_conditions_is_called_advisory(
    s3, bucket, tmp_path, environ, caplog
):
    with (
        without_conditions(s3) as url,
        opened(s3, bucket, tmp_path / "mount", environ, bucket_url=url) as output,
        locked(output, "run") as lease,
    ):
        assert "advisory" in caplog.text
        lease.check()
        with pytest.raises(RunLockedError), locked(output, "run"):
            pass

    assert stored(s3, bucket) == {}


def test_a_lock_through_a_mount_alone_is_called_advisory(output, environ, caplog):
    blind = Output(output.root, None, environ=environ)
    with caplog.at_level(logging.WARNING), locked(blind, "run", lease_s=1.5) as lease:
        assert "advisory" in caplog.text
        with pytest.raises(RunLockedError), locked(blind, "run"):
            pass
        time.sleep(1)
        lease.check()
    blind.close()

    assert output.read(f"run/{LOCK_NAME}") is None


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_uninterrupted_one(
    s3, bucket, output, tmp_path, environ
):
    config = RunConfig(shard_size=4, run_directory="run")
    inventory = inventory_of(NAMES)
    finish(output, config, tmp_path / "staging", inventory)
    expected = stored(s3, bucket)
    other = s3.new_bucket()
    script = Path(__file__).with_name("write_until.py")

    with opened(s3, other, tmp_path / "other", environ) as again:
        for allowed in (0, 5, 8, 11, 16, 21, 99):
            child = subprocess.run(
                [
                    *(sys.executable, str(script), str(again.root), other, s3.url, str(allowed)),
                    *(str(tmp_path / f"s{allowed}"), s3.access_key, s3.secret_key),
                ],
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                check=False,
            )
            assert child.returncode == (0 if allowed == 99 else -9), child.stderr
            manifest = Manifest.decode(stored(s3, other).get("run/manifest.json"))
            assert (manifest is not None) == (allowed == 99)

    found = stored(s3, other)
    assert found.keys() == expected.keys()
    same = {name for name in found if found[name] == expected[name]}
    assert found.keys() - same == {"run/config/run.json", "run/manifest.json"}
