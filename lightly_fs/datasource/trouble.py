"""What an object store's refusal means: is the object broken, or the system?"""

from __future__ import annotations

import re
from enum import StrEnum

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.errors import DatasourceError, LightlyFSError, MountError


class Trouble(StrEnum):
    """Why a request was not answered with what it asked for."""

    GONE = "gone"
    """404: there is no such object."""
    CHANGED = "changed"
    """412, or an answer for another ETag: not the object that was listed."""
    DENIED = "denied"
    """403 for this object; whether only for this one is to be found out, see `Vitals`."""
    REFUSED = "refused"
    """400 and its like: asking again will not help."""
    BUSY = "busy"
    """429, 500, 502, 503, 504: ask again, slower."""
    UNREACHABLE = "unreachable"
    """No answer: refused, reset, silent, or the body broke off."""
    CREDENTIALS = "credentials"
    """Nobody with these keys can read anything."""
    REGION = "region"
    BUCKET = "bucket"


_SYSTEM = frozenset({Trouble.CREDENTIALS, Trouble.REGION, Trouble.BUCKET})

PASSING = frozenset({Trouble.BUSY, Trouble.UNREACHABLE})
"""What may be over in a moment."""

_BY_CODE = {
    "NoSuchBucket": Trouble.BUCKET,
    "PermanentRedirect": Trouble.REGION,
    "AuthorizationHeaderMalformed": Trouble.REGION,
    "IllegalLocationConstraintException": Trouble.REGION,
    "SlowDown": Trouble.BUSY,
    "RequestTimeout": Trouble.BUSY,
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "AccountProblem",
        ),
        Trouble.CREDENTIALS,
    ),
}
_BY_STATUS = {
    301: Trouble.REGION,
    307: Trouble.BUSY,
    401: Trouble.CREDENTIALS,
    403: Trouble.DENIED,
    404: Trouble.GONE,
    408: Trouble.BUSY,
    409: Trouble.BUSY,
    412: Trouble.CHANGED,
    429: Trouble.BUSY,
}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")


class ObjectError(Exception):
    """A request that failed.

    Attributes:
        trouble: What that means.
        answer: The store's own words, short: `503 SlowDown`, `no answer`.
    """

    def __init__(self, trouble: Trouble, answer: str) -> None:
        super().__init__(f"{trouble}: {answer}")
        self.trouble = trouble
        self.answer = answer

    def system_error(self, bucket: Bucket) -> LightlyFSError | None:
        """Return the exception when not an object but the system is at fault, else None."""
        return broken(self, bucket) if self.trouble in _SYSTEM else None


def answered(status: int, body: str) -> ObjectError:
    """Say what an HTTP answer means; the code in its body is more precise than its status."""
    found = _CODE.search(body)
    code = found[1] if found else ""
    trouble = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if trouble is None:
        trouble = Trouble.BUSY if status >= 500 else Trouble.REFUSED
    return ObjectError(trouble, f"{status} {code}".strip())


def translated(error: Exception) -> ObjectError:
    """Say what an exception of obstore or botocore means."""
    if isinstance(error, ObjectError):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return answered(status, f"<Code>{response.get('Error', {}).get('Code', '')}</Code>")
    text = str(error)
    head = text.partition("\n\nDebug source")[0]
    status_found = _STATUS.search(head)
    if status_found:
        return answered(int(status_found[1]), head)
    if "incorrectly configured region" in head:
        return ObjectError(Trouble.REGION, "301")
    if type(error).__name__ in {"NoCredentialsError", "CredentialRetrievalError"}:
        return ObjectError(Trouble.CREDENTIALS, "no credentials were found")
    silent = ObjectError(Trouble.UNREACHABLE, "no answer")
    if "169.254.169.254" in head or "169.254.170.2" in head:
        silent = ObjectError(Trouble.CREDENTIALS, "the instance has no role to ask")
    return silent


def broken(error: ObjectError, bucket: Bucket) -> LightlyFSError:
    """Return the exception for a store that cannot be read at all."""
    where = f"{bucket.uri} at {bucket.url or 'AWS'}"
    if error.trouble in (Trouble.CREDENTIALS, Trouble.DENIED):
        keys = bucket.credentials
        source = f" from {keys.source}" if keys and keys.source else ""
        return MountError(
            f"the credentials{source} do not open {where}: {error.answer}",
            reason="credentials",
            hint="Renew them, then start the same command again: it resumes.",
        )
    if error.trouble is Trouble.REGION:
        return MountError(
            f"{where} is in another region than {bucket.region or 'us-east-1'}: {error.answer}",
            reason="region",
            hint="Give `s3.region=` and `s3.url=https://s3.REGION.amazonaws.com`.",
        )
    if error.trouble in (Trouble.BUCKET, Trouble.GONE):
        return MountError(
            f"there is no bucket {bucket.name} at {bucket.url or 'AWS'}: {error.answer}",
            reason="bucket",
            hint="Check its name and `s3.url`.",
        )
    return DatasourceError(
        f"{where} cannot be read: {error.answer}",
        hint="Check the network and the endpoint; the same command resumes the run.",
    )
