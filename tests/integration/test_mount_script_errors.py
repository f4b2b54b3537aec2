"""`mount.sh` alone, without Python: the exit codes of its reasons."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.integration.mounting import SECRET, Host, shows
from tests.s3stub import RIGHT_REGION, S3Stub

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


SCRIPT_CASES: dict[str, tuple[Callable[[Host], list[str]], int, str]] = {
    "no arguments": (lambda _: [], 64, "usage"),
    "an unknown option": (lambda h: ["b", str(h.directory), "--nope", "x"], 64, "usage"),
    "nonempty": (lambda h: ["b", str(h.directory), "-o", "nonempty"], 64, "usage"),
    "a key in an option": (
        lambda h: ["b", str(h.directory), "-o", f"secretAccessKey={SECRET}"],
        64,
        "usage",
    ),
    "a cache for output": (
        lambda h: ["b", str(h.directory), "--profile=output", f"--use-cache={h.folder}/c"],
        64,
        "usage",
    ),
    "a missing bucket": (lambda h: ["no-such-bucket", str(h.directory)], 66, "bucket"),
    "a dead endpoint": (
        lambda h: ["b", str(h.directory), "--url", f"http://127.0.0.1:{free_port()}"],
        68,
        "endpoint",
    ),
    "an occupied directory": (lambda h: ["b", str(h.folder)], 73, "occupied"),
    "no profile": (lambda h: ["b", str(h.directory), "--aws-profile=x"], 77, "credentials"),
    "no password file": (lambda h: ["b", str(h.directory), "--passwd-file=/x"], 78, "passwd_file"),
}


@pytest.mark.parametrize("case", list(SCRIPT_CASES))
def test_the_script_alone_ends_with_the_code_of_its_reason(host, case):
    words, code, reason = SCRIPT_CASES[case]

    done = host.script("mount.sh", *words(host))

    assert done.returncode == code
    assert f"mount.sh: {reason}: " in done.stderr
    assert done.stdout == ""
    for secret in (SECRET, host.environ["AWS_SECRET_ACCESS_KEY"]):
        assert not shows(done.stderr, secret)
    assert host.leftovers() == []


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ("redirect", 78, "region"),
        ("malformed", 78, "region"),
        ("forbidden", 77, "credentials"),
        ("expired", 77, "credentials"),
        ("hang", 75, "timeout"),
    ],
)
def test_the_script_alone_reads_the_reason_off_s3fs(host, answer, code, reason):
    started = time.monotonic()
    with S3Stub(answer) as stub:
        done = host.script("mount.sh", "photos", host.directory, "--url", stub.url)

    assert (done.returncode, f"mount.sh: {reason}: " in done.stderr) == (code, True)
    assert reason != "region" or f"url=https://s3.{RIGHT_REGION}.amazonaws.com" in done.stderr
    assert time.monotonic() - started < 10
    assert host.leftovers() == []


def test_the_scripts_need_no_python(host, bucket):
    tools = host.folder / "tools"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if "python" not in program.name and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    host.environ["PATH"] = str(tools)

    assert host.script("mount.sh", bucket, host.directory).returncode == 0
    assert host.script("healthcheck.sh", host.directory).stdout == "ok\n"
    assert host.script("unmount.sh", host.directory).returncode == 0
    assert stat.S_ISDIR(os.lstat(host.directory).st_mode)
