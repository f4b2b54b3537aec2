"""Tab completion in a real bash on a terminal."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    """A start-up file with the completion, and `lightly-fs` on the PATH."""
    folder = tmp_path_factory.mktemp("completion")
    command = folder / "lightly-fs"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lightly_fs "$@"\n')
    command.chmod(0o755)
    printed = subprocess.run(
        [command, "completion", "bash"], capture_output=True, text=True, check=True
    )
    start = folder / "rc"
    start.write_text(f"PATH={folder}:$PATH\nPS1='> '\n{printed.stdout}")
    (folder / "chosen_by_me.yaml").write_text("")
    return start


def typed(script: Path, line: str, expected: str) -> str:
    """Return what bash shows after a line and the tab key, up to what is expected."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(script.parent)
        os.environ["INPUTRC"] = "/dev/null"
        os.execvp("bash", ["bash", "--noprofile", "--rcfile", str(script), "-i"])
    try:
        _read_until(terminal, "> ")
        os.write(terminal, line.encode() + b"\t")
        return _read_until(terminal, expected)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _read_until(terminal: int, end: str) -> str:
    said, deadline = "", time.monotonic() + 60
    while end not in said and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
    return said


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("lightly-fs run read_through=ob", "read_through=object"),
        ("lightly-fs run stopping_condition.min", "stopping_condition.min_distance="),
        ("lightly-fs sel", "lightly-fs select"),
        ("lightly-fs run selection_config=chosen", "selection_config=chosen_by_me.yaml"),
    ],
)
def test_a_word_is_completed_as_a_whole(script, line, completed):
    assert completed in typed(script, line, completed)
