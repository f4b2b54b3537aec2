"""A real S3 server (moto) in this process, which counts what it sends of every object."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import S3Server

StartResponse = Callable[..., Any]


@dataclass
class Sent:
    """What was sent of one object: GET requests and the bytes of their bodies."""

    requests: int = 0
    bytes: int = 0


@dataclass
class CountingS3:
    """A running server; `sent` is by bucket and key, `bucket/folder/name`."""

    server: S3Server
    sent: defaultdict[str, Sent] = field(default_factory=lambda: defaultdict(Sent))

    def application(self, moto: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return a WSGI application that counts and lets moto answer."""
        lock = threading.Lock()

        def counting(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
            def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                if environ["REQUEST_METHOD"] == "GET" and status[0] == "2":
                    length = next((v for n, v in headers if n.lower() == "content-length"), "0")
                    with lock:
                        sent = self.sent[environ["PATH_INFO"].lstrip("/")]
                        sent.requests += 1
                        sent.bytes += int(length)
                return start(status, headers, *rest)

            return moto(environ, started)

        return counting


@contextmanager
def counting_s3() -> Iterator[CountingS3]:
    """Serve an empty S3 on loopback."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            """Keep the output to what was measured."""

    served = CountingS3(S3Server(""))
    application = served.application(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    served.server = S3Server(f"http://127.0.0.1:{server.port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
