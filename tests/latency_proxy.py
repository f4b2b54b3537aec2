"""A TCP proxy that makes a near server far, slow, busy or silent. A process of its own.

It knows nothing of HTTP but that a client's bytes after a silence begin a request, which it can
answer with a refusal of its own. Data is moved by `splice`, so that it costs next to nothing.

    python -m tests.latency_proxy --to 127.0.0.1:9000 --delay-ms 20

prints the port it listens on. Commands are read from stdin, one a line: `delay 50`, `stall`
(answers stop), `reset` (connections are reset, new ones too), `refuse 503 10` (one request in ten
is answered with 503), `limit N` (at most N requests at once get through, the rest are answered
with 503), `pass` (all faults end), `count` (prints requests and refusals).
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK = 1 << 20
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>"
_CODES = {503: "SlowDown", 500: "InternalError", 429: "TooManyRequests", 403: "AccessDenied",
          400: "ExpiredToken"}  # fmt: skip


@dataclass(eq=False)
class _End:
    """One side of a connection; what it sends is moved through `pipe` to `peer`."""

    socket: socket.socket
    is_client: bool
    peer: _End | None = None
    pipe: tuple[int, int] = (-1, -1)
    held: int = 0
    waiting: bool = False
    awaits_answer: bool = False
    ended: bool = False
    blocked: bool = False


@dataclass
class _Proxy:
    target: tuple[str, int]
    delay: float
    listener: socket.socket
    stalled: bool = False
    resetting: bool = False
    status: int = 0
    every: int = 0
    limit: int = 0
    requests: int = 0
    refused: int = 0
    active: int = 0
    ends: dict[int, _End] = field(default_factory=dict)
    timers: list[tuple[float, int, _End]] = field(default_factory=list)
    epoll: select.epoll = field(default_factory=select.epoll)

    def run(self) -> None:
        self.epoll.register(self.listener, select.EPOLLIN)
        self.epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            wait = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else -1
            for fd, events in self.epoll.poll(wait):
                if fd == self.listener.fileno():
                    self._accept()
                elif fd == sys.stdin.fileno():
                    if not self._command(sys.stdin.readline().split()):
                        return
                elif fd in self.ends:
                    self._ready(self.ends[fd], events)
            while self.timers and self.timers[0][0] <= time.monotonic():
                end = heapq.heappop(self.timers)[2]
                if end.socket.fileno() >= 0 and not self.stalled:
                    end.waiting = False
                    self._watch(end)
                elif self.stalled and end.socket.fileno() >= 0:
                    heapq.heappush(self.timers, (time.monotonic() + 0.05, id(end), end))

    def _command(self, words: list[str]) -> bool:
        if not words:
            return False
        name, numbers = words[0], [float(word) for word in words[1:]]
        if name == "delay":
            self.delay = numbers[0] / 1000
        elif name == "stall":
            self.stalled = True
        elif name == "reset":
            self.resetting = True
            for end in list(self.ends.values()):
                self._close(end, reset=True)
        elif name == "refuse":
            self.status, self.every = int(numbers[0]), int(numbers[1])
        elif name == "limit":
            self.limit = int(numbers[0])
        elif name == "pass":
            self.stalled = self.resetting = False
            self.status = self.every = self.limit = 0
        sys.stdout.write(f"{self.requests} {self.refused}\n")
        sys.stdout.flush()
        return True

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        if self.resetting:
            _reset(client)
            return
        server = socket.socket()
        try:
            server.connect(self.target)
        except OSError:
            _reset(client)
            return
        ends = _End(client, is_client=True), _End(server, is_client=False)
        for end, peer in (ends, ends[::-1]):
            end.peer = peer
            end.socket.setblocking(False)
            end.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            with contextlib.suppress(OSError):
                import fcntl

                fcntl.fcntl(end.pipe[1], fcntl.F_SETPIPE_SZ, _CHUNK)
            self.ends[end.socket.fileno()] = end
            self.epoll.register(end.socket, select.EPOLLIN)

    def _watch(self, end: _End) -> None:
        peer = end.peer
        reading = not (end.waiting or end.blocked or end.ended)
        writing = peer is not None and peer.blocked
        mask = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)
        self.epoll.modify(end.socket, mask)

    def _ready(self, end: _End, events: int) -> None:
        peer = end.peer
        if peer is None:
            return
        if events & select.EPOLLOUT and peer.blocked:
            self._drain(peer)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not end.waiting:
            self._read(end, peer)

    def _read(self, end: _End, peer: _End) -> None:
        if end.is_client and not peer.awaits_answer and self._request(end, peer):
            return
        if not end.is_client and end.awaits_answer:
            end.awaits_answer = False
            if end.held == 0 and (self.delay or self.stalled):
                self.active -= 1
                end.waiting = True
                self._watch(end)
                heapq.heappush(self.timers, (time.monotonic() + self.delay, id(end), end))
                return
            self.active -= 1
        try:
            n = os.splice(end.socket.fileno(), end.pipe[1], _CHUNK, flags=3)
        except BlockingIOError:
            return
        except OSError:
            self._close(end, reset=True)
            return
        if n == 0:
            end.ended = True
            if end.held == 0:
                self._close(end)
            return
        end.held += n
        self._drain(end)

    def _request(self, end: _End, server: _End) -> bool:
        """Count a request; True when the proxy answered it itself."""
        try:
            if not end.socket.recv(1, socket.MSG_PEEK):
                return False
        except OSError:
            return False
        self.requests += 1
        chosen = self.every and self.requests % self.every == 0
        status = self.status if chosen else 503 if self.limit and self.active >= self.limit else 0
        if status:
            self.refused += 1
            body = _ERROR.format(code=_CODES.get(status, "Refused")).encode()
            head = f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\n"
            with contextlib.suppress(OSError):
                end.socket.recv(_CHUNK)
                end.socket.send(f"{head}Connection: close\r\n\r\n".encode() + body)
                end.socket.shutdown(socket.SHUT_WR)
            self._close(end)
            return True
        self.active += 1
        server.awaits_answer = True
        return False

    def _drain(self, end: _End) -> None:
        peer = end.peer
        if peer is None:
            return
        try:
            while end.held:
                end.held -= os.splice(end.pipe[0], peer.socket.fileno(), end.held, flags=3)
        except BlockingIOError:
            pass
        except OSError:
            self._close(end, reset=True)
            return
        blocked = end.held > 0
        if blocked != end.blocked:
            end.blocked = blocked
            self._watch(end)
            self._watch(peer)
        if end.ended and not blocked:
            self._close(end)

    def _close(self, end: _End, *, reset: bool = False) -> None:
        for one in (end, end.peer):
            if one is None or one.socket.fileno() < 0:
                continue
            if one.awaits_answer:
                self.active -= 1
            self.ends.pop(one.socket.fileno(), None)
            self.epoll.unregister(one.socket)
            if reset:
                _reset(one.socket)
            one.socket.close()
            for fd in one.pipe:
                os.close(fd)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@dataclass
class LatencyProxy:
    """A running proxy; `url` takes the place of the server's."""

    url: str
    process: subprocess.Popen[str]

    def tell(self, command: str) -> tuple[int, int]:
        """Send a command; return how many requests came, and how many were refused."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        requests, refused = self.process.stdout.readline().split()
        return int(requests), int(refused)


@contextlib.contextmanager
def latency_proxy(url: str, *, delay_ms: float = 0) -> Iterator[LatencyProxy]:
    """Run a proxy in front of a server on this machine."""
    target = url.partition("//")[2].rstrip("/")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.latency_proxy", "--to", target, "--delay-ms", str(delay_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert process.stdout is not None
        yield LatencyProxy(f"http://127.0.0.1:{process.stdout.readline().strip()}", process)
    finally:
        process.terminate()
        process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--to", required=True, help="host:port of the server")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; default: any")
    parser.add_argument("--delay-ms", type=float, default=0, help="added to each response")
    given = parser.parse_args()
    host, _, port = given.to.rpartition(":")
    listener = socket.create_server(("127.0.0.1", given.port), backlog=512)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    _Proxy((host, int(port)), given.delay_ms / 1000, listener).run()


if __name__ == "__main__":
    main()
