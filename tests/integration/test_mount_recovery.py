"""Mounts that died, hang, vanished or are in use: noticed, mounted again, unmounted."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from lightly_fs.datasource.mount import check, health, mount, mounted, remount, unmount
from lightly_fs.datasource.survey import survey
from lightly_fs.errors import MountError

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


def test_a_killed_s3fs_is_noticed_and_mounted_again(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        host.process(made.directory).kill()
        with pytest.raises(MountError, match="is dead") as raised:
            check(made.directory / "photos", host.environ)
        assert raised.value.reason == "dead"

        again = remount(made.directory / "photos", host.environ)

        assert again.directory == made.directory
        assert (made.directory / "a.txt").read_bytes() == b"a.txt"
        assert len(host.processes()) == 1


def test_a_frozen_s3fs_never_blocks_the_check_and_is_replaced(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        host.process(made.directory).send_signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(MountError) as raised:
            check(made.directory, host.environ, timeout_s=1)
        assert raised.value.reason == "hung"
        assert time.monotonic() - started < 5

        remount(made.directory, host.environ)

        assert (made.directory / "a.txt").read_bytes() == b"a.txt"


def test_a_mount_that_somebody_took_away_is_brought_back(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        subprocess.run(["umount", "-l", str(made.directory)], check=True)
        assert health(made.directory, host.environ) == "not-mounted"

        remount(made.directory, host.environ)

        assert (made.directory / "a.txt").read_bytes() == b"a.txt"


def test_only_the_broken_stripe_is_mounted_again(host, photos):
    with mounted(host.request(photos, stripes=2), host.environ) as made:
        before = {process.pid for process in host.processes()}
        broken = host.process(made.stripes[0])
        broken.kill()
        broken.wait(5)

        remount(made.stripes[0] / "photos", host.environ)

        assert (made.stripes[0] / "a.txt").read_bytes() == b"a.txt"
        assert before - {broken.pid} < {process.pid for process in host.processes()}


def test_of_many_that_mount_again_at_once_one_does_it(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        host.process(made.directory).kill()
        errors: list[Exception] = []

        def revive() -> None:
            try:
                remount(made.directory, host.environ)
            except MountError as error:
                errors.append(error)

        threads = [threading.Thread(target=revive) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert len(host.processes()) == 1
        assert host.mounts() == [made.directory]


def test_mounting_again_uses_the_keys_of_today(host, moto):
    environ = host.environ | moto.environ()
    with mounted(host.request(moto.new_bucket()), environ) as made:
        host.process(made.directory).kill()

        remount(made.directory, environ | {"AWS_ACCESS_KEY_ID": "TODAY"})

        assert host.kept_keys().startswith("TODAY:")


def test_mounting_again_without_keys_uses_the_kept_ones(host, photos):
    bare = {k: v for k, v in host.environ.items() if "_ACCESS_KEY" not in k}
    with mounted(host.request(photos), host.environ) as made:
        host.process(made.directory).kill()

        again = remount(made.directory, bare)

        assert (made.directory / "a.txt").read_bytes() == b"a.txt"
        assert again.bucket.credentials is not None
        assert again.bucket.credentials.access_key == host.environ["AWS_ACCESS_KEY_ID"]


def test_what_is_not_ours_is_not_mounted_again(host):
    with pytest.raises(MountError, match="on no mount that this user made") as raised:
        remount(host.directory, host.environ)

    assert raised.value.reason == "unknown"


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_unmount_clears_dead_and_hung_mounts_with_their_stripes(host, photos, blow):
    made = mount(host.request(photos, stripes=2), host.environ)
    host.process(made.directory).send_signal(blow)
    host.process(made.stripes[1]).send_signal(blow)
    started = time.monotonic()

    unmount(made.directory, host.environ)

    assert time.monotonic() - started < 10
    made.directory.rmdir()
    assert host.leftovers() == []


def test_a_mount_in_use_is_not_pulled_away_unless_forced(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        with (made.directory / "a.txt").open(), pytest.raises(MountError) as raised:
            unmount(made.directory, host.environ, timeout_s=1)
        assert raised.value.reason == "busy"
        assert str(os.getpid()) in raised.value.message
        assert (made.directory / "a.txt").read_bytes() == b"a.txt"
        held = os.open(made.directory / "a.txt", os.O_RDONLY)
        unmount(made.directory, host.environ, timeout_s=1, force=True)
        with pytest.raises(OSError, match="not connected"):
            os.close(held)
        assert host.mounts() == []
        mount(replace(made.request), host.environ)


def test_a_mount_in_use_by_no_process_says_that_too(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(made.directory / "photos")], check=True)
        try:
            with pytest.raises(MountError, match=r"in use by something that .* cannot see$"):
                unmount(made.directory, host.environ, timeout_s=1)
        finally:
            subprocess.run(["umount", str(made.directory / "photos")], check=True)


def test_unmounting_what_is_no_mount_says_so(host):
    host.directory.mkdir()
    with pytest.raises(MountError, match="is no s3fs mount") as raised:
        unmount(host.directory, host.environ)

    assert raised.value.reason == "not-mounted"


def test_survey_tells_healthy_from_dead_without_waiting_for_the_hung(host, photos):
    second = host.request(photos, directory=host.folder / "second")
    with (
        mounted(host.request(photos, stripes=2), host.environ) as first,
        mounted(second, host.environ) as other,
    ):
        host.process(first.stripes[0]).send_signal(signal.SIGSTOP)
        host.process(other.directory).kill()
        started = time.monotonic()

        found = {status.directory: status for status in survey(host.environ, timeout_s=1)}

        assert time.monotonic() - started < 8
        assert found[first.directory].health == "ok"
        assert (found[first.directory].stripes, found[first.directory].stripes_ok) == (2, 1)
        assert found[first.directory].uri == f"s3://{photos}/"
        assert found[other.directory].health == "dead"
        assert found[other.directory].ours
