"""The one way to a sample's bytes, whatever lies behind it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lightly_fs.config.run import ReadThrough, RunConfig
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Sample

if TYPE_CHECKING:
    from lightly_fs.datasource.cache import ObjectCache
    from lightly_fs.datasource.ranged import RangedFile

logger = logging.getLogger(__name__)

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ReaderStatistics:
    """What reading cost so far.

    Attributes:
        requests: Requests sent to the object store, by kind (`GET`, `HEAD`, `LIST`).
        bytes_read: Bytes handed out.
        retries: Requests or reads that were repeated after an error.
        hedged: Slow requests that a second one overtook or backed up.
        cache_hits: Samples that the object cache answered.
        remounts: Mounts that died and were mounted again.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    retries: int = 0
    hedged: int = 0
    cache_hits: int = 0
    remounts: int = 0


class Reader(Protocol):
    """Gives a sample's bytes, as listed, or a `Failure`; raises when the system is broken."""

    kind: str
    """`object`, `mount` or `directory`."""

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        """Yield the samples' bytes in their order, reading ahead; may be closed early."""
        ...

    def read(self, sample: Sample) -> Buffer | Failure: ...

    def open(self, sample: Sample) -> RangedFile:
        """Return a sample's bytes as a file of which only what is looked at is read."""
        ...

    def statistics(self) -> ReaderStatistics: ...

    def close(self) -> None: ...


def open_reader(
    source: Source, config: RunConfig, environ: Mapping[str, str], *, quiet: bool = False
) -> Reader:
    """Choose and open the reader of a run; says which, and why.

    Args:
        source: What is read.
        config: Of the run: the way to read, and the cache.
        environ: Where records, credentials and the cache are.
        quiet: Say nothing, because the run's own reader will.

    Raises:
        DatasourceError: `read_through` asks for what this source does not have.
        MountError: The bucket was asked for, but does not open.
    """
    kind, reason = choose_reader(source, config.read_through)
    if not quiet:
        logger.info("reading through: %s (%s)", kind, reason)
    if kind == "object":
        from lightly_fs.datasource.object_reader import ObjectReader
        from lightly_fs.datasource.objects import ObjectStore

        return ObjectReader(ObjectStore(_known(source)), cache=_open_cache(config, environ))
    if kind == "mount":
        from lightly_fs.datasource.mount_reader import MountReader

        return MountReader(source, environ, cache=_open_cache(config, environ))
    from lightly_fs.datasource.directory_reader import DirectoryReader

    return DirectoryReader(source.root or Path())


def choose_reader(source: Source, asked: ReadThrough) -> tuple[str, str]:
    """Return the kind of reader for a source, and the reason for people."""
    if asked is ReadThrough.OBJECT:
        _known(source)
        return "object", "read_through=object"
    if asked is ReadThrough.MOUNT or source.bucket is None:
        if source.root is None:
            raise DatasourceError(
                f"read_through=mount needs a mount of {source.uri}, and there is none",
                hint="Install s3fs and give the process /dev/fuse, or use `read_through=object`.",
            )
        asked_for = asked is ReadThrough.MOUNT
        if source.mounted:
            return "mount", "read_through=mount" if asked_for else "its bucket is not known"
        return "directory", f"{source.uri} is no mount"
    if source.root is None:
        return "object", "nothing is mounted"
    return "object", f"{source.uri} shows {source.bucket.uri}, which opens directly"


def _known(source: Source) -> Bucket:
    if source.bucket is None:
        raise DatasourceError(
            f"read_through=object, but the bucket behind {source.uri} is not known",
            hint="Set LIGHTLY_FS_INPUT_URI=s3://bucket/prefix, or use `read_through=auto`.",
        )
    return source.bucket


def _open_cache(config: RunConfig, environ: Mapping[str, str]) -> ObjectCache | None:
    if config.cache_size <= 0:
        return None
    from lightly_fs.datasource.cache import ObjectCache

    home = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/tmp")) / ".cache")  # noqa: S108
    directory = Path(config.cache_dir) if config.cache_dir else home / "lightly-fs"
    try:
        return ObjectCache(directory / "objects", config.cache_size)
    except OSError as error:
        raise DatasourceError(
            f"the object cache cannot be kept in `{directory}`: {error.strerror}",
            hint="Give a directory that can be written as cache_dir, or leave cache_size out.",
        ) from error
