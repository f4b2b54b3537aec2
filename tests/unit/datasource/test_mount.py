"""What mount.sh is told and what its words become; mounts themselves are in tests/integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightly_fs.datasource import mount as module
from lightly_fs.datasource.mount import MountRequest, check, health, mount, unmount
from lightly_fs.errors import MountError
from tests.s3stub import S3Stub

KEYS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s-secret"}


def request(**given) -> MountRequest:
    return MountRequest(**{"bucket": "b", "directory": Path("/m"), **given})


def words(asked: MountRequest, **environ: str) -> list[str]:
    return module._arguments(asked, asked.locate(KEYS | environ))


def test_every_option_reaches_the_script_and_no_secret_does():
    asked = request(
        prefix="a b/c",
        profile="output",
        url="http://s3:9000",
        region="eu-west-1",
        use_cache=Path("/cache"),
        stripes=3,
        options=("retries=7", "sigv2"),
        uid=0,
        gid=1000,
    )

    assert words(asked, AWS_SESSION_TOKEN="t-token") == [
        "b:/a b/c",
        "/m",
        "--profile=output",
        "--url=http://s3:9000",
        "--region=eu-west-1",
        "--use-cache=/cache",
        "--stripes=3",
        "--uid=0",
        "--gid=1000",
        *("-o", "retries=7", "-o", "sigv2"),
    ]


def test_endpoint_and_region_of_the_environment_are_the_defaults():
    located = request().locate(
        KEYS | {"AWS_ENDPOINT_URL": "http://s3:9000", "AWS_REGION": "eu-west-1"}
    )

    assert (located.url, located.region, located.path_style) == (
        "http://s3:9000",
        "eu-west-1",
        True,
    )


def test_given_endpoint_and_region_win():
    asked = request(url="https://s3.eu-central-1.amazonaws.com", region="eu-central-1")

    located = asked.locate(KEYS | {"AWS_ENDPOINT_URL": "http://s3:9000", "AWS_REGION": "us-east-2"})

    assert located.url == "https://s3.eu-central-1.amazonaws.com"
    assert located.region == "eu-central-1"


def test_the_reason_and_the_hint_are_read_off_the_script(tmp_path):
    with pytest.raises(MountError) as raised:
        module._run("mount.sh", ["b", str(tmp_path), "--passwd-file=/does/not/exist"], os.environ)

    assert raised.value.reason in ("passwd_file", "s3fs", "fuse")
    assert raised.value.hint
    assert "mount.sh" not in raised.value.message


def test_a_failing_script_without_a_reason_is_quoted(tmp_path, monkeypatch):
    (tmp_path / "broken.sh").write_text("echo something odd >&2; exit 42\n")
    monkeypatch.setattr(module, "_script", lambda name: tmp_path / name)

    with pytest.raises(MountError, match="ended with 42: something odd"):
        module._run("broken.sh", [], {})


def test_nothing_is_started_when_s3_refuses(tmp_path):
    with S3Stub("forbidden") as stub, pytest.raises(MountError) as raised:
        mount(
            request(directory=tmp_path / "m", url=stub.url),
            KEYS | {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state")},
            timeout_s=4,
        )

    assert raised.value.reason == "credentials"
    assert list(tmp_path.iterdir()) == []


def test_a_plain_directory_is_no_mount(tmp_path):
    environ = {**os.environ, "LIGHTLY_FS_STATE_DIR": str(tmp_path / "state")}

    assert health(tmp_path, environ) == "not-mounted"
    with pytest.raises(MountError, match="is not mounted") as raised:
        check(tmp_path, environ)
    assert raised.value.reason == "not-mounted"
    with pytest.raises(MountError, match="is no s3fs mount") as raised:
        unmount(tmp_path, environ)
    assert raised.value.reason == "not-mounted"


def test_the_scripts_are_found_beside_the_checkout():
    for name in ("mount.sh", "unmount.sh", "healthcheck.sh"):
        assert module._script(name).is_file()
    with pytest.raises(MountError, match="not installed with this package"):
        module._script("absent.sh")
