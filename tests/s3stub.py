"""A small S3 server that misbehaves on purpose: what no real server can be asked to do.

`with S3Stub("redirect") as stub:` serves one of `ANSWERS` for every request at `stub.url`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Answer:
    status: int
    code: str
    body: str = ""
    region: str | None = None
    """The `x-amz-bucket-region` header."""


RIGHT_REGION = "eu-central-1"
ANSWERS = {
    "redirect": Answer(
        301,
        "PermanentRedirect",
        f"<Endpoint>bucket.s3.{RIGHT_REGION}.amazonaws.com</Endpoint>",
        RIGHT_REGION,
    ),
    "malformed": Answer(
        400,
        "AuthorizationHeaderMalformed",
        f"<Region>{RIGHT_REGION}</Region>",
        RIGHT_REGION,
    ),
    "forbidden": Answer(403, "AccessDenied"),
    "unknown-key": Answer(403, "InvalidAccessKeyId"),
    "expired": Answer(400, "ExpiredToken"),
    "skewed": Answer(403, "RequestTimeTooSkewed"),
    "unavailable": Answer(503, "SlowDown"),
}


class S3Stub:
    """One answer for every request; `hang` accepts connections and never answers."""

    def __init__(self, answer: str) -> None:
        self.requests: list[str] = []
        self._given = ANSWERS.get(answer)
        if self._given is None and answer not in ("hang", "web"):
            raise ValueError(f"no answer is named {answer!r}")
        self._answer = answer
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _reply(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{request.command} {request.path}")
        if self._answer == "hang":
            self._closing.wait(120)
            return
        if self._answer == "web":
            body = b"<html><body>It works!</body></html>"
            request.send_response(200)
            request.send_header("Content-Type", "text/html")
        else:
            assert self._given is not None
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{self._given.code}</Code><Message>as told</Message>"
                f"{self._given.body}</Error>"
            ).encode()
            request.send_response(self._given.status)
            request.send_header("Content-Type", "application/xml")
            if self._given.region:
                request.send_header("x-amz-bucket-region", self._given.region)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub._reply(self)

            do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                """Say nothing on stderr."""

        return Handler
