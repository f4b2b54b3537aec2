"""Buckets mounted for real: seen, known, recovered, unmounted."""

from __future__ import annotations

import stat
import subprocess
import time
from pathlib import Path

import pytest

from lightly_fs.datasource.mount import check, health, mount, mounted, unmount
from lightly_fs.datasource.survey import survey
from lightly_fs.datasource.table import bucket_of, is_s3fs, record_of
from lightly_fs.errors import MountError
from tests.integration.mounting import Host, shows

pytestmark = [pytest.mark.fuse, pytest.mark.s3]
TOKEN = "t0ken-that-nobody-sees"


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
        assert host.kept_keys() == f"{s3.access_key}:{s3.secret_key}\n"
        assert made.bucket.credentials is not None
        assert made.bucket.credentials.access_key == s3.access_key


def test_password_file_line_of_the_bucket_is_used(host, photos, s3):
    passwd = host.folder / "passwd, with a comma"
    passwd.write_text(f"ALL:all\n{photos}:{s3.access_key}:{s3.secret_key}\n")
    passwd.chmod(0o600)
    bare = {k: v for k, v in host.environ.items() if "_ACCESS_KEY" not in k}
    with mounted(host.request(photos, passwd_file=passwd), bare):
        assert host.kept_keys() == f"{s3.access_key}:{s3.secret_key}\n"


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
