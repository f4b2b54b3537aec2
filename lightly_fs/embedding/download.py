"""Fetching weights: resumed when interrupted, checked, and given up within seconds when offline."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from lightly_fs.errors import ModelError

NO_WEIGHTS_HINT = "give a local file with weights=FILE, or model=bundled, which needs no download"
_CONTACT_S = 10.0
_SILENCE_S = 20.0
_ATTEMPTS_WITHOUT_PROGRESS = 3
_logger = logging.getLogger(__name__)
T = TypeVar("T")


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def download(url: str, directory: Path) -> Path:
    """Return the file behind `url`, fetched once.

    Args:
        url: `https://…`; a fragment `#sha256=HEX` is compared with the content.
        directory: Where it is kept; found there, it is not fetched again.

    Raises:
        ModelError: It cannot be fetched, is incomplete, or is not what `#sha256=` says.
    """
    address, fragment = urllib.parse.urldefrag(url)
    expected = _expected(url, fragment)
    basename = re.sub(r"[^\w.-]", "_", Path(urllib.parse.urlsplit(address).path).name)
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    target = directory / f"{key}-{basename}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with Path(f"{target}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs that start together fetch it once
            if not (target.is_file() and expected in (None, _sha256(target))):
                _fetch_all(address, target, expected)
    except OSError as error:
        raise ModelError(
            f"{address} cannot be kept in {directory}: {error}", hint="cache_dir=DIR"
        ) from error
    return target


def answers(url: str, *, timeout_s: float = _CONTACT_S) -> bool:
    """Return whether a server answers at all, whatever it says."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310
    try:
        within(timeout_s, lambda: urllib.request.urlopen(request, timeout=timeout_s)).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, HTTPException):
        return False
    return True


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


def _expected(url: str, fragment: str) -> str | None:
    if not fragment:
        return None
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise ModelError(f"`#{fragment}` of {url} is no checksum", hint="#sha256= and 64 digits")
    return found[1].lower()


def _fetch_all(address: str, target: Path, expected: str | None) -> None:
    part = Path(f"{target}.part")
    idle, size = 0, -1
    while True:
        try:
            _fetch_rest(address, part)
            break
        except (OSError, HTTPException) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code in range(400, 500)
            had, size = size, part.stat().st_size if part.exists() else 0
            idle = 0 if size > had >= 0 else idle + 1
            # Where nothing ever came, nobody listens: trying again only keeps a person waiting.
            if final or size == 0 or idle >= _ATTEMPTS_WITHOUT_PROGRESS:
                raise ModelError(
                    f"{address} cannot be fetched: {error}", hint=NO_WEIGHTS_HINT
                ) from error
            _logger.warning("%s: %s; going on at byte %d", address, error, size)
    found = _sha256(part)
    if expected not in (None, found):
        part.unlink()
        raise ModelError(
            f"{address} has the SHA-256 {found}, but {expected} was expected",
            hint="check the address and the checksum",
        )
    part.rename(target)


def _fetch_rest(address: str, part: Path) -> None:
    """Append to `part` what is missing; a file that changed on the server starts anew."""
    tag_file = Path(f"{part}.etag")
    have = part.stat().st_size if part.exists() else 0
    tag = tag_file.read_text() if have and tag_file.exists() else ""
    request = urllib.request.Request(address)  # noqa: S310 - http or https, see `is_url`
    if tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    response: HTTPResponse
    try:
        response = within(
            _CONTACT_S,
            lambda: urllib.request.urlopen(request, timeout=_SILENCE_S),  # noqa: S310
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is missing, or the part is longer than the file
            part.unlink(missing_ok=True)
            raise OSError("the server has less than was already fetched") from error
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        etag = response.headers.get("ETag", "")
        tag_file.write_text("" if etag.startswith("W/") else etag)
        with part.open("ab" if resumed else "wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
    total = None if length is None else int(length) + (have if resumed else 0)
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    tag_file.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
