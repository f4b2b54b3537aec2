"""Several processes: what they leave when one of them is ended from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lightly_fs.datasource.private import sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 240

SCRIPT = """
import signal, sys
from pathlib import Path
from lightly_fs.training.distributed import trainer_of
from tests.unit.embedding.networks import small_network
from tests.unit.training.small import make_pack, nobody, plan

def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    made = plan(make_pack(Path(sys.argv[1])), processes=2, trainer={"max_epochs": 1000000})
    # More than a pipe takes at once: this is how a large network arrives.
    made.head.update({"more": __import__("torch").zeros(1 << 20)})
    with trainer_of(made, small_network().module) as trainer:
        for _ in trainer.epochs(nobody):
            print("epoch", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "tmp").mkdir()

    started = []

    def start() -> subprocess.Popen[bytes]:
        root = Path(__file__).parents[3]
        environ = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path / "tmp")}
        with (tmp_path / "errors").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "pack")],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def others(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that were started to train with this one."""
    found = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # imports start short-lived ones too
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition, seconds: float = PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)
    return found


def test_a_signal_while_processes_start_ends_them_quietly(script, tmp_path):
    process = script()
    (other,) = wait_until(lambda: others(process))
    process.send_signal(signal.SIGTERM)

    assert process.wait(PATIENCE_S) == 143
    wait_until(lambda: not other.is_running())
    assert (tmp_path / "errors").read_text() == ""
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_kill_ends_all_and_the_next_run_removes_what_is_left(script, tmp_path, monkeypatch):
    process = script()
    assert process.stdout.readline() == b"epoch\n"
    (other,) = others(process)
    process.kill()
    process.wait()

    wait_until(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE)
    (left,) = (tmp_path / "tmp").glob("lightly-fs-*")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert sweep({}) == [left]
    assert not left.exists()
