from __future__ import annotations

import pytest

from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.trouble import ObjectError, Trouble
from lightly_fs.errors import DatasourceError, MountError
from tests.s3_stub import S3Stub, s3_stub


@pytest.fixture
def stub():
    with s3_stub(
        {f"p/{n:04d}.jpg": b"x" * n for n in range(2500)} | {"other/a.jpg": b"x"}
    ) as running:
        yield running


def keys(store: ObjectStore, **options) -> list[str]:
    return [key for batch in store.list(**options) for key in batch["key"].to_pylist()]


def test_every_page_below_the_prefix(stub: S3Stub):
    store = ObjectStore(stub.bucket("p/"))
    assert keys(store) == [f"p/{n:04d}.jpg" for n in range(2500)]
    assert store.requests == {"LIST": 3}


def test_listing_from_a_key_on(stub: S3Stub):
    assert keys(ObjectStore(stub.bucket("p/")), start_after="p/2497.jpg") == [
        "p/2498.jpg",
        "p/2499.jpg",
    ]


def test_a_page_that_fails_once_is_asked_again(stub: S3Stub):
    answers = iter([None, (500, "InternalError"), (503, "SlowDown")])
    stub.fault = lambda method, key: next(answers, None)
    assert len(keys(ObjectStore(stub.bucket("p/")))) == 2500


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "credentials"),
        (403, "SignatureDoesNotMatch", "credentials"),
        (400, "ExpiredToken", "credentials"),
        (404, "NoSuchBucket", "bucket"),
        (301, "PermanentRedirect", "region"),
        (400, "AuthorizationHeaderMalformed", "region"),
    ],
)
def test_a_listing_that_is_refused_says_why(stub: S3Stub, status: int, code: str, reason: str):
    stub.fault = lambda method, key: (status, code)
    with pytest.raises(MountError, match=code) as caught:
        keys(ObjectStore(stub.bucket()))
    assert caught.value.reason == reason
    assert caught.value.hint


def test_a_listing_that_repeats_its_token_ends(stub: S3Stub):
    page = stub.page({"max-keys": ["10"], "prefix": ["p/"]})
    stub.page = lambda query: page  # type: ignore[method-assign]
    with pytest.raises(DatasourceError, match="circles"):
        keys(ObjectStore(stub.bucket("p/")))


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (404, "NoSuchKey", Trouble.GONE),
        (404, "NoSuchBucket", Trouble.BUCKET),
        (412, "PreconditionFailed", Trouble.CHANGED),
        (403, "AccessDenied", Trouble.DENIED),
        (403, "InvalidObjectState", Trouble.DENIED),
        (403, "InvalidAccessKeyId", Trouble.CREDENTIALS),
        (400, "ExpiredToken", Trouble.CREDENTIALS),
        (400, "InvalidRequest", Trouble.REFUSED),
        (429, "TooManyRequests", Trouble.BUSY),
        (500, "InternalError", Trouble.BUSY),
        (503, "SlowDown", Trouble.BUSY),
    ],
)
@pytest.mark.parametrize("key", ["p/0005.jpg", "p//odd.jpg"])
def test_what_an_answer_means(stub: S3Stub, key: str, status: int, code: str, trouble: Trouble):
    stub.fault = lambda method, key: (status, code)
    with pytest.raises(ObjectError) as caught:
        ObjectStore(stub.bucket()).get(key)
    assert caught.value.trouble is trouble
    assert caught.value.answer == f"{status} {code}"


@pytest.mark.parametrize("key", ["p/0005.jpg", "p//odd.jpg"])
def test_nobody_there(stub: S3Stub, key: str):
    bucket = stub.bucket()
    store = ObjectStore(
        type(bucket)("stub", "", "http://127.0.0.1:1", "us-east-1", True, bucket.credentials)
    )
    with pytest.raises(ObjectError) as caught:
        store.get(key)
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_a_request_ends_at_its_timeout(stub: S3Stub):
    stub.fault = lambda method, key: 3.0
    with pytest.raises(ObjectError) as caught:
        ObjectStore(stub.bucket()).get("p/0005.jpg", timeout_s=0.5)
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_the_environment_does_not_replace_given_keys(stub: S3Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    store = ObjectStore(stub.bucket("p/"))
    assert len(keys(store)) == 2500
    assert bytes(store.get("p/0005.jpg")) == b"x" * 5


def test_messages_hold_no_secret(stub: S3Stub):
    stub.fault = lambda method, key: (403, "SignatureDoesNotMatch")
    with pytest.raises(MountError) as caught:
        keys(ObjectStore(stub.bucket()))
    assert "X-Amz" not in str(caught.value)
    assert "from the test" in str(caught.value)
