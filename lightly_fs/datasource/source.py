"""The input of a run: a bucket, a directory, or both views of the same objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightly_fs.config.run import ReadThrough, RunConfig
from lightly_fs.datasource import mount, table
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.diagnose import find_bucket
from lightly_fs.datasource.endpoint import parse_uri
from lightly_fs.datasource.private import private_directory, sweep
from lightly_fs.errors import DatasourceError, MountError

logger = logging.getLogger(__name__)

_NO_MOUNT = ("fuse", "s3fs")
"""Why a bucket that opens cannot be mounted: no FUSE here, no s3fs, or keys that s3fs chokes on."""


@dataclass(frozen=True)
class Source:
    """Where samples come from.

    Attributes:
        uri: For people and reports: `s3://bucket/prefix` or a directory.
        root: Directory that shows the samples; None when nothing is mounted.
        bucket: Objects behind `root`, prefix included; None when unknown or no bucket.
        stripes: Further mounts of the same bucket and prefix, to read from in parallel.
        owned: The mounts were made for this run and end with it.
        mounted: `root` lies on an s3fs mount, not on a disk.
    """

    uri: str
    root: Path | None
    bucket: Bucket | None = None
    stripes: tuple[Path, ...] = ()
    owned: bool = False
    mounted: bool = False


@contextmanager
def open_source(config: RunConfig, environ: Mapping[str, str]) -> Iterator[Source]:
    """Open the input of a run; a bucket given as `s3://…` is mounted for as long as it is open.

    What runs that were killed left on this host, mounts and private directories, is removed.
    Where nothing can be mounted (no /dev/fuse, no s3fs, a key with a control character, which s3fs
    cannot list), objects are read directly unless the mount was asked for.

    Raises:
        DatasourceError: The directory is not there.
        MountError: The bucket cannot be mounted or the mount does not answer; see `reason`.
    """
    sweep(environ)
    if config.input_dir.startswith("s3://"):
        with _open_bucket(config, environ) as source:
            yield source
    else:
        yield _open_directory(config, environ)


@contextmanager
def _open_bucket(config: RunConfig, environ: Mapping[str, str]) -> Iterator[Source]:
    name, prefix = parse_uri(config.input_dir)
    place = config.s3
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory("input"))
        request = mount.MountRequest(
            bucket=name,
            prefix=prefix,
            directory=directory,
            url=place.url,
            region=place.region,
            aws_profile=place.aws_profile,
            passwd_file=Path(place.passwd_file) if place.passwd_file else None,
            iam_role=place.iam_role,
            stripes=place.stripes,
        )
        try:
            made = stack.enter_context(mount.mounted(request, environ))
        except MountError as error:
            if config.read_through is ReadThrough.MOUNT or error.reason not in _NO_MOUNT:
                raise
            logger.warning("nothing is mounted (%s): objects are read directly", error.message)
            found = find_bucket(request.locate(environ), environ, timeout_s=10).bucket
            yield Source(found.uri, None, found)
            return
        bucket = made.bucket
        yield Source(bucket.uri, made.directory, bucket, made.stripes, owned=True, mounted=True)


def _open_directory(config: RunConfig, environ: Mapping[str, str]) -> Source:
    root = Path(config.input_dir)
    mounted = table.is_s3fs(root)
    record = table.record_of(root, environ)
    if mounted or record is not None:
        _require_alive(root, environ, ours=record is not None)
        mounted = True
    if problem := _no_directory(root):
        given = "input_dir" in config.model_fields_set
        raise DatasourceError(
            f"input_dir `{root}` is no directory: {problem}"
            + ("" if given else "; it is the default, that of a container"),
            hint="Give a directory, or a bucket as `input_dir=s3://bucket/prefix`.",
        )
    if not mounted:
        return Source(str(root), root)
    bucket = _bucket_behind(root, config.read_through, environ)
    return Source(str(root), root, bucket, _stripes_of(root, environ), mounted=True)


def _no_directory(root: Path) -> str | None:
    try:
        os.scandir(root).close()
    except OSError as error:
        return error.strerror
    return None


def _bucket_behind(
    root: Path, read_through: ReadThrough, environ: Mapping[str, str]
) -> Bucket | None:
    """Return the bucket that a mount shows, if it is known and opens without the mount too."""
    bucket = table.bucket_of(root, environ)
    if bucket is None:
        logger.info("the bucket behind %s, or its keys, are not known: read through it", root)
        return None
    try:
        return find_bucket(bucket, environ).bucket
    except MountError as error:
        if read_through is ReadThrough.OBJECT:
            raise
        logger.info("%s does not open directly (%s): read through it", root, error.message)
        return None


def _require_alive(root: Path, environ: Mapping[str, str], *, ours: bool) -> None:
    """Look before touching: a dead mount fails and a hung one blocks at the first `stat`."""
    try:
        mount.check(root, environ)
    except MountError as error:
        if not ours:
            raise
        logger.warning("%s: mounting it again", error.message)
        mount.remount(root, environ)


def _stripes_of(root: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where the stripes of the mount that holds a directory show that directory."""
    found = table.record_of(root, environ)
    if found is None:
        return ()
    record, top = found
    path = root.absolute()
    if top != record.directory or not path.is_relative_to(top):
        return ()
    return tuple(stripe / path.relative_to(top) for stripe in record.stripes)
