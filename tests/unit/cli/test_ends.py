"""How a command ends before its time: signals, a full disk, nothing to embed."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from tests.unit.cli.command import QUICK, lightly_fs


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_says_which_run_directory_resumes(images, tmp_path, number, code):
    words = (f"input_dir={images}", f"output_dir={tmp_path}", "shard_size=1", *QUICK)
    process = subprocess.Popen(
        [sys.executable, "-m", "lightly_fs", "run", *words],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    while not list(tmp_path.glob("*/*/parts/embed*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    folder = next(tmp_path.glob("2*/*"))
    assert process.returncode == code
    assert f"run_directory={folder.relative_to(tmp_path)} resumes this run" in said
    assert not list(tmp_path.glob("lightly-fs-*"))
    assert not list(folder.rglob("*.lock.json"))


def start(tmp_path, images, *, terminal: int | None = None, **options) -> subprocess.Popen[bytes]:
    """Start a run that lasts a while, and wait until it embeds; `terminal` is read meanwhile."""
    words = (f"input_dir={images}", f"output_dir={tmp_path}", "run_directory=r", "shard_size=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "lightly_fs", "run", *words, *QUICK],
        env={**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm"},
        **options,
    )
    while not list(tmp_path.glob("r/parts/embed*")):
        assert process.poll() is None
        time.sleep(0.02)
        if terminal is not None and select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 65536)
    return process


def test_a_terminal_that_closes_ends_the_run_and_leaves_no_lock(images, tmp_path):
    main, child = os.openpty()
    process = start(
        *(tmp_path, images),
        terminal=main,
        **dict.fromkeys(("stdin", "stdout", "stderr"), child),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(child)
    os.close(main)
    assert process.wait(60) == 129
    assert not list(tmp_path.glob("lightly-fs-*"))
    assert list((tmp_path / "r").rglob("*.lock*")) == []


def test_nohup_is_respected(images, tmp_path):
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(tmp_path, images, preexec_fn=ignore)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    assert (tmp_path / "r" / "manifest.json").exists()


@pytest.mark.parametrize("command", ["embed", "run"])
def test_nothing_that_can_be_embedded_is_an_error_of_every_stage(tmp_path, command):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(b"no image")
    words = (f"input_dir={tmp_path}/in", f"output_dir={tmp_path}/out", "run_directory=r", *QUICK)
    for _ in range(2):  # the second finds it all embedded
        done = lightly_fs(command, *words, "--json")
        error = json.loads(done.stdout)
        assert (done.returncode, error["error"]) == (5, "NoUsableSampleError")
        assert error["message"].startswith("not one of the 5 samples could be embedded: ")


@pytest.fixture
def tiny(tmp_path):
    """A file system of 100 kB."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a tmpfs")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_full_temporary_directory_is_named_and_left_empty(images, tmp_path, tiny):
    words = (f"input_dir={images}", f"output_dir={tmp_path}/out", "run_directory=r", *QUICK)
    done = lightly_fs("run", *words, TMPDIR=str(tiny))

    assert done.returncode == 11
    assert f"temporary files cannot be written in {tiny}: No space left on device" in done.stderr
    assert "TMPDIR=" in done.stderr
    assert "run_directory=r resumes this run" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tiny.iterdir()) == []
    assert lightly_fs("run", *words).returncode == 0


def test_nothing_of_torch_stays_in_the_temporary_directory(images, tmp_path):
    (tmp_path / "tmp").mkdir()
    done = lightly_fs(
        *("embed", f"input_dir={images}", f"output_dir={tmp_path}/out", "runtime=torch"),
        *("model=timm/test_resnet", "weights=random", "properties=off"),
        TMPDIR=str(tmp_path / "tmp"),
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
