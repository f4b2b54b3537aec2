"""Addresses that let anyone read an object for some days: GET URLs signed with SigV4.

They are signed here and not asked for: no request is sent, and whether an object is there, or may
be read with these keys, shows when its URL is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.endpoint import aws_url
from lightly_fs.errors import ConfigError, MountError

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=7)
"""No server accepts a SigV4 URL that is to hold longer."""

_RAW = ("s3://", "gs://")


def read_urls(bucket: Bucket, filenames: Iterable[str], *, expires: timedelta) -> Iterator[str]:
    """Yield for each filename below the bucket's prefix a URL to read it with.

    Args:
        bucket: With the keys that sign; they must be allowed to read (`s3:GetObject`).
        filenames: Below the prefix; any key, each is quoted as its URL needs it.
        expires: How long they hold from now, a second to seven days.

    Raises:
        ConfigError: `expires` is out of range.
        MountError: The instance has no keys to sign with (reason `credentials`).
    """
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    seconds = int(expires.total_seconds())
    if not 1 <= seconds <= LONGEST.total_seconds():
        raise ConfigError(
            f"read URLs cannot hold for {expires}", hint="S3 allows one second to seven days."
        )
    credentials = _credentials(bucket)
    if credentials.token:
        logger.warning("the keys are those of a session: read URLs end with it, if not before")
    address = _address(bucket)
    signer = S3SigV4QueryAuth(credentials, "s3", bucket.region or "us-east-1", expires=seconds)
    for filename in filenames:
        request = AWSRequest("GET", address + quote(bucket.key(filename), safe="/~"))
        signer.add_auth(request)
        yield str(request.url)


def prefixed_url(prefix: str, filename: str) -> str:
    """Return where a server of files shows one: the prefix, and the quoted filename.

    `https://host/images` gives `https://host/images/a%20b.jpg`. After `=` there is no slash
    (`/data/local-files/?d=`), and `s3://` and `gs://` take names as they are: such addresses know
    no quoting.
    """
    joined = prefix if prefix.endswith(("/", "=")) else f"{prefix}/"
    return joined + (filename if prefix.startswith(_RAW) else quote(filename, safe="/~"))


def _address(bucket: Bucket) -> str:
    endpoint = bucket.url or aws_url(bucket.region)
    if bucket.path_style:
        return f"{endpoint}/{bucket.name}/"
    return endpoint.replace("://", f"://{bucket.name}.", 1) + "/"


def _credentials(bucket: Bucket) -> Any:  # noqa: ANN401 - botocore is untyped
    from botocore.credentials import Credentials
    from botocore.session import Session

    if (keys := bucket.credentials) is not None:
        return Credentials(keys.access_key, keys.secret_key, keys.session_token)
    found = Session().get_credentials()
    if found is None:
        raise MountError(
            f"there are no keys to sign read URLs of `{bucket.name}` with",
            reason="credentials",
            hint="--iam-role works on EC2 with a role attached; elsewhere use keys or a profile",
        )
    return found
