"""Every way a host can refuse a mount, provoked: its reason, in time, and nothing left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lightly_fs.datasource.mount import health, mount, mounted
from tests.integration.mounting import SCRIPTS, assert_clean, fail_to_mount
from tests.s3stub import S3Stub

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


def test_no_fuse_device(host, bucket):
    """In a mount namespace of its own, whose /dev has everything but fuse."""
    devices = host.folder / "dev"
    hide = (
        'mkdir "$0" && mount -t tmpfs none "$0" && '
        'cp -a /dev/null /dev/zero /dev/random /dev/urandom "$0" && '
        'mount --bind "$0" /dev && exec "$@"'
    )
    before = ("unshare", "-m", "sh", "-c", hide, str(devices))

    failed = fail_to_mount(host, bucket, host.directory, before=before)

    assert_clean(failed, host, "fuse")
    assert "no /dev/fuse" in failed.error["message"]
    assert "--device /dev/fuse" in failed.error["hint"]


def test_no_right_to_mount(host, bucket):
    before = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")

    failed = fail_to_mount(host, bucket, host.directory, before=before)

    assert_clean(failed, host, "fuse")
    assert "mount failed: Operation not permitted" in failed.error["message"]
    assert "--cap-add SYS_ADMIN" in failed.error["hint"]


def test_s3fs_is_not_installed(host, bucket):
    tools = host.folder / "tools"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name != "s3fs" and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    host.environ["PATH"] = str(tools)

    failed = fail_to_mount(host, bucket, host.directory)

    assert_clean(failed, host, "s3fs")
    assert "apt-get install s3fs" in failed.error["hint"]


def test_directory_with_files(host, bucket):
    host.directory.mkdir()
    (host.directory / "precious").write_text("data")

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "occupied"
    assert failed.seconds < 10
    assert (host.directory / "precious").read_text() == "data"
    assert host.leftovers() == [f"directory {host.directory}"]


def test_directory_that_is_mounted_already(host, bucket):
    with mounted(host.request(bucket), host.environ) as made:
        failed = fail_to_mount(host, bucket, host.directory)

        assert failed.error["reason"] == "occupied"
        assert f"fuse.s3fs s3://{bucket}/" in failed.error["message"]
        assert failed.seconds < 10
        assert health(made.directory, host.environ) == "ok"

    assert host.leftovers() == []


def test_a_file_instead_of_a_directory(host, bucket):
    host.directory.write_text("data")

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "directory"
    assert host.directory.read_text() == "data"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_dead_s3fs_mount_is_cleared_and_mounted(host, bucket, recorded):
    made = mount(host.request(bucket, stripes=2), host.environ)
    for process in host.processes():
        process.kill()
        process.wait(5)
    if not recorded:
        shutil.rmtree(host.state)
        for stripe in made.stripes:
            subprocess.run(["umount", "-l", str(stripe)], check=True)
            stripe.rmdir()
        made.stripes[0].parent.rmdir()
    started = time.monotonic()

    with mounted(host.request(bucket), host.environ):
        assert time.monotonic() - started < 10
        assert host.mounts() == [host.directory]

    host.directory.rmdir()
    assert host.leftovers() == []


def test_a_hung_mount_is_refused_with_the_way_out(host, bucket):
    with mounted(host.request(bucket), host.environ) as made:
        host.process(made.directory).send_signal(signal.SIGSTOP)

        failed = fail_to_mount(host, bucket, host.directory)

        assert failed.error["reason"] == "stale"
        assert failed.error["hint"] == f"lightly-fs unmount {host.directory}"
        assert failed.seconds < 10

    assert host.leftovers() == []


def test_a_dead_mount_of_another_program_is_left_alone(host, bucket, s3):
    passwd = host.folder / "passwd"
    passwd.write_text(f"{s3.access_key}:{s3.secret_key}\n")
    passwd.chmod(0o600)
    host.directory.mkdir()
    options = f"url={s3.url},use_path_request_style,passwd_file={passwd},subtype=other"
    subprocess.run(["s3fs", bucket, str(host.directory), "-o", options], check=True)
    time.sleep(0.5)
    host.process(host.directory).kill()

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "stale"
    assert "fuse.other" in failed.error["message"]
    assert host.mounts() == [host.directory]


def test_a_cache_that_cannot_be_written(host, bucket):
    cache = host.folder / "cache"
    cache.write_text("a file")

    failed = fail_to_mount(host, bucket, host.directory, "--use-cache", cache)

    assert_clean(failed, host, "cache")


def test_a_full_disk(host, bucket):
    small = host.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "t", str(small)], check=True)
    try:
        failed = fail_to_mount(host, bucket, host.directory, "-o", f"tmpdir={small}")
    finally:
        subprocess.run(["umount", str(small)], check=True)

    assert_clean(failed, host, "cache")
    assert "enough disk space" in failed.error["message"]
    assert "tmpdir=DIR" in failed.error["hint"]


def test_an_error_removes_the_directories_that_were_made_for_the_mount(host):
    deep = host.folder / "mounts" / "of" / "mine"
    done = host.script("mount.sh", "no-such-bucket", deep)

    assert done.returncode == 66
    assert host.leftovers() == []


def test_an_interrupted_mount_leaves_nothing(host):
    with S3Stub("hang") as stub:
        words = ["sh", str(SCRIPTS / "mount.sh"), "photos", str(host.directory), "--url", stub.url]
        process = subprocess.Popen(words, env=host.environ, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while not host.mounts() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert host.mounts() == [host.directory]
        process.terminate()

        assert process.wait(10) == 143

    assert host.leftovers() == []
