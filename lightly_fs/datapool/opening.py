"""Open a datapool: to write, which one process at a time does, or to look into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lightly_fs.config.run import RunConfig, S3Config
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.store import Store
from lightly_fs.datasource.exclusion import LOCK_NAME
from lightly_fs.datasource.lock import Lease, locked
from lightly_fs.datasource.output import Output, open_output
from lightly_fs.datasource.private import private_directory
from lightly_fs.errors import DatasourceError, RunLockedError


@contextmanager
def open_pool(
    location: str,
    environ: Mapping[str, str],
    *,
    s3: S3Config | None = None,
    owner: str,
    create: bool = True,
) -> Iterator[Pool]:
    """Open the newest state of a datapool, and keep other writers out meanwhile.

    Args:
        location: A directory, mounted or not, or `s3://bucket/prefix`, which is mounted meanwhile.
        environ: Where credentials are found.
        s3: How a bucket is reached.
        owner: Who writes, for people: a run or a command.
        create: Begin a new one when there is none, as long as the folder above it is there.

    Raises:
        RunLockedError: Somebody else writes to it.
        MountError: The bucket cannot be mounted, or the mount there is dead.
        DatasourceError: There is none, or its folder cannot be created or written.
        ArtifactError: What lies there is of a newer version, or no state is whole.
    """
    with open_store(location, environ, s3=s3, owner=owner, create=create) as store:
        yield Pool(store, store.newest())


@contextmanager
def open_store(
    location: str,
    environ: Mapping[str, str],
    *,
    s3: S3Config | None = None,
    owner: str,
    create: bool = False,
) -> Iterator[Store]:
    """Open a datapool to write to it, whatever became of its states; see `open_pool`."""
    _check_folder(location, create=create)
    with (
        private_directory("datapool") as staging,
        open_output(_config(location, s3), environ, "datapool") as output,
        _locked(output, owner) as lease,
    ):
        store = Store(output, staging, lease.check)
        if not create and not store.taken():
            raise _nothing(location)
        yield store


@contextmanager
def read_pool(
    location: str, environ: Mapping[str, str], *, s3: S3Config | None = None
) -> Iterator[Pool]:
    """Open the newest state of a datapool to look into it; another process may write meanwhile.

    Raises:
        DatasourceError: There is no datapool.
        MountError: The bucket cannot be mounted, or the mount there is dead.
        ArtifactError: What lies there is of a newer version, or no state is whole.
    """
    _check_folder(location, create=False)
    with (
        private_directory("datapool") as staging,
        open_output(_config(location, s3), environ, "datapool") as output,
    ):
        store = Store(output, staging, lambda: None)
        if not store.taken():
            raise _nothing(location)
        yield Pool(store, store.newest())


@contextmanager
def _locked(output: Output, owner: str) -> Iterator[Lease]:
    with ExitStack() as stack:
        try:
            lease = stack.enter_context(locked(output, owner=owner))
        except RunLockedError as error:
            error.hint = (
                f"wait for it; if that process is gone, delete {output.uri.rstrip('/')}/{LOCK_NAME}"
            )
            raise
        yield lease


def _check_folder(location: str, *, create: bool) -> None:
    if location.startswith("s3://"):
        return
    if not create and not Path(location).is_dir():
        raise _nothing(location)
    above = Path(location).parent
    if not above.is_dir():
        raise DatasourceError(
            f"the datapool `{location}` cannot be created: there is no folder `{above}`",
            hint="create it, or mount it, first",
        )


def _nothing(location: str) -> DatasourceError:
    return DatasourceError(
        f"there is no datapool at `{location}`",
        hint="a run with `datapool.name` makes one, unless datasource.enable_datapool_update=False",
    )


def _config(location: str, s3: S3Config | None) -> RunConfig:
    return RunConfig(output_dir=location, s3=s3 or S3Config())
