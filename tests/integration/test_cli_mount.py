"""`lightly-fs mount`, `mounts` and `unmount` as a person sees them."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios

import pytest

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


@pytest.fixture
def lightly_fs(s3, tmp_path):
    environ = {**os.environ, **s3.environ(), "LIGHTLY_FS_STATE_DIR": str(tmp_path / "state")}

    def call(*words, **streams):
        return subprocess.run(
            [sys.executable, "-m", "lightly_fs", *map(str, words)],
            env=environ,
            **(streams or {"capture_output": True, "text": True}),
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def mounted(lightly_fs, bucket):
    """Mounts at directories, and unmounts at the end what a failing test left."""
    directories = []

    def mount(directory):
        directories.append(directory)
        done = lightly_fs("mount", bucket, directory)
        assert done.returncode == 0, done.stderr

    yield mount
    for directory in directories:
        if os.path.ismount(directory):
            lightly_fs("unmount", directory, "--force")


def on_terminal(lightly_fs, columns, *words):
    """Return what a command shows on a terminal of that width, without colours."""
    main, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    lightly_fs(*words, stdin=child, stdout=child, stderr=child)
    os.close(child)
    shown = b""
    try:
        while chunk := os.read(main, 65536):
            shown += chunk
    except OSError:  # nobody has the terminal open any more
        pass
    os.close(main)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


def test_unmounting_removes_what_mounting_made(lightly_fs, mounted, tmp_path):
    (tmp_path / "mine").mkdir()
    mounted(tmp_path / "mine")
    mounted(tmp_path / "new" / "mount")

    for directory in ("mine", "new/mount"):
        assert lightly_fs("unmount", tmp_path / directory).returncode == 0

    assert (tmp_path / "mine").is_dir()
    assert not (tmp_path / "new").exists()


def test_a_mount_is_unmounted_from_inside(lightly_fs, mounted, tmp_path):
    mounted(tmp_path / "mount")
    inside = {"cwd": tmp_path / "mount", "capture_output": True, "text": True}

    done = lightly_fs("unmount", tmp_path / "mount", **inside)

    assert done.returncode == 0, done.stderr


def test_who_stands_in_a_mount_is_named(lightly_fs, mounted, tmp_path):
    mounted(tmp_path / "mount")
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path / "mount") as standing:
        inside = {"cwd": tmp_path / "mount", "capture_output": True, "text": True}
        refused = lightly_fs("unmount", "--timeout", "1", ".", **inside)
        standing.kill()

    assert refused.returncode == 3
    assert f"is in use by process {standing.pid} (sleep)\n" in refused.stderr
    assert "cd /" in refused.stderr


def test_unmounting_keeps_a_directory_that_holds_something(lightly_fs, mounted, tmp_path):
    mounted(tmp_path / "new" / "mount")
    (tmp_path / "new" / "note").touch()

    assert lightly_fs("unmount", tmp_path / "new" / "mount").returncode == 0

    assert sorted(tmp_path.glob("new/*")) == [tmp_path / "new" / "note"]


def test_a_long_path_is_never_broken(lightly_fs, mounted, bucket, tmp_path):
    directory = tmp_path / ("a-long-name-" * 12) / "mount"
    mounted(directory)

    piped = lightly_fs("mounts").stdout.splitlines()
    wide = on_terminal(lightly_fs, 400, "mounts").splitlines()
    narrow = on_terminal(lightly_fs, 60, "mounts").splitlines()

    row = ["BUCKET", "DIRECTORY", "HEALTH", "CACHE", "STRIPES"]
    assert piped[0].split() == wide[0].split() == row
    values = [f"s3://{bucket}/", str(directory), "ok", "-", "-"]
    assert values in [line.split() for line in piped]
    assert values in [line.split() for line in wide]
    start = narrow.index(f"BUCKET     s3://{bucket}/")
    assert [line.split() for line in narrow[start : start + 5]] == [
        [title, value] for title, value in zip(row, values, strict=True)
    ]
