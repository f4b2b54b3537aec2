"""What the mounting tests share: a private environment, and a look for anything left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from lightly_fs.datasource.mount import MountRequest
from lightly_fs.datasource.table import mount_entries

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "mount"
SECRET = "s3cr3t-that-is-made-up"


@dataclass(frozen=True)
class Host:
    """A corner of this machine: its own home, state directory and mounts."""

    folder: Path
    environ: dict[str, str]

    @property
    def directory(self) -> Path:
        return self.folder / "mount"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def request(self, bucket: str, **given) -> MountRequest:
        return MountRequest(bucket=bucket, **{"directory": self.directory, **given})

    def script(
        self, name: str, *words: str | Path, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return self._run(["sh", str(SCRIPTS / name), *map(str, words)], environ)

    def cli(self, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "lightly_fs", *map(str, words)], environ)

    def _run(self, words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Return the s3fs processes of this corner."""
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or ()
            if process.info["name"] == "s3fs" and any(str(self.folder) in word for word in words):
                found.append(process)
        return found

    def process(self, directory: Path) -> psutil.Process:
        """Return the s3fs process that serves a directory."""
        (only,) = [one for one in self.processes() if str(directory) in one.info["cmdline"]]
        return only

    def mounts(self) -> list[Path]:
        entries = mount_entries()
        return [e.directory for e in entries if e.directory.is_relative_to(self.folder)]

    def kept_keys(self) -> str:
        """Return what the s3fs of the only mount was given as password file."""
        (path,) = self.state.glob("*/passwd")
        return path.read_text()

    def leftovers(self) -> list[str]:
        """Return everything that a failed or ended mount should have taken with it."""
        return [
            *(f"mount {directory}" for directory in self.mounts()),
            *(f"process {process.info['cmdline']}" for process in self.processes()),
            *(f"state {path}" for path in self.state.glob("*")),
            *(f"directory {path}" for path in self.folder.glob("mount*")),
        ]


def make_host(folder: Path, server_environ: dict[str, str]) -> Host:
    home = folder / "home"
    home.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LIGHTLY_FS_STATE_DIR": str(folder / "state"),
        **server_environ,
    }
    return Host(folder, environ)


def shows(text: str, secret: str) -> bool:
    """Tell whether a secret stands in a text as a word of its own; it may be as short as `test`."""
    return re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", text) is not None


def clear(host: Host) -> None:
    """End and unmount whatever a failing test left, without the scripts that are under test."""
    for process in host.processes():
        process.kill()
        process.wait(5)
    for directory in host.mounts():
        subprocess.run(["umount", "-l", str(directory)], check=True)


@dataclass(frozen=True)
class Failed:
    error: dict[str, str]
    seconds: float
    exit_code: int


def fail_to_mount(host: Host, *words: str | Path, before: tuple[str, ...] = ()) -> Failed:
    """Run `lightly-fs mount --json`; what it printed must be one error without a secret."""
    started = time.monotonic()
    done = subprocess.run(
        [*before, sys.executable, "-m", "lightly_fs", "mount", *map(str, words), "--json"],
        env=host.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 3, done.stdout + done.stderr
    for secret in (SECRET, host.environ.get("AWS_SECRET_ACCESS_KEY", SECRET)):
        assert not shows(done.stdout + done.stderr, secret)
    return Failed(json.loads(done.stdout), seconds, done.returncode)


def assert_clean(failed: Failed, host: Host, reason: str) -> None:
    assert failed.error["reason"] == reason
    assert failed.error["exit_code"] == 3
    assert failed.error["hint"]
    assert failed.seconds < 10
    assert host.leftovers() == []
