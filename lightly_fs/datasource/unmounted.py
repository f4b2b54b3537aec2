"""A bucket or a directory as it is, to look something up: nothing is mounted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from lightly_fs.config.run import RunConfig, S3Config
from lightly_fs.datasource import mount, table
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.diagnose import find_bucket
from lightly_fs.datasource.endpoint import parse_uri
from lightly_fs.datasource.mount import MountRequest
from lightly_fs.datasource.output import Objects, Output
from lightly_fs.datasource.reader import Reader, open_reader
from lightly_fs.datasource.source import Source, open_source
from lightly_fs.errors import DatasourceError

_TIMEOUT_S = 10.0


@contextmanager
def open_images(
    uri: str, s3: S3Config, environ: Mapping[str, str]
) -> Iterator[tuple[Source, Reader]]:
    """Open an input with the way to its bytes; objects of `s3://…` are read directly.

    Args:
        uri: A directory, mounted or not, or `s3://bucket/prefix`.
        s3: How the bucket is reached.

    Raises:
        DatasourceError: The directory is not there.
        MountError: The bucket does not open, or the mount does not answer; see `reason`.
    """
    config = RunConfig(input_dir=uri, s3=s3)
    with ExitStack() as stack:
        if uri.startswith("s3://"):
            bucket = _find(uri, s3, environ)
            source = Source(bucket.uri, None, bucket)
        else:
            source = stack.enter_context(open_source(config, environ))
        reader = open_reader(source, config, environ)
        stack.callback(reader.close)
        yield source, reader


@contextmanager
def open_stored(
    uri: str, s3: S3Config, environ: Mapping[str, str]
) -> Iterator[Callable[[str], bytes | None]]:
    """Open what a run wrote; gives a function from a name below it to its bytes, None for no file.

    Args:
        uri: A directory, mounted or not, or `s3://bucket/prefix`.
        s3: How the bucket is reached.

    Raises:
        DatasourceError: The directory is not there.
        MountError: The bucket does not open; see `reason`.
    """
    if uri.startswith("s3://"):
        objects = Objects.of(_find(uri, s3, environ))
        if objects is not None:
            yield lambda name: objects.read(PurePosixPath(name))
        return
    root = Path(uri)
    if table.is_s3fs(root):
        mount.check(root, environ)  # a hung one would block at the first look
    if not root.is_dir():
        raise DatasourceError(f"`{root}` is no directory", hint="give the directory of a run")
    output = Output(root, table.bucket_of(root, environ), environ=environ)
    try:
        yield output.read
    finally:
        output.close()


def _find(uri: str, s3: S3Config, environ: Mapping[str, str]) -> Bucket:
    name, prefix = parse_uri(uri)
    request = MountRequest(
        bucket=name,
        prefix=prefix,
        directory=Path(),
        url=s3.url,
        region=s3.region,
        aws_profile=s3.aws_profile,
        passwd_file=Path(s3.passwd_file) if s3.passwd_file else None,
        iam_role=s3.iam_role,
    )
    return find_bucket(request.locate(environ), environ, timeout_s=_TIMEOUT_S).bucket
