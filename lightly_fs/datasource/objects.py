"""An object store behind our names: list, get, head, conditional writes; counts its requests."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.listing import next_token, parse_page
from lightly_fs.datasource.trouble import (
    PASSING,
    ObjectError,
    Trouble,
    answered,
    broken,
    translated,
)
from lightly_fs.errors import DatasourceError

if TYPE_CHECKING:
    from obstore.store import S3Store

Buffer = bytes | memoryview
T = TypeVar("T")

_ATTEMPTS = 5
_CONNECT_TIMEOUT_S = 5
_LIST_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store says about an object; `etag` without quotes."""

    size: int
    etag: str | None
    mtime_ns: int


class ObjectStore:
    """One bucket. Safe to use from many threads.

    obstore serves every key that its paths can express. The rare others (empty, `.` and `..`
    segments, control characters, slashes at either end, which obstore drops or refuses) and the
    listing, where one such key would spoil a page, go through botocore. So do ranges from a
    server that sends them with status 200.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._counter: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._parts_as_200 = False
        self._stores: dict[float, S3Store] = {}

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests sent so far by kind: LIST, GET, HEAD, PUT, DELETE."""
        with self._lock:
            return dict(self._counter)

    def list(
        self, *, start_after: str | None = None, page_size: int = 1000
    ) -> Iterator[pa.RecordBatch]:
        """Yield the objects below the prefix in the order of their keys' UTF-8 bytes.

        The next page is asked for while one is being read.

        Yields:
            Batches with the columns key, size, etag (unquoted) and mtime_ns.

        Raises:
            MountError: Credentials, region or bucket are wrong, see `reason`.
            DatasourceError: The store does not answer, or answers with nonsense.
        """
        asked: dict[str, Any] = {"MaxKeys": page_size}
        if start_after is not None:
            asked["StartAfter"] = start_after
        with ThreadPoolExecutor(1, "list") as ahead:
            body: bytes | None = self._page(asked)
            while body is not None:
                token = next_token(body)
                if token is not None and token == asked.get("ContinuationToken"):
                    raise DatasourceError(f"the listing of {self.bucket.uri} goes in circles")
                asked["ContinuationToken"] = token
                following = ahead.submit(self._page, dict(asked)) if token else None
                batch = parse_page(body)
                if batch.num_rows:
                    yield batch
                body = following.result() if following else None

    def _page(self, asked: Mapping[str, Any]) -> bytes:
        def once() -> bytes:
            self._count("LIST")
            status, body = self._fetch_page(asked)
            if status != 200:
                raise answered(status, body.decode(errors="replace"))
            if not body.rstrip().endswith(b"</ListBucketResult>"):
                raise ObjectError(Trouble.BUSY, "an incomplete page")
            return body

        try:
            return _insist(once)
        except ObjectError as error:
            raise broken(error, self.bucket) from error

    def _fetch_page(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        """Sign with botocore but parse ourselves: eight times the keys per CPU second."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        parameters = {
            "Bucket": self.bucket.name,
            "Prefix": self.bucket.prefix,
            "EncodingType": "url",
            **asked,
        }
        try:
            url = self._client.generate_presigned_url("list_objects_v2", Params=parameters)
            answer = self._http.send(AWSRequest("GET", url).prepare())
        except BotoCoreError as error:
            raise translated(error) from error
        return answer.status_code, answer.content

    def get(
        self,
        key: str,
        *,
        etag: str | None = None,
        part: tuple[int, int] | None = None,
        timeout_s: float = 30,
    ) -> Buffer:
        """Return an object's bytes, in one attempt.

        Args:
            key: Whole key, prefix included.
            etag: Fail with `Trouble.CHANGED` when the object has another.
            part: Offset and number of bytes, at least one; None for the whole object.
            timeout_s: For the whole request.

        Raises:
            ObjectError: Why not.
        """
        self._count("GET")
        plain = _is_plain(key) and not (part is not None and self._parts_as_200)
        try:
            if not plain:
                return self._get_odd(key, etag, part)
            import obstore

            options: Any = {"if_match": f'"{etag}"'} if etag else {}
            if part is not None:
                options["range"] = (part[0], part[0] + part[1])
            answer = obstore.get(self._store(timeout_s), key, options=options)
            found = _unquoted(answer.meta["e_tag"])
            data = memoryview(answer.bytes())
        except Exception as error:  # obstore raises ValueError, OSError and its own
            if plain and part is not None and "non-partial response" in str(error):
                self._parts_as_200 = True  # as `rclone serve s3` does; botocore takes it
                return self.get(key, etag=etag, part=part, timeout_s=timeout_s)
            raise translated(error) from error
        if etag and found and found != etag:  # a store that ignores If-Match
            raise ObjectError(Trouble.CHANGED, "its ETag is another")
        return data

    def _get_odd(self, key: str, etag: str | None, part: tuple[int, int] | None) -> bytes:
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        if part is not None:
            condition["Range"] = f"bytes={part[0]}-{sum(part) - 1}"
        answer = self._client.get_object(Bucket=self.bucket.name, Key=key, **condition)
        if part is not None and "ContentRange" not in answer:
            answer["Body"].close()
            raise ObjectError(Trouble.REFUSED, "it serves no ranges")
        data: bytes = answer["Body"].read()
        if etag and _unquoted(answer.get("ETag")) not in (None, etag):
            raise ObjectError(Trouble.CHANGED, "its ETag is another")
        return data

    def head(self, key: str) -> ObjectHead | None:
        """Return what the store knows of an object, or None when there is none."""

        def once() -> ObjectHead:
            self._count("HEAD")
            try:
                if _is_plain(key):
                    import obstore

                    meta = obstore.head(self._store(), key)
                    size, etag, modified = meta["size"], meta["e_tag"], meta["last_modified"]
                else:
                    answer = self._client.head_object(Bucket=self.bucket.name, Key=key)
                    size, etag = answer["ContentLength"], answer.get("ETag")
                    modified = answer["LastModified"]
            except Exception as error:
                raise translated(error) from error
            return ObjectHead(size, _unquoted(etag), int(modified.timestamp() * 1000) * 1_000_000)

        try:
            return _insist(once)
        except ObjectError as error:
            if error.trouble is Trouble.GONE:
                return None
            raise broken(error, self.bucket) from error

    def create(self, key: str, data: bytes) -> str | None:
        """Write an object that must not exist yet; return its ETag, or None when it exists."""
        return self._put(key, data, "create")

    def replace(self, key: str, data: bytes, *, etag: str) -> str | None:
        """Overwrite the object that has this ETag; None when it has another or is gone.

        ETags are compared quoted (RFC 9110); a store that says no although the ETag is the same
        (Ceph radosgw compares the text) is asked again without quotes.
        """
        written = self._put(key, data, {"e_tag": f'"{etag}"'})
        if written is None:
            found = self.head(key)
            if found is not None and found.etag == etag:
                return self._put(key, data, {"e_tag": etag})
        return written

    def _put(self, key: str, data: bytes, mode: Any) -> str | None:  # noqa: ANN401 - obstore's PutMode
        import obstore

        def once() -> str | None:
            self._count("PUT")
            try:
                answer = obstore.put(self._store(), key, data, mode=mode, use_multipart=False)
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                return None
            except Exception as error:
                raise translated(error) from error
            return _unquoted(answer["e_tag"])

        try:
            return _insist(once)
        except ObjectError as error:
            if error.trouble in (Trouble.CHANGED, Trouble.GONE) and mode != "create":
                return None
            raise broken(error, self.bucket) from error

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is deleted already."""

        def once() -> None:
            self._count("DELETE")
            try:
                self._client.delete_object(Bucket=self.bucket.name, Key=key)
            except Exception as error:
                raise translated(error) from error

        try:
            _insist(once)
        except ObjectError as error:
            if error.trouble is not Trouble.GONE:
                raise broken(error, self.bucket) from error

    def _count(self, kind: str) -> None:
        with self._lock:
            self._counter[kind] += 1

    def _store(self, timeout_s: float = 30) -> S3Store:
        """Return obstore's client; it never retries, because who asks knows how long to wait."""
        with self._lock:
            if timeout_s not in self._stores:
                self._stores[timeout_s] = _connect(self.bucket, timeout_s)
            return self._stores[timeout_s]

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        from botocore.config import Config
        from botocore.session import Session

        bucket, keys = self.bucket, self.bucket.credentials
        # Given keys must win over whatever profile or file the environment names.
        nowhere = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        session = Session(session_vars=nowhere if keys else None)
        session.register_component("data_loader", _loader())
        return session.create_client(
            "s3",
            region_name=bucket.region or "us-east-1",
            endpoint_url=bucket.url,
            aws_access_key_id=keys.access_key if keys else None,
            aws_secret_access_key=keys.secret_key if keys else None,
            aws_session_token=keys.session_token if keys else None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if bucket.path_style else "auto"},
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=30,
                retries={"total_max_attempts": 1},
                max_pool_connections=32,
                ignore_configured_endpoint_urls=True,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    @cached_property
    def _http(self) -> Any:  # noqa: ANN401 - botocore is untyped
        from botocore.httpsession import URLLib3Session

        return URLLib3Session(timeout=(_CONNECT_TIMEOUT_S, _LIST_TIMEOUT_S))


@cache
def _loader() -> Any:  # noqa: ANN401 - botocore is untyped
    """Return what reads S3's model, half a second of JSON, once for all clients."""
    from botocore.loaders import create_loader

    return create_loader()


def _connect(bucket: Bucket, timeout_s: float) -> S3Store:
    from obstore.store import S3Store

    config: dict[str, Any] = {"virtual_hosted_style_request": not bucket.path_style}
    if bucket.region:
        config["region"] = bucket.region
    if bucket.url:
        scheme, _, host = bucket.url.rstrip("/").partition("://")
        config["endpoint"] = f"{scheme}://{'' if bucket.path_style else bucket.name + '.'}{host}"
        if bucket.path_style:
            config["endpoint"] = f"{scheme}://{host}"
    if keys := bucket.credentials:
        config["access_key_id"], config["secret_access_key"] = keys.access_key, keys.secret_key
        if keys.session_token:
            config["session_token"] = keys.session_token
    return S3Store(
        bucket.name,
        config=config,  # type: ignore[arg-type] # a TypedDict
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=min(_CONNECT_TIMEOUT_S, timeout_s)),
            "timeout": timedelta(seconds=timeout_s),
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)},
    )


def _insist(once: Callable[[], T]) -> T:
    """Call until it works, up to five times, when what went wrong may pass."""
    for attempt in range(_ATTEMPTS):
        try:
            return once()
        except ObjectError as error:
            if error.trouble not in PASSING or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(min(4.0, 0.25 * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError


def _is_plain(key: str) -> bool:
    """Tell whether obstore names this very key: no empty or dotted segment, nothing unprintable."""
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))


def _unquoted(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') if etag else None
