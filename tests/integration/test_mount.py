"""Buckets mounted for real: seen, known, recovered, unmounted."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lightly_fs.datasource.mount import check, health, mount, mounted, remount, unmount
from lightly_fs.datasource.survey import survey
from lightly_fs.datasource.table import bucket_of, is_s3fs, record_of
from lightly_fs.errors import MountError
from tests.conftest import S3Server
from tests.integration.mounting import Host, clear, make_host, shows

pytestmark = [pytest.mark.fuse, pytest.mark.s3]
TOKEN = "t0ken-that-nobody-sees"


@pytest.fixture
def host(tmp_path: Path, s3: S3Server) -> Iterator[Host]:
    made = make_host(tmp_path, s3.environ())
    yield made
    clear(made)


@pytest.fixture
def photos(s3: S3Server, bucket: str) -> str:
    """A bucket with five objects, two of them below `photos/2026`."""
    client = s3.client()
    for key in ("a.txt", "photos/1.jpg", "photos/2026/2.jpg", "photos/2026/3.jpg", "other/x"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def kept_keys(host: Host) -> str:
    """Return what the s3fs of the only mount was given as password file."""
    (path,) = host.state.glob("*/passwd")
    return path.read_text()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_mounted_bucket_shows_its_objects_and_is_known(host, photos):
    made = mount(host.request(photos), host.environ)

    assert names(made.directory) == ["a.txt", "other", "photos"]
    assert (made.directory / "photos/2026/2.jpg").read_bytes() == b"photos/2026/2.jpg"
    assert is_s3fs(made.directory)
    below = bucket_of(made.directory / "photos", host.environ)
    assert below is not None
    assert below.uri == f"s3://{photos}/photos/"
    check(made.directory / "photos", host.environ)

    unmount(made.directory, host.environ)

    assert [left for left in host.leftovers() if not left.startswith("directory")] == []


def test_input_mounts_are_read_only(host, photos):
    with mounted(host.request(photos), host.environ) as made:
        with pytest.raises(OSError, match="Read-only file system"):
            (made.directory / "new").write_text("x")
        with pytest.raises(OSError, match="Read-only file system"):
            (made.directory / "a.txt").unlink()


def test_mounted_leaves_nothing_behind_even_when_the_block_fails(host, photos):
    with pytest.raises(RuntimeError), mounted(host.request(photos, stripes=2), host.environ):
        raise RuntimeError("the run failed")

    assert host.leftovers() == []


def test_a_prefix_is_mounted_alone(host, photos):
    with mounted(host.request(photos, prefix="photos/2026/"), host.environ) as made:
        assert names(made.directory) == ["2.jpg", "3.jpg"]
        assert made.bucket.prefix == "photos/2026/"
        below = bucket_of(made.directory, host.environ)
        assert below is not None
        assert below.prefix == "photos/2026/"


def test_stripes_show_the_same_and_are_known(host, photos):
    with mounted(host.request(photos, stripes=3), host.environ) as made:
        assert made.stripes == tuple(Path(f"{host.directory}.stripes/{n}") for n in (1, 2, 3))
        for stripe in made.stripes:
            assert (stripe / "a.txt").read_bytes() == b"a.txt"
            known = bucket_of(stripe, host.environ)
            assert known is not None
            assert known.name == photos
        assert len(host.processes()) == 4


def test_output_is_writable_for_the_user_it_is_given_to(host, s3, bucket):
    request = host.request(bucket, prefix="results/new", profile="output", uid=65534, gid=65534)
    with mounted(request, host.environ) as made:
        for path in (host.folder, *host.folder.parents[:-2]):
            path.chmod(path.stat().st_mode | stat.S_IXOTH)
        subprocess.run(
            [
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
                *("sh", "-c", 'echo written >"$0/file" && cat "$0/file"', str(made.directory)),
            ],
            check=True,
        )

    body = s3.client().get_object(Bucket=bucket, Key="results/new/file")["Body"].read()
    assert body == b"written\n"


def test_a_cache_is_used_bounded_and_spoken_of(host, photos):
    cache = host.folder / "cache"
    request = host.request(photos, use_cache=cache, stripes=2)
    with mounted(request, host.environ) as made:
        (made.directory / "a.txt").read_bytes()
        (made.stripes[1] / "a.txt").read_bytes()

        assert (cache / photos / "a.txt").read_bytes() == b"a.txt"
        assert (cache / "stripe-2" / photos / "a.txt").read_bytes() == b"a.txt"
        assert "ensure_diskfree=1024" in " ".join(host.process(made.directory).cmdline())
        assert any("may serve an object as it was" in note for note in made.notes)
        (status,) = [one for one in survey(host.environ) if one.directory == made.directory]
        assert status.cache_bytes is not None
        assert status.cache_bytes >= 8192
        assert cache.stat().st_mode & 0o077 == 0


def test_one_cache_for_two_mounts_is_refused(host, photos):
    cache = host.folder / "cache"
    with mounted(host.request(photos, use_cache=cache), host.environ):
        second = host.request(photos, use_cache=cache, directory=host.folder / "second")
        with pytest.raises(MountError, match="another mount uses the cache") as raised:
            mount(second, host.environ)

    assert raised.value.reason == "cache"


def assert_hidden(host: Host, directory: Path, *secrets: str) -> None:
    """Look where other users can: command lines, and everything in the state but private files."""
    listing = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    texts = [line for line in listing.splitlines() if str(directory) in line]
    assert texts
    for path in host.state.rglob("*"):
        if path.name in ("passwd", "token"):
            assert path.stat().st_mode & 0o777 == 0o600
        elif path.is_file():
            texts.append(path.read_text())
    assert not [text for text in texts for secret in secrets if shows(text, secret)]
    assert host.state.stat().st_mode & 0o777 == 0o700


def test_secrets_are_in_no_command_line_record_or_log(host, photos, s3):
    with mounted(host.request(photos, stripes=2), host.environ) as made:
        assert_hidden(host, made.directory, s3.secret_key)
        assert s3.secret_key not in host.process(made.directory).environ().values()


def test_a_session_token_reaches_s3fs_by_its_environment_alone(host, moto):
    environ = host.environ | moto.environ() | {"AWS_SESSION_TOKEN": TOKEN}
    with mounted(host.request(moto.new_bucket(), stripes=2), environ) as made:
        assert_hidden(host, made.directory, moto.secret_key, TOKEN)
        assert host.process(made.directory).environ()["AWSSESSIONTOKEN"] == TOKEN


def test_profile_of_the_credentials_file_is_used(host, photos, s3):
    aws = Path(host.environ["HOME"]) / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = NOT\naws_secret_access_key = this\n"
        f"[lab]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    )
    bare = {k: v for k, v in host.environ.items() if "_ACCESS_KEY" not in k}
    with mounted(host.request(photos, aws_profile="lab"), bare) as made:
        assert kept_keys(host) == f"{s3.access_key}:{s3.secret_key}\n"
        assert made.bucket.credentials is not None
        assert made.bucket.credentials.access_key == s3.access_key


def test_password_file_line_of_the_bucket_is_used(host, photos, s3):
    passwd = host.folder / "passwd, with a comma"
    passwd.write_text(f"ALL:all\n{photos}:{s3.access_key}:{s3.secret_key}\n")
    passwd.chmod(0o600)
    bare = {k: v for k, v in host.environ.items() if "_ACCESS_KEY" not in k}
    with mounted(host.request(photos, passwd_file=passwd), bare):
        assert kept_keys(host) == f"{s3.access_key}:{s3.secret_key}\n"


@pytest.mark.parametrize(
    "name", ["with space", "comma,colon:back\\slash", "ünï", "-dash", "quote'\"$x"]
)
def test_odd_directory_names_are_mounted_known_and_unmounted(host, photos, name):
    directory = host.folder / name / "mount"
    with mounted(host.request(photos, directory=directory), host.environ) as made:
        assert (directory / "a.txt").read_bytes() == b"a.txt"
        assert made.directory == directory
        found = record_of(directory / "photos", host.environ)
        assert found is not None
        assert found[1] == directory

    assert host.mounts() == []


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

        assert kept_keys(host).startswith("TODAY:")


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


def test_a_foreign_mount_is_known_from_its_process(host, photos, s3):
    passwd = host.folder / "passwd"
    passwd.write_text(f"{s3.access_key}:{s3.secret_key}\n")
    passwd.chmod(0o600)
    host.directory.mkdir()
    options = f"url={s3.url},use_path_request_style,passwd_file={passwd},ro"
    subprocess.run(["s3fs", f"{photos}:/photos", str(host.directory), "-o", options], check=True)
    deadline = time.monotonic() + 10
    while health(host.directory, host.environ) != "ok" and time.monotonic() < deadline:
        time.sleep(0.1)

    # Its keys are those that it was given, not those that the environment has.
    environ = host.environ | {"AWS_ACCESS_KEY_ID": "ANOTHER"}
    bucket = bucket_of(host.directory / "2026", environ)

    assert bucket is not None
    assert (bucket.uri, bucket.url) == (f"s3://{photos}/photos/2026/", s3.url)
    assert bucket.credentials is not None
    assert bucket.credentials.access_key == s3.access_key
    (status,) = [one for one in survey(host.environ) if one.directory == host.directory]
    assert (status.uri, status.ours) == (f"s3://{photos}/photos/", False)
    unmount(host.directory, host.environ)
    assert host.mounts() == []
