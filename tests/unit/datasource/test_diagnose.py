"""What S3 answers, turned into a bucket or into one clear error, in seconds."""

from __future__ import annotations

import time

import pytest

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.diagnose import find_bucket
from lightly_fs.datasource.endpoint import place
from lightly_fs.errors import MountError
from tests.conftest import free_port
from tests.s3stub import RIGHT_REGION, S3Stub

KEYS = Credentials("KEY", "s-secret", "t-token", "the environment")


def bucket(url: str | None, region: str | None = None) -> Bucket:
    return place("my-bucket", "", url=url, region=region, credentials=KEYS)


def ask(answer: str, **environ: str) -> MountError:
    with S3Stub(answer) as stub, pytest.raises(MountError) as raised:
        find_bucket(bucket(stub.url), environ, timeout_s=1.2)
    assert "s-secret" not in f"{raised.value.message}{raised.value.hint}"
    assert "t-token" not in f"{raised.value.message}{raised.value.hint}"
    return raised.value


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        ("redirect", "region", f"in region `{RIGHT_REGION}`"),
        ("malformed", "region", f"in region `{RIGHT_REGION}`"),
        ("forbidden", "credentials", "does not let them list the bucket"),
        ("unknown-key", "credentials", "does not know the access key"),
        ("expired", "credentials", "the session has expired"),
        ("skewed", "credentials", "clock is wrong"),
        ("unavailable", "endpoint", "answers 503 SlowDown"),
        ("web", "endpoint", "is no S3 endpoint"),
        ("hang", "timeout", "does not answer"),
    ],
)
def test_every_refusal_has_its_reason(answer, reason, words):
    error = ask(answer)

    assert error.reason == reason
    assert words in error.message
    assert error.hint


def test_wrong_region_names_the_url_to_use():
    error = ask("redirect")

    assert f"url=https://s3.{RIGHT_REGION}.amazonaws.com" in error.message
    assert f"--region {RIGHT_REGION}" in (error.hint or "")


def test_where_the_refused_keys_came_from_is_named():
    assert "from the environment" in ask("forbidden").message


def test_given_region_of_an_aws_bucket_is_not_silently_replaced():
    with S3Stub("redirect") as stub, pytest.raises(MountError) as raised:
        find_bucket(
            bucket("http://s3.us-west-2.amazonaws.com"), {"http_proxy": stub.url}, timeout_s=2
        )

    assert raised.value.reason == "region"
    assert "not `us-west-2`" in raised.value.message
    assert len(stub.requests) == 1


def test_open_region_of_an_aws_bucket_is_followed_once():
    with S3Stub("redirect") as stub, pytest.raises(MountError) as raised:
        find_bucket(bucket("http://s3.amazonaws.com"), {"http_proxy": stub.url}, timeout_s=2)

    assert raised.value.reason in ("region", "endpoint", "dns")
    assert "GET http://my-bucket.s3.amazonaws.com/" in stub.requests[0]


def test_no_proxy_is_obeyed():
    with S3Stub("forbidden") as proxy, pytest.raises(MountError) as raised:
        find_bucket(
            bucket(f"http://127.0.0.1:{free_port()}"),
            {"http_proxy": proxy.url, "no_proxy": "example.org, 127.0.0.1"},
            timeout_s=2,
        )

    assert raised.value.reason == "endpoint"
    assert proxy.requests == []


def test_refused_connection_is_told_at_once():
    started = time.monotonic()
    with pytest.raises(MountError, match="the connection is refused") as raised:
        find_bucket(bucket(f"http://127.0.0.1:{free_port()}"), {}, timeout_s=5)

    assert raised.value.reason == "endpoint"
    assert time.monotonic() - started < 2


def test_an_unknown_host_name_is_no_refused_connection():
    with pytest.raises(
        MountError, match=r"`no-such-host\.invalid` .* cannot be resolved"
    ) as raised:
        find_bucket(bucket("http://no-such-host.invalid:9000"), {}, timeout_s=5)

    assert raised.value.reason == "dns"
    assert "--url" in (raised.value.hint or "")


def test_plain_server_behind_https_is_a_certificate_problem():
    with S3Stub("forbidden") as stub, pytest.raises(MountError) as raised:
        find_bucket(bucket(stub.url.replace("http:", "https:")), {}, timeout_s=2)

    assert raised.value.reason == "endpoint"
    assert "AWS_CA_BUNDLE" in raised.value.message


def test_a_hanging_endpoint_takes_no_longer_than_told():
    started = time.monotonic()
    ask("hang")

    assert time.monotonic() - started < 3


def test_short_overload_is_waited_out():
    with S3Stub("unavailable") as stub, pytest.raises(MountError):
        find_bucket(bucket(stub.url), {}, timeout_s=2.5)

    assert len(stub.requests) >= 2


def test_instance_without_a_role_is_told():
    asking = place("b", "", url="http://127.0.0.1:1", region=None, credentials=None)

    with pytest.raises(MountError, match="no instance role") as raised:
        find_bucket(asking, {"AWS_EC2_METADATA_DISABLED": "true"}, timeout_s=2)

    assert raised.value.reason == "credentials"
