"""How all s3fs mounts of this host are doing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightly_fs.datasource import table
from lightly_fs.datasource.mount import health


@dataclass(frozen=True)
class MountStatus:
    """One mount.

    Attributes:
        uri: `s3://bucket/prefix`; None when it cannot be known.
        health: `ok`, `dead`, `hung`, `failing`, or `not-mounted` when only our record is left.
        ours: We have a record of it: it can be mounted again.
        cache_bytes: Disk space that its cache takes; None without a cache.
        stripes: Number of stripes; `stripes_ok` of them answer.
    """

    directory: Path
    uri: str | None
    health: str
    ours: bool
    read_only: bool
    cache_bytes: int | None
    stripes: int
    stripes_ok: int

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "directory": str(self.directory)}


def survey(environ: Mapping[str, str], *, timeout_s: float = 3) -> list[MountStatus]:
    """Return every s3fs mount, stripes counted with the mount they belong to.

    Mounts are asked at the same time, each in a process of its own, so that one that hangs costs
    `timeout_s` and no more.
    """
    entries = {entry.directory: entry for entry in table.mount_entries() if entry.is_s3fs}
    records = {record.directory: record for record in table.records(environ)}
    stripes = {stripe for record in records.values() for stripe in record.stripes}
    asked = sorted({*entries, *records, *stripes})
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda one: health(one, environ, timeout_s=timeout_s), asked)
        states = dict(zip(asked, answers, strict=True))

    def status(directory: Path) -> MountStatus:
        record, entry = records.get(directory), entries.get(directory)
        mine = record.stripes if record else ()
        return MountStatus(
            directory=directory,
            uri=_uri(record, entry),
            health=states[directory],
            ours=record is not None,
            read_only=entry.read_only if entry else record is None or record.read_only,
            cache_bytes=_cache_bytes(record),
            stripes=len(mine),
            stripes_ok=sum(states[stripe] == "ok" for stripe in mine),
        )

    return [status(directory) for directory in asked if directory not in stripes]


def _uri(record: table.Record | None, entry: table.MountEntry | None) -> str | None:
    if record:
        return record.uri
    if entry and entry.source.startswith("s3://"):
        return entry.source
    return table.uri_of_process(entry.directory) if entry else None


def _cache_bytes(record: table.Record | None) -> int | None:
    cache = record.values.get("use_cache") if record else None
    if not cache:
        return None
    total = 0
    for folder, _folders, files in os.walk(cache):
        for name in files:
            try:
                # Blocks, not sizes: cache files are sparse.
                total += (Path(folder) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total
