"""Fetching weights: resumed when interrupted, checked, and given up within seconds when offline."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import logging
import netrc
import operator
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, TypeVar, cast

from lightly_fs.errors import ModelError

NO_WEIGHTS_HINT = "give a local file with weights=FILE, or model=bundled, which needs no download"
CONTACT_S = 10.0
"""A server that has not begun to answer after this many seconds counts as gone."""
_SILENCE_S = 20.0
_PAUSE_S = 0.2
_ATTEMPTS_WITHOUT_PROGRESS = 3
_OUR_SIDE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
_BUSY = (408, 425, 429)
_LONGEST_HEADER = 100_000_000
_logger = logging.getLogger(__name__)
T = TypeVar("T")


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def download(url: str, directory: Path) -> Path:
    """Return the file behind `url`, fetched once.

    A file is in its place only when all of it came, it begins and ends as weights do, and it has
    the checksum that was asked for. Proxies are those of `http_proxy`, `https_proxy` and
    `no_proxy`, logins those of `~/.netrc`.

    Args:
        url: `https://…`; a fragment `#sha256=HEX` is compared with the content.
        directory: Where it is kept: by its checksum where one is given, else by its address.
            Found there undamaged, it is not fetched again.

    Raises:
        ModelError: It cannot be fetched, is incomplete, is no weights file, or is not what
            `#sha256=` says; or there is a password in the address.
    """
    address, fragment = urllib.parse.urldefrag(url)
    _check(address)
    expected = _expected(_shown(address), fragment)
    basename = re.sub(r"[^\w.-]", "_", Path(urllib.parse.urlsplit(address).path).name)
    key = (expected or hashlib.sha256(address.encode()).hexdigest())[:16]
    target = directory / f"{key}-{basename}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with Path(f"{target}.lock").open("w") as lock:
            _wait_for(lock.fileno(), target)  # two runs that start together fetch it once
            if not _kept(target, expected):
                _logger.info("fetching the weights %s", _shown(address))
                _fetch_all(address, target, expected)
    except OSError as error:
        raise ModelError(
            f"{_shown(address)} cannot be kept in {directory}: {error}", hint="cache_dir=DIR"
        ) from error
    return target


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise TimeoutError; name resolution knows no deadline."""
    done: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = done.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return cast(T, result)


def _check(address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
        valid = bool(parts.hostname) and parts.port != 0 and address.isascii()
    except ValueError:
        valid = False
    if not valid:
        raise ModelError(f"`{address}` is no address", hint="weights=https://HOST/PATH")
    if "@" in parts.netloc:
        raise ModelError(
            f"there is a login in the address of {_shown(address)}, and a run records its keys",
            hint=f"put it into ~/.netrc: machine {parts.hostname} login USER password PASSWORD",
        )


def _expected(shown: str, fragment: str) -> str | None:
    if not fragment:
        return None
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise ModelError(f"`#{fragment}` of {shown} is no checksum", hint="#sha256= and 64 digits")
    return found[1].lower()


def _shown(address: str) -> str:
    """Return an address for messages: passwords and signatures do not belong into logs."""
    parts = urllib.parse.urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _wait_for(lock: int, target: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _logger.info("waiting for another process that fetches %s", target.name)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _kept(target: Path, expected: str | None) -> bool:
    """Return whether the file is there as it came, whoever wrote into the directory since."""
    try:
        return _sha256(target) == (expected or Path(f"{target}.sha256").read_text())
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _fetch_all(address: str, target: Path, expected: str | None) -> None:
    part = Path(f"{target}.part")
    idle, size = 0, -1
    while True:
        try:
            _fetch_rest(address, part)
            break
        except (OSError, HTTPException, ValueError) as error:
            if getattr(error, "errno", None) in _OUR_SIDE:
                raise
            answered = 0
            if isinstance(error, urllib.error.HTTPError):
                answered = error.code
                error.close()
            # The last: an answer, or an address in it, that is no HTTP.
            final = answered in range(300, 500) and answered not in _BUSY
            final = final or isinstance(error, ValueError)
            had, size = size, part.stat().st_size if part.exists() else 0
            idle = 0 if size > had >= 0 else idle + 1
            # Where nothing ever came, nobody listens: trying again only keeps a person waiting.
            if final or (size == 0 and not answered) or idle >= _ATTEMPTS_WITHOUT_PROGRESS:
                raise ModelError(
                    f"{_shown(address)} cannot be fetched: {error}", hint=NO_WEIGHTS_HINT
                ) from error
            _logger.warning("%s: %s; going on at byte %d", _shown(address), error, size)
            time.sleep(_PAUSE_S * 2**idle)
    found = _sha256(part)
    problem = None if expected in (None, found) else f"has the SHA-256 {found}, not {expected}"
    problem = _no_weights(part) or problem
    if problem:
        part.unlink()
        raise ModelError(
            f"{_shown(address)} {problem}",
            hint="check the address, its checksum, and whether it needs a login or a proxy",
        )
    Path(f"{target}.sha256").write_text(found)
    part.rename(target)


def _fetch_rest(address: str, part: Path) -> None:
    """Append to `part` what is missing; a file that changed on the server starts anew."""
    mark = Path(f"{part}.etag")
    have = part.stat().st_size if part.exists() else 0
    version = mark.read_text() if have and mark.exists() else ""
    response = _rest(address, have, version) if version else _open(address)
    with response:
        resumed = response.status == 206
        length = _length(response)
        mark.write_text(_version(response))
        with part.open("ab" if resumed else "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
    total = None if length is None else length + (have if resumed else 0)
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    mark.unlink()


def _length(response: HTTPResponse) -> int | None:
    told = response.headers.get("Content-Length")
    if told is not None and not re.fullmatch(r"[0-9]{1,18}", told.strip()):
        raise ValueError(f"it tells the length {told[:40]!r}, which is no number")
    return None if told is None else int(told)


def _rest(address: str, have: int, version: str) -> HTTPResponse:
    """Ask for a file from byte `have` on; for all of it where the server cannot go on there."""
    try:
        response = _open(address, have, version)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # nothing is missing, or the part is longer than the file
            raise
        return _open(address)
    # Not all servers look at `If-Range`.
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    begins = start is not None and int(start[1]) == have
    if response.status == 206 and not (begins and _version(response) in ("", version)):
        response.close()
        return _open(address)
    return response


def _open(address: str, start: int = 0, version: str = "") -> HTTPResponse:
    """Ask for a file from byte `start` on, or all of it when it is no longer that version."""
    request = urllib.request.Request(address)  # noqa: S310 - http or https, see `is_url`
    if login := _login(str(urllib.parse.urlsplit(address).hostname)):
        # Not sent on to where the server redirects to.
        token = base64.b64encode(login.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    if version:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", version)
    # An opener of its own: the one that urllib keeps never looks at the proxies again.
    opener = urllib.request.build_opener(_Redirects)
    return within(CONTACT_S, lambda: cast(HTTPResponse, opener.open(request, timeout=_SILENCE_S)))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web addresses alone: urllib would go on to `ftp://`, too."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_url(newurl.lower()):
            scheme = newurl.partition(":")[0]
            raise urllib.error.HTTPError(
                req.full_url, code, f"it redirects to a `{scheme}:` address", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
    ) -> Any:  # noqa: ANN401 - as urllib's
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # the address is none, and urllib leaves the connection open
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _login(host: str) -> str | None:
    try:
        found = netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{found[0]}:{found[2]}" if found else None


def _version(response: HTTPResponse) -> str:
    """Return what names this version of the file for `If-Range`; nothing when nothing does."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return "" if etag else response.headers.get("Last-Modified", "")


def _no_weights(path: Path) -> str | None:
    """Say why a file can hold no weights, or not all of them; None when it may."""
    with path.open("rb") as file:
        head = file.read(512)
        if head[:4] == b"PK\x03\x04":
            whole = zipfile.is_zipfile(path)
            return None if whole else "is cut off: the end of its zip archive is missing"
        if head[:1] == b"\x80":
            return None
        if head.lstrip()[:1] in (b"<", b"") or b"<html" in head.lower():
            return "is a web page instead of weights" if head.strip() else "is empty"
        size = int.from_bytes(head[:8], "little")
        if size > _LONGEST_HEADER or head[8:9] != b"{":
            return f"is no weights file: it begins with {head[:12]!r}"
        file.seek(8)
        try:
            entries = json.loads(file.read(size))
            ends = [e["data_offsets"][1] for n, e in entries.items() if n != "__metadata__"]
            wanted = 8 + size + max(map(operator.index, ends), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return "is no weights file: its safetensors header is damaged"
    found = path.stat().st_size
    return None if found == wanted else f"has {found} bytes instead of {wanted}: it is cut off"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
