import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from lightly_fs.embedding.download import download, is_url, within
from lightly_fs.errors import ModelError


def weights(seed: int = 0) -> bytes:
    return save({"w": torch.randn(1 << 18, generator=torch.Generator().manual_seed(seed))})


def header(text: bytes) -> bytes:
    """The beginning of a safetensors file."""
    return len(text).to_bytes(8, "little") + text


CONTENT = weights()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serves `content` with ranges, as the attributes of the server say.

    `cuts`: so many answers break off half-way. `headers`: what names the version of the file.
    `status`: answered instead. `ranged`: whether ranges are known, `strict`: and `If-Range`.
    `measured`: whether the length is told. `location`: redirected to instead. `length`: told
    instead.
    """

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_error(404)

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        server.paths.append(self.path)
        server.logins.append(self.headers.get("Authorization"))
        if server.status:
            self.send_error(server.status.pop())
            return
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        asked = self.headers.get("Range") if server.ranged else None
        if asked and (not server.strict or self.headers.get("If-Range") in server.headers.values()):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.measured:
            self.send_header("Content-Length", server.length or str(len(body)))
        else:
            self.send_header("Connection", "close")
        if start:
            end = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        for name, value in server.headers.items():
            self.send_header(name, value)
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
def server(monkeypatch, tmp_path) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("HOME", str(tmp_path))  # no logins
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.content, server.headers, server.cuts, server.status = CONTENT, {"ETag": '"1"'}, 0, []
    server.ranged = server.strict = server.measured = True
    server.ranges, server.paths, server.logins = [], [], []
    server.location = server.length = None
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
    server.content = weights(seed=1)
    assert download(f"{server.url}/w/model.pth", tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = 2
    path = download(f"{server.url}/model.pth#sha256={SHA256}", tmp_path)
    assert path.read_bytes() == CONTENT
    first = len(CONTENT) // 2
    second = first + (len(CONTENT) - first) // 2
    assert server.ranges == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server, tmp_path):
    server.cuts = 99
    with pytest.raises(ModelError, match="cannot be fetched"):
        download(f"{server.url}/model.pth", tmp_path)
    server.cuts, server.ranges = 0, []
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] not in (None, "bytes=0-")


def stopped_half_way(server, directory) -> str:
    server.cuts = 99
    with pytest.raises(ModelError):
        download(f"{server.url}/model.pth", directory)
    server.cuts, server.ranges = 0, []
    return f"{server.url}/model.pth"


@pytest.mark.parametrize("strict", [True, False], ids=["If-Range", "no If-Range"])
@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_file_that_changed_between_the_parts_starts_anew(server, tmp_path, header, strict):
    server.strict = strict
    server.headers = {header: '"1"' if header == "ETag" else "Sat, 21 Nov 2026 10:00:00 GMT"}
    url = stopped_half_way(server, tmp_path)
    server.content = weights(seed=1)
    server.headers = {header: '"2"' if header == "ETag" else "Sat, 21 Nov 2026 11:00:00 GMT"}
    assert download(url, tmp_path).read_bytes() == server.content
    assert server.ranges[0] is not None


def test_a_server_that_names_no_version_is_asked_for_all_of_it_again(server, tmp_path):
    server.headers = {}
    url = stopped_half_way(server, tmp_path)
    server.content = weights(seed=1)
    assert download(url, tmp_path).read_bytes() == server.content
    assert server.ranges == [None]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.ranged, server.cuts = False, 1
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_part_that_is_whole_already_is_fetched_anew(server, tmp_path):
    url = stopped_half_way(server, tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(CONTENT)
    assert download(url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-", None]


@pytest.mark.parametrize("length_told", [True, False])
@pytest.mark.parametrize("kind", ["safetensors", "zip"])
def test_a_part_of_a_file_is_never_used(server, tmp_path, kind, length_told):
    if kind == "zip":
        torch.save({"w": torch.randn(1 << 16)}, tmp_path / "w.pth")
        server.content = (tmp_path / "w.pth").read_bytes()
    server.measured, server.cuts, server.ranged = length_told, 99, False
    with pytest.raises(ModelError, match=r"cut off|cannot be fetched: the connection ended after"):
        download(f"{server.url}/model.pth", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*-model.pth"))


def test_a_length_that_is_not_told_is_no_obstacle(server, tmp_path):
    server.measured = False
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "is a web page instead of weights"),
        (b"\n <HTML>blocked by the proxy</HTML>", "is a web page instead of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is no weights file"),
        (b"\x10\0\0\0\0\0\0\0{]              ", "is no weights file: its safetensors header"),
        (b'\x10\0\0\0\0\0\0\0{"a": {"b": 1}}', "is no weights file: its safetensors header"),
        (
            header(b'{"a": {"data_offsets": [0, "x"]}}'),
            "is no weights file: its safetensors header",
        ),
        (
            header(b'{"a": {"data_offsets": [0, 1.5]}}'),
            "is no weights file: its safetensors header",
        ),
        (
            header(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
            "is no weights file: its safe",
        ),
        (b" ", "is empty"),
    ],
)
def test_what_is_sent_instead_of_weights_is_told_and_not_kept(server, tmp_path, content, problem):
    server.content = content
    with pytest.raises(ModelError, match=rf"/model\.pth {problem}") as caught:
        download(f"{server.url}/model.pth", tmp_path)
    assert "proxy" in caught.value.hint
    server.content = CONTENT
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (401, "Unauthorized")])
def test_a_refusal_is_told_at_once(server, tmp_path, status, reason):
    server.status = [status] * 9
    with pytest.raises(ModelError, match=f"{status}: {reason}"):
        download(f"{server.url}/model.pth", tmp_path)
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://[::1", "Invalid IPv6 URL"),
        ("file:///etc/passwd", "is not allowed"),
        ("ftp://127.0.0.1:9/x", "it redirects to a `ftp:` address"),
        ("/model.pth", "infinite loop"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_told_at_once(server, tmp_path, location, reason):
    server.location = location
    with pytest.raises(ModelError, match=rf"/model\.pth cannot be fetched: .*{reason}") as caught:
        download(f"{server.url}/model.pth", tmp_path)
    assert "weights=FILE" in caught.value.hint
    assert len(server.ranges) <= (1 if "://" in location else 6)


@pytest.mark.parametrize("length", ["abc", "-5", "1e3", "9" * 5000])
def test_a_length_that_is_no_number_is_told_at_once(server, tmp_path, length):
    server.length = length
    with pytest.raises(
        ModelError, match=r"/model\.pth cannot be fetched: it tells the length"
    ) as e:
        download(f"{server.url}/model.pth", tmp_path)
    assert "weights=FILE" in e.value.hint
    assert len(server.ranges) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = [503, 429]
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT


def test_what_a_checksum_names_is_found_from_any_address(server, tmp_path):
    first = download(f"{server.url}/model.pth#sha256={SHA256}", tmp_path)
    second = download(f"{server.url}/mirror/model.pth#sha256={SHA256.upper()}", tmp_path)
    assert first == second
    assert len(server.ranges) == 1


def test_a_kept_file_that_was_damaged_is_fetched_again_without_a_checksum_too(server, tmp_path):
    download(f"{server.url}/model.pth", tmp_path).write_bytes(CONTENT[:1000])
    assert download(f"{server.url}/model.pth", tmp_path).read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    path = download("http://weights.example:8080/model.pth", tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.paths == ["http://weights.example:8080/model.pth"]


def test_a_login_comes_from_netrc(server, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    download(f"{server.url}/model.pth", tmp_path)
    assert server.logins == ["Basic bWU6c2VjcmV0"]


def test_a_login_in_the_address_is_refused_without_repeating_it(tmp_path):
    with pytest.raises(ModelError, match="login in the address") as caught:
        download("https://me:secret@example.com/model.pth", tmp_path)
    assert "secret" not in caught.value.message + caught.value.hint
    assert "machine example.com" in caught.value.hint


def test_signatures_in_an_address_are_not_repeated(server, tmp_path):
    server.status = [403]
    with pytest.raises(ModelError) as caught:
        download(f"{server.url}/model.pth?X-Signature=secret", tmp_path)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["https://", "http://[::1/x", "http://h:x/y", "http://exämple/x"])
def test_what_is_no_address_is_refused(tmp_path, url):
    with pytest.raises(ModelError, match="is no address"):
        download(url, tmp_path)


def test_processes_that_start_together_fetch_it_once(server, tmp_path):
    server.headers = {}  # a second request would start from the first byte, and be seen
    program = (
        "import sys; from pathlib import Path; from lightly_fs.embedding.download import download;"
        "print(download(sys.argv[1], Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, f"{server.url}/model.pth", str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=120)[0].strip() for process in running}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_full_disk_is_not_the_servers_fault(server, tmp_path):
    program = (
        "import resource, signal, sys; from pathlib import Path;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from lightly_fs.embedding.download import download;"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, f"{server.url}/model.pth", str(tmp_path / "cache")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "cannot be kept in" in ended.stderr


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
    server.status = [404]
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
