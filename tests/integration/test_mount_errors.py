"""Every way a mount can fail, provoked: its reason, within ten seconds, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lightly_fs.datasource.mount import health, mount, mounted
from tests.conftest import S3Server, free_port, need, wait_for
from tests.integration.mounting import SCRIPTS, Host, clear, make_host, shows
from tests.s3stub import RIGHT_REGION, S3Stub

pytestmark = [pytest.mark.fuse, pytest.mark.s3]
SECRET = "s3cr3t-that-is-made-up"


@pytest.fixture
def host(tmp_path: Path, s3: S3Server) -> Iterator[Host]:
    made = make_host(tmp_path, s3.environ())
    yield made
    clear(made)


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that checks signatures: its key is `right`, its secret `right-secret`."""
    program = Path(sys.executable).parent / "rclone"
    need("s3", missing=None if program.exists() else "rclone is not installed")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "photos").mkdir()
    port = free_port()
    process = subprocess.Popen(
        [
            *(str(program), "serve", "s3", "--auth-key", "right,right-secret"),
            *("--addr", f"127.0.0.1:{port}", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


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


def test_wrong_secret(host, strict_server):
    host.environ["AWS_ACCESS_KEY_ID"] = "right"

    failed = fail_to_mount(host, "photos", host.directory, "--url", strict_server)

    assert_clean(failed, host, "credentials")
    assert "refuses the credentials from the environment" in failed.error["message"]


def test_unknown_access_key(host, strict_server):
    failed = fail_to_mount(host, "photos", host.directory, "--url", strict_server)

    assert_clean(failed, host, "credentials")


@pytest.mark.parametrize("answer", ["forbidden", "expired", "skewed"])
def test_refused_credentials(host, answer):
    with S3Stub(answer) as stub:
        failed = fail_to_mount(host, "photos", host.directory, "--url", stub.url)

    assert_clean(failed, host, "credentials")


def test_no_credentials(host, bucket):
    del host.environ["AWS_ACCESS_KEY_ID"], host.environ["AWS_SECRET_ACCESS_KEY"]

    failed = fail_to_mount(host, bucket, host.directory)

    assert_clean(failed, host, "credentials")
    assert "--aws-profile" in failed.error["hint"]


def test_unknown_profile(host, bucket):
    failed = fail_to_mount(host, bucket, host.directory, "--aws-profile", "nobody")

    assert_clean(failed, host, "credentials")
    assert "`nobody`" in failed.error["message"]


def test_no_instance_role(host, bucket):
    failed = fail_to_mount(host, bucket, host.directory, "--iam-role", "auto")

    assert_clean(failed, host, "credentials")
    assert "no instance role" in failed.error["message"]


def test_password_file_that_others_can_read(host, bucket):
    passwd = host.folder / "passwd"
    passwd.write_text(f"KEY:{SECRET}\n")
    passwd.chmod(0o644)

    failed = fail_to_mount(host, bucket, host.directory, "--passwd-file", passwd)

    assert_clean(failed, host, "passwd_file")
    assert failed.error["hint"] == f"chmod 600 {passwd}"


def test_missing_bucket(host):
    failed = fail_to_mount(host, "no-such-bucket", host.directory)

    assert_clean(failed, host, "bucket")
    assert "no bucket `no-such-bucket`" in failed.error["message"]


def test_missing_prefix(host, bucket):
    failed = fail_to_mount(host, f"{bucket}:/nothing/here", host.directory)

    assert_clean(failed, host, "prefix")
    assert f"s3://{bucket}/nothing/here/" in failed.error["message"]


@pytest.mark.parametrize("prefix", ["a//b", "a/./b", "../b"])
def test_a_prefix_that_is_no_folder(host, s3, bucket, prefix):
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/x", Body=b"x")

    failed = fail_to_mount(host, f"{bucket}:/{prefix}", host.directory)

    assert_clean(failed, host, "s3fs")
    assert f"s3://{bucket}/{prefix}/" in failed.error["message"]


@pytest.mark.parametrize("answer", ["redirect", "malformed"])
def test_wrong_region_names_the_right_one(host, answer):
    with S3Stub(answer) as stub:
        failed = fail_to_mount(
            host, "photos", host.directory, "--url", stub.url, "--region", "us-west-2"
        )

    assert_clean(failed, host, "region")
    assert f"in region `{RIGHT_REGION}`, not `us-west-2`" in failed.error["message"]
    assert f"url=https://s3.{RIGHT_REGION}.amazonaws.com" in failed.error["message"]


def test_dead_endpoint(host):
    url = f"http://127.0.0.1:{free_port()}"

    failed = fail_to_mount(host, "photos", host.directory, "--url", url)

    assert_clean(failed, host, "endpoint")
    assert url in failed.error["message"]


@pytest.mark.parametrize("answer", ["unavailable", "web"])
def test_useless_endpoint(host, answer):
    with S3Stub(answer) as stub:
        failed = fail_to_mount(host, "photos", host.directory, "--url", stub.url)

    assert_clean(failed, host, "endpoint")


def test_endpoint_that_never_answers(host):
    with S3Stub("hang") as stub:
        failed = fail_to_mount(host, "photos", host.directory, "--url", stub.url)

    assert_clean(failed, host, "timeout")


def test_no_fuse_device(host, bucket):
    """In a mount namespace of its own, whose /dev has everything but fuse."""
    devices = host.folder / "dev"
    hide = (
        'mkdir "$0" && mount -t tmpfs none "$0" && '
        'cp -a /dev/null /dev/zero /dev/random /dev/urandom "$0" && '
        'mount --bind "$0" /dev && exec "$@"'
    )
    before = ("unshare", "-m", "sh", "-c", hide, str(devices))

    failed = fail_to_mount(host, bucket, host.directory, before=before)

    assert_clean(failed, host, "fuse")
    assert "no /dev/fuse" in failed.error["message"]
    assert "--device /dev/fuse" in failed.error["hint"]


def test_no_right_to_mount(host, bucket):
    before = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")

    failed = fail_to_mount(host, bucket, host.directory, before=before)

    assert_clean(failed, host, "fuse")
    assert "mount failed: Operation not permitted" in failed.error["message"]
    assert "--cap-add SYS_ADMIN" in failed.error["hint"]


def test_s3fs_is_not_installed(host, bucket):
    tools = host.folder / "tools"
    tools.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            if program.name != "s3fs" and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    host.environ["PATH"] = str(tools)

    failed = fail_to_mount(host, bucket, host.directory)

    assert_clean(failed, host, "s3fs")
    assert "apt-get install s3fs" in failed.error["hint"]


def test_directory_with_files(host, bucket):
    host.directory.mkdir()
    (host.directory / "precious").write_text("data")

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "occupied"
    assert failed.seconds < 10
    assert (host.directory / "precious").read_text() == "data"
    assert host.leftovers() == [f"directory {host.directory}"]


def test_directory_that_is_mounted_already(host, bucket):
    with mounted(host.request(bucket), host.environ) as made:
        failed = fail_to_mount(host, bucket, host.directory)

        assert failed.error["reason"] == "occupied"
        assert f"fuse.s3fs s3://{bucket}/" in failed.error["message"]
        assert failed.seconds < 10
        assert health(made.directory, host.environ) == "ok"

    assert host.leftovers() == []


def test_a_file_instead_of_a_directory(host, bucket):
    host.directory.write_text("data")

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "directory"
    assert host.directory.read_text() == "data"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_dead_s3fs_mount_is_cleared_and_mounted(host, bucket, recorded):
    made = mount(host.request(bucket, stripes=2), host.environ)
    for process in host.processes():
        process.kill()
        process.wait(5)
    if not recorded:
        shutil.rmtree(host.state)
        for stripe in made.stripes:
            subprocess.run(["umount", "-l", str(stripe)], check=True)
            stripe.rmdir()
        made.stripes[0].parent.rmdir()
    started = time.monotonic()

    with mounted(host.request(bucket), host.environ):
        assert time.monotonic() - started < 10
        assert host.mounts() == [host.directory]

    host.directory.rmdir()
    assert host.leftovers() == []


def test_a_hung_mount_is_refused_with_the_way_out(host, bucket):
    with mounted(host.request(bucket), host.environ) as made:
        host.process(made.directory).send_signal(signal.SIGSTOP)

        failed = fail_to_mount(host, bucket, host.directory)

        assert failed.error["reason"] == "stale"
        assert failed.error["hint"] == f"lightly-fs unmount {host.directory}"
        assert failed.seconds < 10

    assert host.leftovers() == []


def test_a_dead_mount_of_another_program_is_left_alone(host, bucket, s3):
    passwd = host.folder / "passwd"
    passwd.write_text(f"{s3.access_key}:{s3.secret_key}\n")
    passwd.chmod(0o600)
    host.directory.mkdir()
    options = f"url={s3.url},use_path_request_style,passwd_file={passwd},subtype=other"
    subprocess.run(["s3fs", bucket, str(host.directory), "-o", options], check=True)
    time.sleep(0.5)
    host.process(host.directory).kill()

    failed = fail_to_mount(host, bucket, host.directory)

    assert failed.error["reason"] == "stale"
    assert "fuse.other" in failed.error["message"]
    assert host.mounts() == [host.directory]


def test_a_cache_that_cannot_be_written(host, bucket):
    cache = host.folder / "cache"
    cache.write_text("a file")

    failed = fail_to_mount(host, bucket, host.directory, "--use-cache", cache)

    assert_clean(failed, host, "cache")


def test_a_full_disk(host, bucket):
    small = host.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "t", str(small)], check=True)
    try:
        failed = fail_to_mount(host, bucket, host.directory, "-o", f"tmpdir={small}")
    finally:
        subprocess.run(["umount", str(small)], check=True)

    assert_clean(failed, host, "cache")
    assert "enough disk space" in failed.error["message"]
    assert "tmpdir=DIR" in failed.error["hint"]


def test_an_error_removes_the_directories_that_were_made_for_the_mount(host):
    deep = host.folder / "mounts" / "of" / "mine"
    done = host.script("mount.sh", "no-such-bucket", deep)

    assert done.returncode == 66
    assert host.leftovers() == []


def test_an_interrupted_mount_leaves_nothing(host):
    with S3Stub("hang") as stub:
        words = ["sh", str(SCRIPTS / "mount.sh"), "photos", str(host.directory), "--url", stub.url]
        process = subprocess.Popen(words, env=host.environ, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 5
        while not host.mounts() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert host.mounts() == [host.directory]
        process.terminate()

        assert process.wait(10) == 143

    assert host.leftovers() == []


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
