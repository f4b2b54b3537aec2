"""Read URLs, fetched from a server that checks signatures and dates, and from one with any key."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.endpoint import place
from lightly_fs.datasource.read_urls import prefixed_url, read_urls
from lightly_fs.errors import ConfigError, MountError
from tests.conftest import S3Server, free_port, need, wait_for

NAMES = [
    "a.jpg",
    "sub folder/ü #1 +%2F&=?;~'()!*$,@:.jpg",
    "日本/x\u2028y.jpg",
    "percent%20.jpg",
    '[a]{b}|"<>^`.jpg',
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that refuses wrong signatures and URLs that have expired."""
    program = Path(sys.executable).parent / "rclone"
    need("s3", missing=None if program.exists() else "rclone is not installed")
    server = S3Server(f"http://127.0.0.1:{free_port()}", "right", "right-secret")
    process = subprocess.Popen(
        [
            *(str(program), "serve", "s3", "--auth-key", "right,right-secret"),
            *("--addr", server.url.removeprefix("http://"), str(tmp_path_factory.mktemp("rclone"))),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(server.url, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def filled(server: S3Server, names: list[str], prefix: str = "in/put/") -> Bucket:
    bucket = server.new_bucket()
    for name in names:
        server.client().put_object(Bucket=bucket, Key=prefix + name, Body=name.encode())
    keys = Credentials(server.access_key, server.secret_key)
    return place(bucket, prefix, url=server.url, region="us-east-1", credentials=keys)


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def refused(url: str) -> str:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(url)
    return caught.value.read().decode()


@pytest.mark.s3
def test_every_name_is_read_with_nothing_but_its_url(strict):
    bucket = filled(strict, NAMES)

    urls = list(read_urls(bucket, NAMES, expires=timedelta(days=7)))

    assert [fetch(url) for url in urls] == [name.encode() for name in NAMES]


@pytest.mark.s3
def test_keys_that_no_path_can_hold(moto):
    names = ["a//b.jpg", "/c.jpg", "tab\t.jpg"]
    bucket = filled(moto, names)

    urls = list(read_urls(bucket, names, expires=timedelta(hours=1)))

    assert [fetch(url) for url in urls] == [name.encode() for name in names]


@pytest.mark.s3
def test_the_store_refuses_what_was_not_signed(strict):
    bucket = filled(strict, ["a.jpg", "b.jpg"])
    (short,) = read_urls(bucket, ["a.jpg"], expires=timedelta(seconds=1))
    (long,) = read_urls(bucket, ["a.jpg"], expires=timedelta(hours=1))
    foreign = replace(bucket, credentials=Credentials("right", "guessed"))
    (forged,) = read_urls(foreign, ["a.jpg"], expires=timedelta(hours=1))
    time.sleep(2.2)

    assert fetch(long) == b"a.jpg"
    assert "AccessDenied" in refused(short)
    assert "SignatureDoesNotMatch" in refused(long.replace("a.jpg", "b.jpg"))
    assert "SignatureDoesNotMatch" in refused(long.replace("Expires=3600", "Expires=604800"))
    assert "SignatureDoesNotMatch" in refused(forged)
    assert "right-secret" not in long


AWS = Credentials("AKIA", "secret", "session/token+")


@pytest.mark.parametrize(
    ("name", "url", "region", "start"),
    [
        ("photos", None, "eu-central-1", "https://photos.s3.eu-central-1.amazonaws.com/p/a%20b.jpg?"),
        ("with.dot", None, "us-east-1", "https://s3.us-east-1.amazonaws.com/with.dot/p/a%20b.jpg?"),
        ("photos", "https://s3.eu-west-1.amazonaws.com", None,
         "https://photos.s3.eu-west-1.amazonaws.com/p/a%20b.jpg?"),
        ("photos", "http://host:9000", None, "http://host:9000/photos/p/a%20b.jpg?"),
    ],
)  # fmt: skip
def test_the_address_is_that_of_the_endpoint(name, url, region, start, caplog):
    bucket = place(name, "p", url=url, region=region, credentials=AWS)

    with caplog.at_level(logging.WARNING, "lightly_fs"):
        (signed,) = read_urls(bucket, ["a b.jpg"], expires=timedelta(minutes=5))

    assert signed.startswith(start)
    asked = parse_qs(urlsplit(signed).query)
    assert asked["X-Amz-Expires"] == ["300"]
    assert asked["X-Amz-Security-Token"] == ["session/token+"]
    assert f"/{bucket.region}/s3/aws4_request" in asked["X-Amz-Credential"][0]
    assert "session" in caplog.text


def test_without_keys_there_is_no_url(monkeypatch):
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    bucket = place("b", "", url="http://host", region=None, credentials=None)

    with pytest.raises(MountError, match="no keys to sign read URLs of `b`") as caught:
        list(read_urls(bucket, ["a.jpg"], expires=timedelta(hours=1)))

    assert caught.value.reason == "credentials"


@pytest.mark.parametrize("expires", [timedelta(0), timedelta(days=7, seconds=1)])
def test_no_store_takes_longer_than_a_week(expires):
    bucket = place("b", "", url="http://host", region=None, credentials=AWS)

    with pytest.raises(ConfigError, match="cannot hold for"):
        list(read_urls(bucket, ["a.jpg"], expires=expires))


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("https://host/images", "https://host/images/a/b%20%23%3F.jpg"),
        ("https://host/images/", "https://host/images/a/b%20%23%3F.jpg"),
        ("/data/local-files/?d=", "/data/local-files/?d=a/b%20%23%3F.jpg"),
        ("s3://bucket/in", "s3://bucket/in/a/b #?.jpg"),
    ],
)
def test_urls_by_prefix(prefix, url):
    assert prefixed_url(prefix, "a/b #?.jpg") == url


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_url_by_prefix_names_exactly_one_file(name):
    parts = urlsplit(prefixed_url("https://host", name))

    assert unquote(parts.path) == f"/{name}"
    assert (parts.query, parts.fragment) == ("", "")
