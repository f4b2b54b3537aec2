"""What the kernel's table and our records say, without touching a mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightly_fs.datasource import table
from lightly_fs.datasource.table import (
    bucket_of,
    entry_of,
    is_s3fs,
    mount_entries,
    record_of,
    records,
    state_dir,
)
from lightly_fs.errors import MountError

TABLE = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
42 27 0:39 / /s3-mount ro,nosuid,nodev,relatime shared:1 - fuse.s3fs s3://b/photos/ ro,user_id=0
43 27 0:40 / /s3-mount.stripes/1 ro,nosuid - fuse.s3fs s3://b/photos/ ro,user_id=0
44 27 0:39 /2026/07 /home/input_dir ro,relatime - fuse.s3fs s3fs ro,user_id=0
45 27 0:41 / /mnt/with\\040space\\134back rw,relatime - fuse.s3fs s3://b/a\\040b\\043/ rw,user_id=0
46 27 0:42 / /mnt/with\\040space\\134back rw,relatime - tmpfs tmpfs rw
47 27 0:43 / /mnt/ssh rw - fuse.sshfs host:/ rw
"""
KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.fixture
def mountinfo(tmp_path, monkeypatch):
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    monkeypatch.setattr(table, "_MOUNTINFO", path)
    return path


@pytest.fixture
def environ(tmp_path):
    state = tmp_path / "state"
    record(state / "one", directory="/s3-mount", bucket="b", prefix="photos", stripes="2")
    return {"LIGHTLY_FS_STATE_DIR": str(state), "HOME": str(tmp_path), **KEYS}


def record(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True)
    lines = "".join(f"{name}={value}\n" for name, value in values.items())
    (folder / "record").write_text(lines + "url=http://s3:9000\nregion=us-east-1\n")


def test_deepest_and_latest_mount_holds_a_directory():
    entries = mount_entries(TABLE)

    assert entry_of(Path("/s3-mount/a/b"), entries).device == "0:39"
    assert entry_of(Path("/s3-mountain"), entries).device == "8:1"
    assert entry_of(Path("/mnt/with space\\back/x"), entries).fstype == "tmpfs"


def test_names_are_unescaped():
    entry = mount_entries(TABLE)[4]

    assert entry.directory == Path("/mnt/with space\\back")
    assert entry.source == "s3://b/a b#/"
    assert not entry.read_only


def test_only_s3fs_is_s3fs(mountinfo):
    assert is_s3fs(Path("/s3-mount/deep/below"))
    assert not is_s3fs(Path("/mnt/ssh"))
    assert not is_s3fs(Path("/"))


def test_symbolic_link_to_a_mount_is_followed(mountinfo, tmp_path):
    (tmp_path / "link").symlink_to("/s3-mount")

    assert is_s3fs(tmp_path / "link")


def test_records_are_read_back(environ):
    (only,) = records(environ)

    assert only.directory == Path("/s3-mount")
    assert only.stripes == (Path("/s3-mount.stripes/1"), Path("/s3-mount.stripes/2"))
    assert only.uri == "s3://b/photos/"
    assert only.read_only


def test_half_written_record_is_no_record(environ, tmp_path):
    (tmp_path / "state" / "two").mkdir()
    (tmp_path / "state" / "two" / "record").write_text("directory=/x\n")
    (tmp_path / "state" / "three").mkdir()

    assert len(records(environ)) == 1


def test_a_record_holds_for_everything_below_its_mounts(mountinfo, environ):
    assert record_of(Path("/s3-mount/a/b"), environ)[1] == Path("/s3-mount")
    assert record_of(Path("/s3-mount.stripes/2/x"), environ)[1] == Path("/s3-mount.stripes/2")
    assert record_of(Path("/s3-mountain"), environ) is None


def test_a_bind_mount_is_traced_to_its_record(mountinfo, environ):
    found = record_of(Path("/home/input_dir/x"), environ)

    assert found is not None
    assert found[1] == Path("/s3-mount")


def test_bucket_is_known_from_the_record(mountinfo, environ):
    bucket = bucket_of(Path("/s3-mount/2026"), environ)

    assert bucket is not None
    assert bucket.uri == "s3://b/photos/2026/"
    assert (bucket.url, bucket.path_style) == ("http://s3:9000", True)
    assert bucket.credentials is not None
    assert bucket.credentials.access_key == "A"


def test_folder_shown_by_a_bind_mount_extends_the_prefix(mountinfo, environ):
    bucket = bucket_of(Path("/home/input_dir/x"), environ)

    assert bucket is not None
    assert bucket.uri == "s3://b/photos/2026/07/x/"


def test_kept_keys_are_used_when_there_are_no_others(mountinfo, environ, tmp_path):
    (tmp_path / "state" / "one" / "passwd").write_text("KEPT:s-kept\n")
    (tmp_path / "state" / "one" / "token").write_text("t-kept\n")
    bare = {name: value for name, value in environ.items() if name not in KEYS}

    bucket = bucket_of(Path("/s3-mount"), bare)

    assert bucket is not None
    assert bucket.credentials is not None
    assert bucket.credentials.secret_key == "s-kept"
    assert bucket.credentials.session_token == "t-kept"
    assert "kept" not in repr(bucket).replace("KEPT", "")


def test_without_any_keys_the_bucket_is_unknown(mountinfo, environ):
    bare = {name: value for name, value in environ.items() if name not in KEYS}

    assert bucket_of(Path("/s3-mount"), bare) is None
    with pytest.raises(MountError, match="no credentials"):
        records(bare)[0].bucket(bare)


def test_in_a_container_the_source_column_names_the_bucket(mountinfo, tmp_path):
    environ = {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "none"), **KEYS}
    environ["LIGHTLY_FS_INPUT_URI"] = "s3://something-else"

    bucket = bucket_of(Path("/s3-mount/x"), environ)

    assert bucket is not None
    assert bucket.uri == "s3://b/photos/x/"


def test_a_foreign_mount_in_a_container_is_the_input_that_the_environment_names(
    mountinfo, tmp_path
):
    mountinfo.write_text("1 0 0:9 /sub /home/input_dir ro - fuse.s3fs s3fs ro\n")
    environ = {
        "LIGHTLY_FS_STATE_DIR": str(tmp_path / "none"),
        "LIGHTLY_FS_INPUT_URI": "s3://b/p",
        "LIGHTLY_FS_OUTPUT_URI": "s3://out",
        "AWS_ENDPOINT_URL": "http://s3:9000",
        **KEYS,
    }

    bucket = bucket_of(Path("/home/input_dir"), environ)

    assert bucket is not None
    assert (bucket.uri, bucket.url) == ("s3://b/p/sub/", "http://s3:9000")


def test_a_writable_foreign_mount_is_not_guessed_between_two_buckets(mountinfo, tmp_path):
    mountinfo.write_text("1 0 0:9 / /home/output_dir rw - fuse.s3fs s3fs rw\n")
    environ = {
        "LIGHTLY_FS_STATE_DIR": str(tmp_path / "none"),
        "LIGHTLY_FS_INPUT_URI": "s3://in",
        "LIGHTLY_FS_OUTPUT_URI": "s3://out",
        **KEYS,
    }

    assert bucket_of(Path("/home/output_dir"), environ) is None


def test_a_plain_directory_has_no_bucket(mountinfo, environ, tmp_path):
    environ["LIGHTLY_FS_INPUT_URI"] = "s3://b/p"

    assert bucket_of(tmp_path, environ) is None


def test_state_lies_in_a_private_place(monkeypatch):
    monkeypatch.setattr(table.os, "getuid", lambda: 0)
    assert state_dir({}) == Path("/run/lightly-fs")
    assert state_dir({"LIGHTLY_FS_STATE_DIR": "/x"}) == Path("/x")
    monkeypatch.setattr(table.os, "getuid", lambda: 1000)
    assert state_dir({"XDG_RUNTIME_DIR": "/run/user/1000"}) == Path("/run/user/1000/lightly-fs")
    assert state_dir({"TMPDIR": "/var/tmp"}) == Path("/var/tmp/lightly-fs-1000")


@pytest.mark.parametrize(
    ("words", "places", "options"),
    [
        (["s3fs", "b:/p", "/m", "-o", "ro,url=http://x"], ["b:/p", "/m"], {"url": "http://x"}),
        (["s3fs", "-o", "url=u", "b", "/m", "-f"], ["b", "/m"], {"url": "u"}),
        (["s3fs", "/m", "-obucket=b"], ["/m"], {"bucket": "b"}),
        (["s3fs", "b", "/m", "-o"], ["b", "/m"], {}),
    ],
)
def test_command_lines_of_s3fs_are_understood(words, places, options):
    found_places, found_options = table._parse_command(words)

    assert found_places == places
    assert {name: found_options.get(name) for name in options} == options


@pytest.mark.parametrize(
    ("places", "options", "word"),
    [
        (["b", "/m"], {}, "b"),
        (["b:/p", "/m"], {}, "b:/p"),
        (["b", "/p", "/m"], {}, "b:/p"),
        (["/m"], {"bucket": "b:/p"}, "b:/p"),
    ],
)
def test_bucket_of_a_command_line_is_found_however_it_is_cut(places, options, word):
    assert table._bucket_word(places, options) == word
