import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightly_fs.embedding.download import answers, download, is_url, within
from lightly_fs.errors import ModelError

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `/cut…` breaks the first connections off half-way."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_error(404)

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if self.path == "/missing":
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.cuts > 0:
            server.cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.content, server.etag, server.cuts, server.ranges = CONTENT, '"1"', 0, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetches_once_and_keeps_the_file(server, tmp_path):
    path = download(f"{server.url}/w/model.pth", tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("-model.pth")
    server.content = b"other"
    assert download(f"{server.url}/w/model.pth", tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = 2
    path = download(f"{server.url}/model.pth#sha256={SHA256}", tmp_path)
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server, tmp_path):
    server.cuts = 99
    with pytest.raises(ModelError, match="cannot be fetched"):
        download(f"{server.url}/model.pth", tmp_path)
    server.cuts, server.ranges = 0, []
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] not in (None, "bytes=0-")


def test_a_file_that_changed_meanwhile_starts_anew(server, tmp_path):
    server.cuts = 99
    with pytest.raises(ModelError):
        download(f"{server.url}/model.pth", tmp_path)
    server.cuts, server.etag, server.content = 0, '"2"', CONTENT[::-1]
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT[::-1]


def test_another_content_than_the_checksum_says_is_refused_and_not_kept(server, tmp_path):
    url = f"{server.url}/model.pth#sha256={'0' * 64}"
    with pytest.raises(ModelError, match=f"has the SHA-256 {SHA256}"):
        download(url, tmp_path)
    assert not list(tmp_path.glob("*model.pth"))


def test_a_kept_file_that_was_damaged_is_fetched_again_when_a_checksum_is_given(server, tmp_path):
    url = f"{server.url}/model.pth#sha256={SHA256}"
    download(url, tmp_path).write_bytes(b"damaged")
    assert download(url, tmp_path).read_bytes() == CONTENT


def test_a_checksum_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"`#md5=0` of .* is no checksum"):
        download("https://example.com/model.pth#md5=0", tmp_path)


def test_a_missing_file_names_the_ways_out(server, tmp_path):
    with pytest.raises(ModelError, match=r"/missing cannot be fetched.*404") as caught:
        download(f"{server.url}/missing", tmp_path)
    assert "weights=" in caught.value.hint
    assert "model=bundled" in caught.value.hint
    assert len(server.ranges) == 1


def test_without_a_server_it_gives_up_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(ModelError, match="cannot be fetched"):
        download("http://127.0.0.1:9/model.pth", tmp_path)
    assert time.monotonic() - started < 5


def test_a_directory_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be kept in") as caught:
        download(f"{server.url}/model.pth", tmp_path / "file")
    assert caught.value.hint == "cache_dir=DIR"


def test_a_server_answers_even_when_it_says_no(server):
    assert answers(server.url)
    assert not answers("http://127.0.0.1:9")


def test_a_server_that_accepts_and_keeps_silent_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)


def test_within_gives_up_on_a_call_that_hangs_and_passes_errors_on():
    hanging = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, hanging.wait)
    hanging.set()
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_tells_addresses_from_paths():
    assert is_url("https://example.com/x.pth")
    assert not is_url("/weights/https.pth")
