"""Where names come from: pages of ListObjectsV2, or a walk through a directory."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.errors import DatasourceError

logger = logging.getLogger(__name__)

LISTING = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
"""One row per object or file, whatever the source."""

_TOKEN = re.compile(rb"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_LOOKS_ESCAPED = re.compile(rb"\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_WALK_BATCH = 10_000
_NOWHERE = (errno.ENOENT, errno.ELOOP)
"""A dangling link, a link to itself, or a file that was deleted just now."""


def next_token(page: bytes) -> str | None:
    """Return what asks for the page behind a ListObjectsV2 answer, None when it is the last."""
    if b"<IsTruncated>true</IsTruncated>" not in page:
        return None
    found = _TOKEN.search(page)
    if found is None:
        raise DatasourceError("the store lists only a part of its objects and gives no token")
    return unescape(found[1].decode(), {"&quot;": '"', "&apos;": "'", "&#34;": '"', "&#39;": "'"})


def parse_page(body: bytes) -> pa.RecordBatch:
    """Read one ListObjectsV2 answer that was asked for with `encoding-type=url`.

    Returns:
        The objects, see `LISTING`.

    Raises:
        DatasourceError: It is no such answer.
    """
    try:
        return _parse(body)
    except (ElementTree.ParseError, ValueError, pa.ArrowException) as error:
        raise DatasourceError(f"the store's listing cannot be read: {error}") from error


def _parse(body: bytes) -> pa.RecordBatch:
    root = ElementTree.fromstring(body)  # noqa: S314 - expat expands no external entities
    namespace = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    contents = root.findall(f"{namespace}Contents")
    encoded = root.findtext(f"{namespace}EncodingType") == "url"
    names = [node.findtext(f"{namespace}Key") or "" for node in contents]
    keys = [unquote(name.replace("+", " ")) for name in names] if encoded else names
    modified = pa.array([node.findtext(f"{namespace}LastModified") for node in contents])
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys, pa.string()),
            pa.array(
                [int(node.findtext(f"{namespace}Size") or 0) for node in contents], pa.int64()
            ),
            pa.array(
                [(node.findtext(f"{namespace}ETag") or "").strip('"') or None for node in contents],
                pa.string(),
            ),
            _nanoseconds(modified),
        ],
        schema=LISTING,
    )


def _nanoseconds(stamps: pa.Array) -> pa.Array:
    """Return `2026-11-20T14:03:22.000Z` as nanoseconds since 1970."""
    if len(stamps) == 0:
        return pa.array([], pa.int64())
    return pc.cast(stamps, pa.timestamp("ns", tz="UTC")).cast(pa.int64())


def walk(root: Path, *, skip: Callable[[str], bool]) -> Iterator[pa.RecordBatch]:
    """List the files below a directory, links to files and directories included.

    What is no file at all (a FIFO, a socket, a device, a link to nowhere) holds no image and may
    never end: it is left out.

    Args:
        root: The directory.
        skip: Told a folder's path below the root ("a/b/"); True leaves it out unvisited.

    Raises:
        DatasourceError: A folder cannot be listed; a listing with holes would lose samples.
    """
    rows = _Rows([], [], [])
    pending: list[_Folder] = [(b"", frozenset())]
    while pending:
        for _ in _scan(root, pending.pop(), rows, pending, skip):
            yield _walked(rows)
            rows.clear()
    if rows.names:
        yield _walked(rows)


class _Rows(NamedTuple):
    """Files that were found: in lists, since a tuple for each takes a quarter longer."""

    names: list[bytes]
    sizes: list[int]
    times: list[int]

    def clear(self) -> None:
        for values in self:
            values.clear()


_Folder = tuple[bytes, frozenset[tuple[int, int]]]
"""A path below the root, and which folders it lies in."""


def _scan(
    root: Path,
    folder: _Folder,
    rows: _Rows,
    pending: list[_Folder],
    skip: Callable[[str], bool],
) -> Iterator[None]:
    """Add the files in a folder to the rows, and the folders in it to the pending ones.

    A link that leads back up is not followed. Yields when the rows are many.
    """
    prefix, above = folder
    path = os.fsencode(root) + b"/" + prefix
    names, sizes, times = rows
    try:
        # Of entries of an open folder, its own path is not looked up a million times.
        with _opened(path) as directory, os.scandir(directory) as entries:
            inode = os.fstat(directory)
            here = (inode.st_dev, inode.st_ino)
            if here in above:
                shown = printable(prefix)
                logger.warning("%s leads back to a folder above it: not followed", shown)
                return
            for entry in entries:
                name = prefix + os.fsencode(entry.name)
                if not entry.is_dir(follow_symlinks=False):
                    found = _stat(entry, root, name)
                    if found is None:
                        continue
                    if stat.S_ISREG(found.st_mode):
                        names.append(name)
                        sizes.append(found.st_size)
                        times.append(found.st_mtime_ns)
                        if len(names) == _WALK_BATCH:
                            yield
                        continue
                    if not stat.S_ISDIR(found.st_mode):
                        logger.warning("%s is no regular file: left out", printable(name))
                        continue
                if not skip(printable(name + b"/")):
                    pending.append((name + b"/", above | {here}))
    except OSError as error:
        raise _unlistable(Path(os.fsdecode(path)), error) from error


@contextmanager
def _opened(directory: bytes) -> Iterator[int]:
    opened = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def _stat(entry: os.DirEntry[str], root: Path, name: bytes) -> os.stat_result | None:
    """Return the facts of what an entry leads to, None where that is nothing."""
    try:
        return entry.stat()
    except OSError as error:
        shown = printable(name)
        if error.errno not in _NOWHERE:
            raise _unlistable(root / shown, error) from error
        logger.debug("%s disappeared while it was listed, or leads nowhere", shown)
        return None


def _unlistable(path: Path, error: OSError) -> DatasourceError:
    return DatasourceError(
        f"{path} cannot be listed: {error.strerror}",
        hint="Check its permissions; for a mount: `lightly-fs mounts`.",
    )


def _walked(rows: _Rows) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            printable_names(rows.names),
            pa.array(rows.sizes, pa.int64()),
            pa.nulls(len(rows.names), pa.string()),
            pa.array(rows.times, pa.int64()),
        ],
        schema=LISTING,
    )


def printable_names(names: Sequence[bytes]) -> pa.Array:
    """Return what `printable` makes of each, at once where they are texts as they stand."""
    raw = pa.array(names, pa.binary())
    if not pc.any(pc.match_substring(raw, "\\x")).as_py():
        try:
            return raw.cast(pa.string())
        except pa.ArrowInvalid:
            logger.debug("a name is no UTF-8")
    return pa.array(map(printable, names), pa.string())


def printable(name: bytes) -> str:
    r"""Return a file's name as text, of which `local_path` makes the name again.

    Bytes that are no UTF-8 become `\xe9`. So that no two names share a text, the backslash of a
    name that holds these very characters becomes `\x5c`; every other name stays as it is.
    """
    return _LOOKS_ESCAPED.sub(rb"\\x5c", name).decode(errors="backslashreplace")


def local_path(root: Path, filename: str, *, walked: bool) -> bytes:
    """Return where a filename lies below a directory.

    Args:
        root: The directory.
        filename: As it was listed.
        walked: By `walk`, which makes names `printable`; else it is an object's key.
    """
    name = filename.encode()
    if walked:
        name = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), name)
    return os.fsencode(root) + b"/" + name
