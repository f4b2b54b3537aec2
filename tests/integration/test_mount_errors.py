"""Every way a store can refuse a mount, provoked: its reason, in time, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port, need, wait_for
from tests.integration.mounting import SECRET, assert_clean, fail_to_mount
from tests.s3stub import RIGHT_REGION, S3Stub

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


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
