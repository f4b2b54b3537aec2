"""A directory that results are written to: it is there, and it takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lightly_fs.datasource import table
from lightly_fs.datasource.mount import check, remount
from lightly_fs.errors import DatasourceError, MountError


def writable(root: Path, environ: Mapping[str, str], name: str) -> Path:
    """Return the directory when it can be written; create it when it is missing.

    Args:
        root: A directory; the one above it exists. A dead mount is mounted again.
        environ: Where credentials are found.
        name: What errors call it.

    Raises:
        MountError: It was a mount, and nothing is mounted there now (reason `vanished`).
        DatasourceError: It cannot be created or written.
    """
    if table.is_s3fs(root):
        try:
            check(root, environ)
        except MountError:
            remount(root, environ)
    elif table.record_of(root, environ):
        raise MountError(
            f"{name} `{root}` was a mount, and nothing is mounted there now",
            reason="vanished",
            hint=f"lightly-fs mount BUCKET {root} --profile output",
        )
    try:
        root.mkdir(exist_ok=True)
    except OSError as error:
        raise DatasourceError(
            f"{name} `{root}` cannot be created: {error.strerror}",
            hint="create the folder above it, or give another one",
        ) from error
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise DatasourceError(
            f"{name} `{root}` is read-only",
            hint=f"mount it for writing: lightly-fs mount BUCKET {root} --profile output",
        )
    if not os.access(root, os.W_OK | os.X_OK):
        raise DatasourceError(
            f"{name} `{root}` may not be written by uid {os.getuid()}",
            hint="change its owner, or mount it with `--profile output` and uid= and gid=",
        )
    return root
