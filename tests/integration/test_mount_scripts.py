"""The scripts that work without Python: options by s3fs version, the container's entrypoint."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import S3Server
from tests.integration.mounting import SCRIPTS, Host

FAKE_S3FS = """\
#!/bin/sh
[ "$1" != --version ] || exec echo "Amazon Simple Storage Service File System V{version} with SSL"
printf '%s\\n' "$@" >"{record}"
"""
FAKE_PROGRAM = """\
#!/bin/sh
printf '%s\\n' "$@" >"$RECORD"
for word in "$@"; do
    case $word in
        input_dir=*) cat "${word#*=}/a.txt" >>"$RECORD" ;;
        output_dir=*) echo result >"${word#*=}/result.txt" ;;
    esac
done
[ -z "${WAIT:-}" ] || { trap 'echo stopped >>"$RECORD"; exit 9' TERM; sleep 9 >&- 2>&- & wait; }
exit "${CODE:-0}"
"""


@pytest.fixture
def photos(s3: S3Server, bucket: str) -> str:
    s3.client().put_object(Bucket=bucket, Key="photos/a.txt", Body=b"content of a\n")
    return bucket


def options_given(host: Host, version: str, *words: str) -> list[str]:
    """Return the options that mount.sh gives to an s3fs of this version (which then ends)."""
    folder, record = host.folder / "bin", host.folder / "given"
    folder.mkdir(exist_ok=True)
    program = folder / "s3fs"
    program.write_text(FAKE_S3FS.format(version=version, record=record))
    program.chmod(0o755)
    record.unlink(missing_ok=True)
    environ = {"PATH": f"{folder}:{host.environ['PATH']}"}
    host.script("mount.sh", *words, str(host.directory), **environ)
    given = record.read_text().split("\n")
    return given[given.index("-o") + 1].split(",")


@pytest.mark.fuse
def test_option_names_follow_the_version_of_s3fs(host):
    old = options_given(host, "1.90", "b")
    new = options_given(host, "1.97", "b")

    assert {"parallel_count=2", "multireq_max=50", "endpoint=us-east-1"} <= set(old)
    assert {"max_thread_count=64", "region=us-east-1"} <= set(new)
    assert not [option for option in new if option.startswith(("endpoint", "multireq", "parallel"))]
    assert not [option for option in old if option.startswith(("region", "max_thread"))]


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.90", set()),
        ("1.95", {"disable_noobj_cache", "compat_dir"}),
        ("1.97", {"disable_negative_cache", "compat_dir"}),
    ],
)
def test_output_sees_new_names_at_once_in_every_version(host, version, expected):
    given = set(options_given(host, version, "b:/p", "--profile", "output"))

    assert given & {"disable_noobj_cache", "disable_negative_cache", "compat_dir"} == expected
    assert not given & {"ro", "nonempty", "kernel_cache", "auto_unmount"}
    assert "stat_cache_expire=5" in given


@pytest.mark.fuse
@pytest.mark.parametrize("profile", ["images", "videos", "output"])
def test_every_profile_gives_up_in_time(host, profile):
    given = dict(
        option.partition("=")[::2]
        for option in options_given(host, "1.90", "b", "--profile", profile)
    )

    assert int(given["connect_timeout"]) <= 10
    assert int(given["readwrite_timeout"]) <= 60
    assert int(given["retries"]) <= 5
    assert ("ro" in given) == (profile != "output")
    assert given["umask"] == "0022"
    assert "allow_other" in given


@pytest.mark.fuse
def test_other_stores_are_addressed_by_path_and_aws_by_host(host):
    del host.environ["AWS_ENDPOINT_URL"], host.environ["AWS_REGION"]

    google = options_given(host, "1.90", "b", "--url", "https://storage.googleapis.com")
    aws = options_given(host, "1.90", "b", "--region", "eu-central-1")
    dotted = options_given(host, "1.90", "my.bucket", "--region", "eu-central-1")
    by_url = options_given(host, "1.90", "b", "--url", "https://s3-eu-west-1.amazonaws.com")
    open_region = options_given(host, "1.90", "b")

    assert "use_path_request_style" in google
    assert "url=https://storage.googleapis.com" in google
    assert "use_path_request_style" not in aws
    assert "url=https://s3.eu-central-1.amazonaws.com" in aws
    assert "use_path_request_style" in dotted
    assert "endpoint=eu-west-1" in by_url
    assert not [option for option in open_region if option.startswith(("url=", "endpoint="))]


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("version", "words", "expected"),
    [
        ("1.90", (), []),
        ("1.97", (), ["ensure_diskfree=1"]),
        ("1.97", ("--use-cache=/tmp",), ["ensure_diskfree=1024"]),
        ("1.97", ("--use-cache=/tmp", "-o", "ensure_diskfree=9"), ["ensure_diskfree=9"]),
        ("1.97", ("-ofree_space_ratio=5",), ["free_space_ratio=5"]),
    ],
)
def test_a_disk_that_is_nearly_full_is_no_reason_not_to_mount(host, version, words, expected):
    given = options_given(host, version, "b", *words)

    names = ("ensure_diskfree", "free_space_ratio")
    assert [option for option in given if option.partition("=")[0] in names] == expected


@pytest.mark.fuse
def test_own_options_come_last_and_win(host):
    given = options_given(host, "1.90", "b", "-o", "retries=7,sigv2", "-omax_stat_cache_size=5")

    assert given[-3:] == ["retries=7", "sigv2", "max_stat_cache_size=5"]
    assert "sigv4" not in given


def entrypoint(host: Host, *words: str, **environ: str) -> subprocess.Popen[str]:
    program = host.folder / "program"
    program.write_text(FAKE_PROGRAM)
    program.chmod(0o755)
    return subprocess.Popen(
        ["sh", str(SCRIPTS / "entrypoint.sh"), *words],
        env=host.environ
        | {
            "LIGHTLY_FS": str(program),
            "RECORD": str(host.folder / "record"),
            "LIGHTLY_FS_INPUT_MOUNT": str(host.folder / "mount-in"),
            "LIGHTLY_FS_OUTPUT_MOUNT": str(host.folder / "mount-out"),
        }
        | environ,
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(host: Host) -> list[str]:
    return (host.folder / "record").read_text().splitlines()


@pytest.mark.fuse
@pytest.mark.s3
def test_container_mounts_runs_unmounts_and_ends_with_the_code_of_the_run(host, photos, s3):
    output = s3.new_bucket()
    process = entrypoint(
        host,
        "n=1",
        LIGHTLY_FS_INPUT_URI=f"s3://{photos}/photos",
        LIGHTLY_FS_OUTPUT_URI=f"s3://{output}/results/",
        CODE="9",
    )
    process.communicate(timeout=60)

    assert process.returncode == 9
    assert recorded(host) == [
        "run",
        "n=1",
        f"input_dir={host.folder}/mount-in",
        f"output_dir={host.folder}/mount-out",
        "content of a",
    ]
    body = s3.client().get_object(Bucket=output, Key="results/result.txt")["Body"].read()
    assert body == b"result\n"
    assert host.mounts() == []
    assert host.processes() == []


@pytest.mark.fuse
@pytest.mark.s3
def test_container_passes_a_stop_on_waits_for_the_run_and_unmounts(host, photos):
    process = entrypoint(host, LIGHTLY_FS_INPUT_URI=f"s3://{photos}/photos", WAIT="1")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and "content of a" not in (
        recorded(host) if (host.folder / "record").exists() else ()
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 143
    assert recorded(host)[-1] == "stopped"
    assert host.mounts() == []


@pytest.mark.fuse
@pytest.mark.s3
def test_container_that_cannot_mount_ends_with_the_exit_code_of_mounts(host):
    process = entrypoint(host, "n=1", LIGHTLY_FS_INPUT_URI="s3://no-such-bucket")
    _, said = process.communicate(timeout=60)

    assert process.returncode == 3
    assert "mount.sh: bucket: " in said
    assert not (host.folder / "record").exists()


def test_container_leaves_the_bucket_to_the_program_where_nothing_can_be_mounted(host):
    tools = host.folder / "tools"
    tools.mkdir()
    for program in ("sh", "dirname", "awk", "sed", "sleep", "setsid", "id", "cat", "tr", "grep"):
        found = shutil.which(program)
        if found:
            (tools / program).symlink_to(found)
    program = entrypoint(host, PATH=str(tools), LIGHTLY_FS_OUTPUT_URI="s3://b/results")
    program.communicate(timeout=30)

    assert recorded(host)[:2] == ["run", "output_dir=s3://b/results"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sanity-check", "--json"], ["sanity-check", "--json"]),
        (["sanity_check=True"], ["run", "sanity_check=True"]),
        (["lightly-fs", "mounts"], ["mounts"]),
        (["--version"], ["--version"]),
        (["--config", "f.yaml"], ["run", "--config", "f.yaml"]),
        ([], ["run"]),
    ],
)
def test_container_takes_keys_and_commands(host, words, expected):
    entrypoint(host, *words).communicate(timeout=30)

    assert recorded(host) == expected


def test_given_directories_are_not_replaced(host):
    host.folder.joinpath("a.txt").write_text("local\n")
    given = f"input_dir={host.folder}"
    entrypoint(host, given, LIGHTLY_FS_INPUT_URI="s3://b").communicate(timeout=30)

    assert recorded(host) == ["run", given, "local"]


@pytest.mark.fuse
@pytest.mark.s3
def test_healthcheck_tells_the_states_apart(host, photos):
    assert host.script("healthcheck.sh", host.directory).returncode == 66
    assert host.script("healthcheck.sh").returncode == 64
    assert host.script("mount.sh", photos, host.directory).returncode == 0
    assert host.script("healthcheck.sh", host.directory).stdout == "ok\n"
    process = host.process(host.directory)
    process.send_signal(signal.SIGSTOP)
    hung = host.script("healthcheck.sh", host.directory, "1")
    process.kill()
    process.wait(5)
    dead = host.script("healthcheck.sh", host.directory, "1")

    assert (hung.returncode, hung.stdout) == (75, "hung\n")
    assert (dead.returncode, dead.stdout) == (69, "dead\n")


@pytest.mark.fuse
@pytest.mark.s3
def test_healthcheck_keeps_the_log_short(host, photos):
    host.script("mount.sh", photos, host.directory)
    (log,) = host.state.glob("*/log")
    with log.open("ab") as file:
        file.write(b"x" * 2_000_000)

    assert host.script("healthcheck.sh", host.directory).returncode == 0
    assert log.stat().st_size == 0


@pytest.mark.fuse
@pytest.mark.s3
def test_the_process_id_for_systemd_is_that_of_s3fs(host, photos):
    pid_file = host.folder / "pid"

    host.script("mount.sh", photos, host.directory, "--pid-file", pid_file, "--stripes=2")

    assert int(pid_file.read_text()) == host.process(host.directory).pid


@pytest.mark.fuse
@pytest.mark.s3
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_else_mounts_for_himself_and_is_told_about_fuse_conf(host, photos):
    """In a mount namespace of its own, where /dev/fuse is open for everybody."""
    folder = host.folder / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    for path in (host.folder, *host.folder.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o001)
    script = (
        'mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && '
        'echo >"$0/fuse.conf" && mount --bind "$0/fuse.conf" /etc/fuse.conf && '
        'as="setpriv --reuid=65534 --regid=65534 --clear-groups" && '
        '$as sh "$1/mount.sh" "$2" "$0/theirs/mount" && $as cat "$0/theirs/mount/photos/a.txt" && '
        '$as sh "$1/unmount.sh" "$0/theirs/mount"'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(host.folder), str(SCRIPTS), photos],
        env=host.environ | {"LIGHTLY_FS_STATE_DIR": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "content of a" in done.stdout
    assert "add the line user_allow_other to /etc/fuse.conf" in done.stderr


def test_shellcheck_finds_nothing():
    program = Path(sys.executable).parent / "shellcheck"
    if not program.exists():
        pytest.skip("shellcheck is not installed")
    scripts = sorted(map(str, SCRIPTS.glob("*.sh")))

    done = subprocess.run([str(program), *scripts], capture_output=True, text=True, check=False)

    assert len(scripts) >= 8
    assert done.stdout == ""


def test_no_option_of_a_profile_is_without_a_reason():
    for path in SCRIPTS.glob("profiles/*.conf"):
        lines = path.read_text().splitlines()
        options = [line for line in lines if line and not line.startswith("#")]
        assert len(options) >= 8
        assert all(" " not in option.split(" ", 1)[-1] for option in options)
    text = (SCRIPTS / "profiles" / "output.conf").read_text()
    assert "\nnonempty" not in text
    assert "\nkernel_cache" not in text


def test_units_are_valid(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    units = []
    for path in (SCRIPTS / "systemd").glob("*@.*"):
        unit = tmp_path / path.name.replace("@.", "@photos.")
        unit.write_text(path.read_text())
        units.append(str(unit))

    done = subprocess.run([program, "verify", *units], capture_output=True, text=True, check=False)

    assert len(units) == 3
    assert [line for line in done.stderr.splitlines() if "lightly-fs" in line] == []
