"""A small S3 server in a thread that can be told to misbehave: for what real servers never do.

It lists (ListObjectsV2) and serves GET and HEAD with `If-Match` and `Range`. `fault` sees every
request and may answer it with a status and an S3 error code instead.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from lightly_fs.datasource.bucket import Bucket, Credentials

SHORT = "short"
Fault = Callable[[str, str], tuple[int, str] | float | str | None]
"""From method and key (`?` for a listing) to an answer, to seconds of silence first, to `SHORT`
(the body breaks off in the middle), or None."""


@dataclass
class S3Stub:
    objects: dict[str, bytes]
    url: str = ""
    fault: Fault = lambda method, key: None
    ignore_if_match: bool = False
    ignore_range: bool = False
    range_status: int = 206
    ranges: list[str] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)

    def bucket(self, prefix: str = "") -> Bucket:
        keys = Credentials("test", "test", source="the test")
        return Bucket("stub", prefix, self.url, "us-east-1", path_style=True, credentials=keys)

    def page(self, query: Mapping[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        size = int(query.get("max-keys", ["1000"])[0])
        keys = sorted(
            (key for key in self.objects if key.startswith(prefix) and key > after),
            key=str.encode,
        )
        rows = "".join(
            f"<Contents><Key>{escape(quote(key, safe='/'))}</Key>"
            "<LastModified>2026-11-20T14:03:22.000Z</LastModified>"
            f"<ETag>&quot;{etag(self.objects[key])}&quot;</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in keys[:size]
        )
        more = len(keys) > size
        token = (
            f"<NextContinuationToken>{escape(keys[:size][-1])}</NextContinuationToken>"
            if keys
            else ""
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token if more else ''}{rows}</ListBucketResult>"
        ).encode()


@lru_cache(16)
def etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: S3Stub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        key = unquote(asked.path).removeprefix("/stub").removeprefix("/")
        self.stub.requests[self.command] += 1
        fault = self.stub.fault(self.command, key or "?")
        if isinstance(fault, float):
            time.sleep(fault)
        elif isinstance(fault, tuple):
            self._error(*fault)
            return
        if not key:
            self._send(200, self.stub.page(parse_qs(asked.query)))
            return
        data = self.stub.objects.get(key)
        if data is None:
            self._error(404, "NoSuchKey")
            return
        wanted = self.headers.get("If-Match")
        if wanted and wanted.strip('"') != etag(data) and not self.stub.ignore_if_match:
            self._error(412, "PreconditionFailed")
            return
        self._send_object(data, short=fault == SHORT)

    do_HEAD = do_GET  # noqa: N815

    def _error(self, status: int, code: str) -> None:
        self._send(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())

    def _send_object(self, data: bytes, *, short: bool) -> None:
        asked, headers = self.headers.get("Range"), {"ETag": f'"{etag(data)}"'}
        status, body = 200, data
        if asked and not self.stub.ignore_range:
            self.stub.ranges.append(asked)
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), int(end or len(data) - 1)
            if first >= len(data):
                self._error(416, "InvalidRange")
                return
            status, body = self.stub.range_status, data[first : last + 1]
            whole = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
            headers["Content-Range"] = whole
        self._send(status, body, headers, short=short)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        short: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {"ETag": '"of-no-object"'}).items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Fri, 20 Nov 2026 14:03:22 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if short else body)
            self.close_connection = self.close_connection or short


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def s3_stub(objects: dict[str, bytes]) -> Iterator[S3Stub]:
    stub = S3Stub(objects)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": stub}))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
