from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightly_fs.datasource.private import private_directory, sweep
from lightly_fs.errors import TemporarySpaceError

HOLDS = """
import sys, time
from lightly_fs.datasource.private import private_directory
with private_directory("staging") as directory:
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "file").write_text("x")
    (directory / "link").symlink_to("/")
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process that holds a private directory until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip()).parent
    finally:
        process.communicate()


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The private directory of a process that was killed."""
    with holder(tmp_path) as (process, top):
        process.kill()
    return top


def environ(folder: Path) -> dict[str, str]:
    return {"LIGHTLY_FS_STATE_DIR": str(folder / "state")}


def change(top: Path, **values: object) -> None:
    owner = top / "owner.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | values))


def test_a_private_directory_is_empty_private_and_gone_at_the_end(tmp_path):
    with private_directory("staging") as directory:
        assert directory.name == "staging"
        assert list(directory.iterdir()) == []
        assert directory.parent.stat().st_mode & 0o077 == 0
        (directory / "a" / "b").mkdir(parents=True)
        (directory / "a" / "b" / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_file_system_is_named_and_nothing_is_left(tmp_path):
    def fill() -> None:
        with private_directory("staging") as directory:
            (directory / "file").write_text("x")
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "file"))
            error.add_note("run_directory=r resumes this run")
            raise error

    with pytest.raises(TemporarySpaceError, match=f"in {tmp_path}: No space left") as caught:
        fill()
    assert caught.value.exit_code == 11
    assert caught.value.hint.startswith("TMPDIR=")
    assert caught.value.__notes__ == ["run_directory=r resumes this run"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "name"), [(errno.ENOSPC, "/elsewhere"), (errno.ENOSPC, None), (errno.EIO, None)]
)
def test_a_failure_elsewhere_stays_what_it_is(number, name):
    with pytest.raises(OSError, match=os.strerror(number)), private_directory("staging"):
        raise OSError(number, os.strerror(number), name)


def test_no_temporary_directory_at_all_is_an_error_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        pytest.raises(TemporarySpaceError, match=f"written in {tmp_path}/none: No such file"),
        private_directory("staging"),
    ):
        pass


def test_links_out_of_it_are_removed_and_not_followed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("x")
    with private_directory("staging") as directory:
        (directory / "link").symlink_to(other)
    assert (other / "file").read_text() == "x"
    assert list(tmp_path.iterdir()) == [other]


def test_what_a_killed_process_left_is_removed(tmp_path, left):
    assert (left / "staging" / "deep" / "er" / "file").exists()
    assert sweep(environ(tmp_path)) == [left]
    assert list(tmp_path.iterdir()) == []
    assert sweep(environ(tmp_path)) == []


def test_a_corpse_that_nobody_has_buried_is_dead(tmp_path):
    with holder(tmp_path) as (process, top):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert sweep(environ(tmp_path)) == [top]


def test_what_living_processes_use_is_left_alone(tmp_path, left):
    with private_directory("staging") as mine, holder(tmp_path) as (_, theirs):
        assert sweep(environ(tmp_path)) == [left]
        assert mine.exists()
        assert (theirs / "staging" / "deep" / "er" / "file").exists()


def test_a_pid_that_another_process_got_is_no_life(tmp_path, left):
    started = json.loads((left / "owner.json").read_text())["pid_started"]
    change(left, pid=os.getpid(), pid_started=started - 1)
    assert sweep(environ(tmp_path)) == [left]


@pytest.mark.parametrize("field", ["boot_id", "pid_namespace"])
def test_what_another_host_or_container_left_is_left_alone(tmp_path, left, field):
    change(left, **{field: "another"})
    assert sweep(environ(tmp_path)) == []
    assert left.exists()


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"pid": 1, "more": 2}'])
def test_what_belongs_to_nobody_known_is_left_alone(tmp_path, left, content):
    (left / "owner.json").unlink()
    if content is not None:
        (left / "owner.json").write_text(content)
    assert sweep(environ(tmp_path)) == []
    assert (left / "staging" / "link").is_symlink()


def test_a_link_to_a_private_directory_is_none(tmp_path, left):
    aside = tmp_path / "aside"
    left.rename(aside)
    left.symlink_to(aside)
    assert sweep(environ(tmp_path)) == []
    assert (aside / "staging").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_another_user_left_is_left_alone(tmp_path, left):
    os.chown(left, 65534, 65534)
    assert sweep(environ(tmp_path)) == []
    assert (left / "staging").exists()
