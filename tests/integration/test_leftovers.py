"""What runs leave that are killed: the next one unmounts and removes it, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lightly_fs.datasource.mount import MountRequest, mount, unmount
from lightly_fs.datasource.private import private_directory, sweep
from tests.conftest import S3Server
from tests.integration.mounted_bucket import QUICK, upload, wait_until
from tests.integration.mounting import Host

pytestmark = [pytest.mark.fuse, pytest.mark.s3]
N_SAMPLES = "stopping_condition.n_samples=3"


@pytest.fixture
def host(host: Host) -> Host:
    host.environ["TMPDIR"] = str(host.folder)
    return host


@pytest.fixture(scope="module")
def photos(s3: S3Server, images: Path) -> str:
    name = s3.new_bucket()
    upload(s3, name, images)
    return name


def command(source: str, target: str) -> list[str]:
    places = (f"input_dir=s3://{source}", f"output_dir=s3://{target}", "run_directory=r")
    return [sys.executable, "-m", "lightly_fs", "-v", "run", *QUICK, N_SAMPLES, *places]


def start(host: Host, source: str, s3: S3Server) -> tuple[subprocess.Popen[bytes], str]:
    """Start a run and wait until it is embedding; return it and its output bucket."""
    target = s3.new_bucket()
    with (host.folder / f"{target}.log").open("wb") as log:
        process = subprocess.Popen(command(source, target), env=host.environ, stderr=log)

    def embedding() -> bool:
        found = s3.client().list_objects_v2(Bucket=target, Prefix="r/parts/embed-")
        return found["KeyCount"] > 0

    wait_until(embedding, process)
    return process, target


def tops(host: Host) -> set[Path]:
    return set(host.folder.glob("lightly-fs-*"))


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_a_living_one(host, s3, photos):
    killed, target = start(host, photos, s3)
    killed.kill()
    killed.wait()
    left, dead = tops(host), host.mounts()
    assert {top.name for one in left for top in one.iterdir()} == {
        *("staging", "input", "output", "owner.json")
    }
    assert len(dead) == len(host.processes()) == 2
    living, _ = start(host, photos, s3)  # sweeps too
    try:
        living.send_signal(signal.SIGSTOP)
        used = tops(host)
        assert not used & left
        assert len(used) == 3
        assert len(host.mounts()) == len(host.processes()) == 2
        again = subprocess.run(command(photos, target), env=host.environ, timeout=200)
        assert again.returncode == 0
        assert tops(host) == used
        assert len(host.mounts()) == len(host.processes()) == 2
    finally:
        living.send_signal(signal.SIGCONT)
    assert living.wait(200) == 0
    assert tops(host) == set()
    assert host.leftovers() == []


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_dead_and_hung_mounts_of_a_killed_run_are_removed_too(host, s3, photos, blow, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(host.folder))
    killed, _ = start(host, photos, s3)
    killed.kill()
    killed.wait()
    for process in host.processes():
        process.send_signal(blow)
    left = tops(host)

    assert set(sweep(host.environ)) == left

    assert tops(host) == set()
    assert host.leftovers() == []


def test_unmount_stale_says_what_it_removed(host, s3, photos):
    killed, _ = start(host, photos, s3)
    killed.kill()
    killed.wait()
    left = tops(host)
    stale = [sys.executable, "-m", "lightly_fs", "unmount", "--stale"]

    told = subprocess.run(stale, env=host.environ, capture_output=True, text=True, check=True)
    again = subprocess.run(stale, env=host.environ, capture_output=True, text=True, check=True)

    assert {Path(line.removeprefix("removed ")) for line in told.stdout.splitlines()} == left
    assert again.stdout == "killed runs left nothing\n"
    assert host.leftovers() == []


def test_a_mount_that_a_user_made_is_no_leftover(host, s3, photos, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(host.folder))
    made = mount(host.request(photos), host.environ)

    assert sweep(host.environ) == []

    assert host.mounts() == [made.directory]
    unmount(made.directory, host.environ)


def test_objects_outlive_a_private_directory_that_is_still_mounted(host, s3, bucket, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(host.folder))
    with private_directory("output") as directory:
        request = MountRequest(bucket=bucket, directory=directory, profile="output")
        mount(request, host.environ)
        (directory / "results").mkdir()
        (directory / "results" / "report.pdf").write_bytes(b"precious")

    assert (directory / "results" / "report.pdf").read_bytes() == b"precious"
    body = s3.client().get_object(Bucket=bucket, Key="results/report.pdf")["Body"].read()
    assert body == b"precious"
    unmount(directory, host.environ)
