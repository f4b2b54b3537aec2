"""Where objects live: a bucket, a prefix, an endpoint, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of an S3 account; neither `repr` nor `str` shows a secret."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    source: str = ""
    """Where they were found, for messages: `environment`, a profile, a path."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and prefix at an endpoint.

    Attributes:
        name: Bucket name.
        prefix: "" or a prefix that ends in "/".
        url: Endpoint, scheme included; None for AWS.
        region: Region to sign for; None for the endpoint's default.
        path_style: Address as `url/bucket/key` instead of `bucket.host/key`.
        credentials: None to ask the instance's IAM role.
    """

    name: str
    prefix: str = ""
    url: str | None = None
    region: str | None = None
    path_style: bool = False
    credentials: Credentials | None = None

    @property
    def uri(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def key(self, filename: str) -> str:
        """Return the object key of a filename below the prefix."""
        return self.prefix + filename
