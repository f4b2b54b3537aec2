"""Addressing a bucket: AWS or not, which region, which style."""

from __future__ import annotations

import pytest

from lightly_fs.datasource.endpoint import aws_url, endpoint_of, is_aws, parse_uri, place, region_of
from lightly_fs.errors import ConfigError, MountError


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        (None, True),
        ("https://s3.amazonaws.com", True),
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://s3-eu-central-1.amazonaws.com/", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://storage.googleapis.com", False),
        ("http://127.0.0.1:9000", False),
        ("https://amazonaws.com.example.org", False),
        ("https://fakeamazonaws.com", False),
    ],
)
def test_amazon_is_told_from_others(url, aws):
    assert is_aws(url) is aws


def test_endpoints_that_are_not_aws_are_addressed_by_path():
    bucket = place("b", "a/b/", url="http://minio:9000/", region=None, credentials=None)

    assert bucket.path_style
    assert bucket.url == "http://minio:9000"
    assert bucket.region == "us-east-1"
    assert bucket.prefix == "a/b/"


def test_aws_buckets_are_addressed_by_host_unless_they_have_a_dot():
    assert not place("b", "", url=None, region=None, credentials=None).path_style
    assert place("my.bucket", "", url=None, region=None, credentials=None).path_style


@pytest.mark.parametrize(
    "url", ["https://s3.eu-central-1.amazonaws.com", "https://s3-eu-central-1.amazonaws.com"]
)
def test_region_is_read_off_an_aws_url(url):
    assert place("b", "", url=url, region=None, credentials=None).region == "eu-central-1"


def test_aws_without_a_region_leaves_it_open():
    for url in (None, "https://s3.amazonaws.com"):
        assert place("b", "", url=url, region=None, credentials=None).region is None


def test_chinese_regions_have_their_own_domain():
    assert aws_url("cn-north-1") == "https://s3.cn-north-1.amazonaws.com.cn"
    assert aws_url("eu-west-1") == "https://s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("bucket", ("bucket", "")),
        ("bucket:/a/b/", ("bucket", "a/b")),
        ("bucket/a", ("bucket", "a")),
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://my.bucket/a b/ü", ("my.bucket", "a b/ü")),
    ],
)
def test_every_spelling_of_a_bucket_is_understood(uri, expected):
    assert parse_uri(uri) == expected


@pytest.mark.parametrize("uri", ["", "s3://", "s3:///a", "b ucket", "https://x/y"])
def test_what_names_no_bucket_is_an_error(uri):
    with pytest.raises(ConfigError, match="names no bucket"):
        parse_uri(uri)


def test_the_environment_is_read_like_aws_tools_do():
    environ = {
        "AWS_ENDPOINT_URL": "http://all",
        "AWS_ENDPOINT_URL_S3": "http://s3",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }

    assert endpoint_of(environ) == "http://s3"
    assert region_of(environ) == "eu-west-1"
    assert region_of({"AWS_REGION": "eu-west-2", **environ}) == "eu-west-2"
    assert endpoint_of({}) is None


@pytest.mark.parametrize("url", ["abc", "ftp://host", "http://", "localhost:9000"])
def test_an_endpoint_that_is_no_web_address_is_named(url):
    with pytest.raises(MountError, match=f"`{url}` is no http") as caught:
        place("b", "", url=url, region=None, credentials=None)

    assert caught.value.reason == "endpoint"
