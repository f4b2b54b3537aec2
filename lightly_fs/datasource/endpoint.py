"""Where a bucket is reached: endpoint, region and address style."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.errors import ConfigError, MountError

_AWS_HOST = re.compile(r"(?:s3[.-](?P<region>[a-z0-9-]+)|s3)\.amazonaws\.com(?:\.cn)?")


def is_aws(url: str | None) -> bool:
    """Return whether an endpoint is Amazon's; no endpoint is."""
    host = (urlsplit(url).hostname or "") if url else "amazonaws.com"
    return f".{host}".endswith((".amazonaws.com", ".amazonaws.com.cn"))


def aws_url(region: str | None) -> str:
    """Return the endpoint of an AWS region."""
    if not region:
        return "https://s3.amazonaws.com"
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Return the endpoint that the environment names, as AWS's own tools read it."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


def region_of(environ: Mapping[str, str]) -> str | None:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None


def place(
    name: str,
    prefix: str,
    *,
    url: str | None,
    region: str | None,
    credentials: Credentials | None,
) -> Bucket:
    """Return a bucket with the address style that its endpoint needs.

    Endpoints that are not AWS are addressed by path (`url/bucket/key`), and so are AWS buckets with
    a dot, because the certificate for `*.s3.amazonaws.com` does not cover them.

    Raises:
        MountError: The endpoint is no http(s) address (`reason="endpoint"`).
    """
    if url and not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
        raise MountError(
            f"the endpoint `{url}` is no http:// or https:// address",
            reason="endpoint",
            hint="e.g. url=https://s3.eu-central-1.amazonaws.com; also see AWS_ENDPOINT_URL",
        )
    aws = is_aws(url)
    if aws and not region and url and (match := _AWS_HOST.fullmatch(urlsplit(url).hostname or "")):
        region = match["region"]
    folder = prefix.strip("/")
    return Bucket(
        name=name,
        prefix=f"{folder}/" if folder else "",
        url=url.rstrip("/") if url else None,
        region=region or (None if aws else "us-east-1"),
        path_style=not aws or "." in name,
        credentials=credentials,
    )


def parse_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix`, `bucket:/prefix` or `bucket` into bucket and prefix.

    Raises:
        ConfigError: There is no bucket name in it.
    """
    bare = uri.removeprefix("s3://")
    name, separator, prefix = bare.partition("/")
    name = name.removesuffix(":") if separator else name
    if "://" in bare or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ConfigError(
            f"`{uri}` names no bucket", hint="s3://my-bucket/some/prefix, or my-bucket:/some/prefix"
        )
    return name, prefix.strip("/")
