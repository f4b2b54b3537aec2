"""Ask S3 itself whether a bucket can be listed, and if not, why; in seconds, before mounting.

One signed ListObjectsV2. It is sent without a client library's retries and redirects, which would
wait for minutes on a dead endpoint and hide the region that the answer names.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree as ET

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.endpoint import aws_url, is_aws
from lightly_fs.errors import MountError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError

_KEYS_LISTED = 100
_REFUSALS = {
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "says that the secret key is wrong",
    "ExpiredToken": "says that the session has expired",
    "InvalidToken": "does not accept the session token",
    "RequestTimeTooSkewed": "says that this host's clock is wrong",
    "AccessDenied": "does not let them list the bucket",
}


@dataclass(frozen=True)
class Found:
    """A bucket that answered.

    Attributes:
        bucket: As asked for, with the region it turned out to be in.
        names: First names at its prefix, as a directory would show them.
        complete: These are all names.
    """

    bucket: Bucket
    names: tuple[str, ...]
    complete: bool


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: str

    def element(self, name: str) -> str:
        match = re.search(rf"<{name}>([^<]*)</{name}>", self.body)
        return match[1] if match else ""

    @property
    def region(self) -> str:
        named = self.headers.get("x-amz-bucket-region") or self.element("Region")
        endpoint = re.search(r"s3[.-]([a-z0-9-]+)\.amazonaws", self.element("Endpoint"))
        return named or (endpoint[1] if endpoint else "")


def find_bucket(bucket: Bucket, environ: Mapping[str, str], *, timeout_s: float = 5) -> Found:
    """List the first names of a bucket.

    Args:
        bucket: Without a region, an AWS bucket is followed to the region it is in.
        environ: Names a CA bundle, and how the instance's metadata is reached.
        timeout_s: For everything.

    Raises:
        MountError: Reason `credentials`, `bucket`, `region`, `dns`, `endpoint` or `timeout`.
    """
    deadline = time.monotonic() + timeout_s
    credentials = _frozen_credentials(bucket, environ)
    pause_s = 0.3
    while True:
        answer = _ask(bucket, credentials, environ, deadline)
        if answer.status == 200:
            return _found(bucket, answer)
        if answer.region and not bucket.region and is_aws(bucket.url):
            url = bucket.url and aws_url(answer.region)
            bucket = replace(bucket, region=answer.region, url=url)
        elif answer.status in (429, 500, 503) and time.monotonic() + pause_s < deadline - 1:
            time.sleep(pause_s)
            pause_s *= 2
        else:
            raise _explain(bucket, answer)


def _ask(
    bucket: Bucket, credentials: object, environ: Mapping[str, str], deadline: float
) -> _Answer:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import URLLib3Session

    url = _list_url(bucket)
    request = AWSRequest("GET", url)
    S3SigV4Auth(credentials, "s3", bucket.region or "us-east-1").add_auth(request)
    left_s = max(0.5, deadline - time.monotonic())
    session = URLLib3Session(
        verify=environ.get("AWS_CA_BUNDLE") or True,
        proxies=_proxies(url, environ),
        timeout=(min(3.0, left_s), left_s),
    )
    try:
        response = session.send(request.prepare())
        return _Answer(response.status_code, response.headers, response.text)
    except BotoCoreError as error:
        raise _unreachable(bucket, error) from None
    finally:
        session.close()


def _proxies(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy for a URL, from the variables that s3fs (libcurl) obeys too."""
    parts = urlsplit(url)
    # libcurl ignores HTTP_PROXY in capitals: a web server sets that from a request's header.
    proxy = environ.get(f"{parts.scheme}_proxy") or (
        environ.get("HTTPS_PROXY") if parts.scheme == "https" else None
    )
    excepted = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").replace(" ", "")
    host = f".{parts.hostname}"
    bypassed = excepted == "*" or any(
        host.endswith("." + name.lstrip(".")) for name in excepted.split(",") if name
    )
    return {parts.scheme: proxy} if proxy and not bypassed else {}


def _frozen_credentials(bucket: Bucket, environ: Mapping[str, str]) -> object:
    from botocore.credentials import Credentials as BotoCredentials

    keys = bucket.credentials
    if keys is not None:
        return BotoCredentials(keys.access_key, keys.secret_key, keys.session_token)
    from botocore.credentials import InstanceMetadataProvider
    from botocore.utils import InstanceMetadataFetcher

    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    fetcher = InstanceMetadataFetcher(
        timeout=1,
        num_attempts=1,
        env=environ,
        config={"ec2_metadata_service_endpoint": endpoint} if endpoint else {},
    )
    found: Any = InstanceMetadataProvider(iam_role_fetcher=fetcher).load()
    if found is None:
        raise MountError(
            "this host has no instance role to ask (no answer from the metadata service)",
            reason="credentials",
            hint="--iam-role works on EC2 with a role attached; elsewhere use keys or a profile",
        )
    return found


def _list_url(bucket: Bucket) -> str:
    base = bucket.url or aws_url(bucket.region)
    name = quote(bucket.name)
    host = f"{base}/{name}" if bucket.path_style else base.replace("://", f"://{name}.", 1) + "/"
    query = {
        "delimiter": "/",
        "encoding-type": "url",
        "list-type": "2",
        "max-keys": str(_KEYS_LISTED),
        "prefix": bucket.prefix,
    }
    return f"{host}?{urlencode(query, quote_via=quote)}"


def _found(bucket: Bucket, answer: _Answer) -> Found:
    try:
        root = ET.fromstring(answer.body)  # noqa: S314 - expat resolves no external entities
    except ET.ParseError:
        root = ET.Element("none")
    if not root.tag.endswith("ListBucketResult"):
        raise MountError(
            f"`{bucket.url or 'AWS'}` answers, but is no S3 endpoint",
            reason="endpoint",
            hint="check --url: it names the endpoint, without bucket or console path",
        )
    keys = [
        unquote(element.text or "").removeprefix(bucket.prefix)
        for element in root.iter()
        if element.tag.endswith("}Key") or element.tag == "Key"
    ]
    folders = [
        unquote(element.text or "").removeprefix(bucket.prefix).removesuffix("/")
        for parent in root.iter()
        if parent.tag.endswith("CommonPrefixes")
        for element in parent
    ]
    return Found(
        bucket=bucket,
        names=tuple(sorted(name for name in (*keys, *folders) if name)),
        complete="<IsTruncated>true" not in answer.body,
    )


def _explain(bucket: Bucket, answer: _Answer) -> MountError:
    code = answer.element("Code")
    where = bucket.url or aws_url(bucket.region)
    if answer.status in (301, 307, 308) or code in (
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraintException",
    ):
        return _wrong_region(bucket, answer.region)
    if code in _REFUSALS or answer.status in (401, 403):
        said = _REFUSALS.get(code, f"answers {answer.status}")
        source = bucket.credentials.source if bucket.credentials else "the instance's role"
        return MountError(
            f"{where} refuses the credentials from {source} for bucket `{bucket.name}`: "
            f"it {said} ({code or answer.status})",
            reason="credentials",
            hint="check the key and its policy (s3:ListBucket on the bucket, s3:GetObject on its "
            "objects); `--aws-profile NAME` uses another one",
        )
    if code == "NoSuchBucket":
        return MountError(
            f"there is no bucket `{bucket.name}` at {where}",
            reason="bucket",
            hint="check its spelling, and --url when it is not on AWS",
        )
    return MountError(
        f"{where} answers {answer.status} {code or 'without an S3 error'} to a listing of "
        f"`{bucket.name}`",
        reason="endpoint",
        hint="check --url; if it is right, the service is out of order or overloaded: try later",
    )


def _wrong_region(bucket: Bucket, right: str) -> MountError:
    asked = bucket.region or "us-east-1"
    url = aws_url(right or "REGION")
    hint = f"--region {right or 'REGION'} --url {url}   (s3fs: url={url})"
    if not is_aws(bucket.url):
        hint = (
            f"--region {right or 'REGION'}; for a bucket on AWS also --url {url} (s3fs: url={url})"
        )
    return MountError(
        f"bucket `{bucket.name}` is in region `{right or 'another one'}`, not `{asked}`"
        + (f" at {bucket.url}" if bucket.url else "")
        + f"; use url={url}",
        reason="region",
        hint=hint,
    )


def _unreachable(bucket: Bucket, error: BotoCoreError) -> MountError:
    from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError, SSLError

    where = bucket.url or aws_url(bucket.region)
    if isinstance(error, ReadTimeoutError):
        return MountError(
            f"{where} accepts connections, but does not answer",
            reason="timeout",
            hint="check --url; a proxy or firewall may hold the answer back",
        )
    if _is_unresolved(error):
        return MountError(
            f"the name `{urlsplit(where).hostname}` of the endpoint {where} cannot be resolved",
            reason="dns",
            hint="check the spelling of --url and --region, the network and its name server",
        )
    if isinstance(error, SSLError):
        why = "its certificate is not trusted: AWS_CA_BUNDLE=FILE names another authority"
    elif isinstance(error, ConnectTimeoutError):
        why = "no connection within the time limit"
    else:
        why = "the connection is refused"
    return MountError(
        f"the endpoint {where} cannot be reached: {why}",
        reason="endpoint",
        hint="check --url (scheme, host, port), the network and the proxy",
    )


def _is_unresolved(error: BotoCoreError) -> bool:
    """Return whether the endpoint's name has no address."""
    cause: BaseException | None = error.kwargs.get("error")
    while cause is not None and not isinstance(cause, socket.gaierror):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
