"""Verified writes below one directory, mounted or plain.

A file is written once: from a finished local file, with one create, checked afterwards. On a mount
nothing is ever appended, truncated, overwritten or renamed: s3fs uploads an empty object first when
it truncates, and renames by copy and delete. `docs/concepts/writing.md` tells the whole protocol.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource import table
from lightly_fs.datasource.anchor import Anchor
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.endpoint import parse_uri
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.obstacle import OBSTRUCTED, obstacle, reaching
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.trouble import PASSING, ObjectError, Trouble, broken
from lightly_fs.datasource.writable import writable
from lightly_fs.errors import ArtifactError, LightlyFSError, MountError

logger = logging.getLogger(__name__)

WRITERS = 4
"""Files handled at once; s3fs serialises most of it anyway."""
PAUSES_S = (0.5, 2.0)
"""Between the three tries of a write."""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.EBADF)
_HOPELESS = (errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)
_HOPELESS_PLAIN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class Written:
    """A file of the output: its name below the output, and what it holds.

    Attributes:
        md5: What a bucket reports as ETag of an object that was uploaded in one part, unencrypted.
    """

    name: str
    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class Objects:
    """The objects behind a mounted directory, asked directly."""

    store: ObjectStore
    bucket: Bucket

    @classmethod
    def of(cls, bucket: Bucket | None) -> Objects | None:
        return None if bucket is None else cls(ObjectStore(bucket), bucket)

    def key(self, path: PurePosixPath) -> str:
        return self.bucket.key("" if path == PurePosixPath() else str(path))

    def read(self, path: PurePosixPath) -> bytes | None:
        """Return an object's bytes, or None when there is none."""
        for attempt in range(len(PAUSES_S) + 1):
            try:
                return bytes(self.store.get(self.key(path)))
            except ObjectError as error:
                if error.trouble is Trouble.GONE:
                    return None
                if error.trouble not in PASSING or attempt == len(PAUSES_S):
                    raise broken(error, self.bucket) from error
            time.sleep(PAUSES_S[attempt])
        return None

    def listing(self, folder: PurePosixPath) -> dict[str, tuple[int, str | None]]:
        """Return size and ETag by name below the folder; directory markers are left out."""
        prefix = self.key(folder / "x")[:-1]
        found: dict[str, tuple[int, str | None]] = {}
        for batch in ObjectStore(replace(self.bucket, prefix=prefix)).list():
            for row in batch.to_pylist():
                name = str(row["key"]).removeprefix(prefix)
                if name and not name.endswith("/"):
                    found[name] = (row["size"], row["etag"])
        return found


class Output:
    """Writes and reads files below a directory.

    Attributes:
        anchor: The opened directory.
        folder: Which folder below it this output is.
        objects: The objects behind a mount when its bucket is known; asked after every write.
    """

    def __init__(
        self, root: Path, bucket: Bucket | None, *, environ: Mapping[str, str] | None = None
    ) -> None:
        """Open a directory.

        Args:
            root: An existing directory.
            bucket: What is mounted there, prefix included; None for a plain directory or unknown.
            environ: Where credentials are found when a dead mount is mounted again.
        """
        self.anchor = Anchor(root, environ or {})
        self.folder = PurePosixPath()
        self.objects = Objects.of(bucket if self.anchor.is_mount else None)

    @property
    def root(self) -> Path:
        return self.anchor.root / self.folder

    @property
    def is_mount(self) -> bool:
        return self.anchor.is_mount

    @property
    def uri(self) -> str:
        """Where results lie, as people name it."""
        if self.objects is None:
            return str(self.root)
        return f"s3://{self.objects.bucket.name}/{self.objects.key(self.folder)}"

    @property
    def location(self) -> Path | Bucket:
        """Where results lie, as precisely as it is known."""
        if self.objects is None:
            return self.root
        prefix = self.objects.key(self.folder / "x")[:-1]
        return replace(self.objects.bucket, prefix=prefix)

    def below(self, folder: str) -> Output:
        """Return the output of a folder below this one; nothing is created yet."""
        other = copy.copy(self)
        other.folder = self.folder / folder
        return other

    def close(self) -> None:
        self.anchor.close()

    def path(self, relative: str) -> PurePosixPath:
        """Return a name below this output as a path below the opened directory."""
        path = self.folder / relative
        if path.is_absolute() or ".." in path.parts:
            raise ArtifactError(f"`{relative}` is no name below {self.root}")
        return path

    def put(self, relative: str, local: Path) -> Written:
        """Write a file once, and make sure that it arrived.

        The same content there already: nothing to do. Other content: it is deleted first.

        Args:
            relative: Name below this output, with `/`.
            local: Finished file on a local disk.

        Raises:
            MountError: The mount is gone, or did not store the file (reason `vanished`, `write`).
            ArtifactError: The directory cannot hold the file (full disk, read-only, …).
        """
        written = describe(local, relative)
        for attempt, pause in enumerate((*PAUSES_S, 0.0), start=1):
            seen = self.anchor.fd
            try:
                self.anchor.call(lambda: self._deliver(written, local))
            except (OSError, LightlyFSError) as error:
                # The store of a mount may answer the next time; nothing else heals by itself.
                if isinstance(error, MountError) or not (
                    self.is_mount or isinstance(error, OSError)
                ):
                    raise
                problem = error
            else:
                return written
            if attempt > len(PAUSES_S) or self._is_hopeless(problem):
                break
            logger.warning("writing %s failed: %s; trying again", self.root / relative, problem)
            time.sleep(pause)
            if self.is_mount and getattr(problem, "errno", None) in _DEAD:
                self.anchor.remount(seen)
        if self.is_mount:  # a failed `close` may have stored the first part of the file
            with contextlib.suppress(OSError, LightlyFSError):
                self.delete(relative)
        raise self._failed(relative, problem) from problem

    def read(self, relative: str) -> bytes | None:
        """Return a file's content, or None when there is none; from the bucket where it is known.

        A mount may answer with an empty file when it was not allowed to read: verify what matters.
        """
        path = self.path(relative)
        if self.objects is None:
            with reaching(self.anchor.root, path):
                return self.anchor.call(lambda: self.anchor.read(path))
        return self.objects.read(path)

    def names(self, folder: str = "") -> list[str]:
        """Return the files below a folder, sorted, each relative to the folder."""
        path = self.path(folder)
        if self.objects is not None:
            return sorted(self.objects.listing(path))
        with reaching(self.anchor.root, path):
            return self.anchor.call(lambda: sorted(self.anchor.files(path)))

    def delete(self, relative: str) -> None:
        """Delete a file, and make sure that it is gone; no file is no error."""
        path = self.path(relative)
        with reaching(self.anchor.root, path):
            self.anchor.call(lambda: self._remove(path))

    def delete_folder(self, folder: str) -> None:
        """Delete the files directly in a folder, and the folder."""
        for name in self.names(folder):
            self.delete(f"{folder}/{name}")
        path = self.path(folder)
        with reaching(self.anchor.root, path):
            self.anchor.call(lambda: self.anchor.remove_folder(path))

    def first_broken(self, entries: Iterable[Written]) -> str | None:
        """Return the name of the first entry that is not there as it was written, or None."""
        expected = list(entries)
        listed = None if self.objects is None else self.objects.listing(self.folder)
        with ThreadPoolExecutor(WRITERS) as pool:
            whole = pool.map(lambda entry: self._is_whole(entry, listed), expected)
            broken = (entry.name for entry, good in zip(expected, whole, strict=True) if not good)
            name = next(broken, None)
            pool.shutdown(wait=False, cancel_futures=True)
        return name

    def _is_whole(self, entry: Written, listed: dict[str, tuple[int, str | None]] | None) -> bool:
        if listed is not None:
            size, etag = listed.get(entry.name, (-1, None))
            if size != entry.size or etag == entry.md5:
                return size == entry.size
        path = self.path(entry.name)
        with reaching(self.anchor.root, path):
            return self.anchor.call(lambda: self.anchor.sha256(path)) == entry.sha256

    def _deliver(self, written: Written, local: Path) -> None:
        path = self.path(written.name)
        self.anchor.verify()
        there = self._state(path, written)
        if there:
            return
        if there is False and self.is_mount:
            self._remove(path)
        self.anchor.make_parents(path)
        if self.is_mount:
            self.anchor.create(path, local)
        else:
            self.anchor.replace(path, local)
        if not self._state(path, written):
            raise OSError(errno.EIO, "what arrived is not what was written", str(path))

    def _state(self, path: PurePosixPath, written: Written) -> bool | None:
        """Return whether the file holds the expected content; None when there is no file.

        The ETag decides where it is the MD5. Elsewhere (several parts, encrypted by KMS, no bucket
        known) the file is read back.
        """
        if self.objects is not None:
            head = self.objects.store.head(self.objects.key(path))
            if head is None:
                return None
            size, etag = head.size, head.etag
        else:
            found = self.anchor.size(path)
            if found is None:
                return None
            size, etag = found, None
        if size != written.size or etag == written.md5:
            return size == written.size
        return self.anchor.sha256(path) == written.sha256

    def _remove(self, path: PurePosixPath) -> None:
        self.anchor.remove(path)
        if self.objects is not None:
            # A mount that remembers an absent file does not delete the object that came since.
            key = self.objects.key(path)
            if self.objects.store.head(key) is not None:
                self.objects.store.delete(key)

    def _is_hopeless(self, problem: Exception) -> bool:
        number = getattr(problem, "errno", None)
        return number in _HOPELESS or (not self.is_mount and number in _HOPELESS_PLAIN)

    def _failed(self, relative: str, problem: Exception) -> LightlyFSError:
        if isinstance(problem, OBSTRUCTED):
            return obstacle(self.anchor.root, self.path(relative), problem)
        what = problem.strerror if isinstance(problem, OSError) else str(problem)
        message = f"`{self.root / relative}` could not be written: {what}"
        if self.is_mount:
            return MountError(
                message,
                reason="write",
                hint="check the mount with `lightly-fs mounts`, its credentials (PutObject and "
                "DeleteObject) and the free space of its tmpdir; the same command resumes",
            )
        return ArtifactError(message, hint="free space or give access; the same command resumes")


def describe(local: Path, name: str) -> Written:
    """Return size and hashes of a local file."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with local.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
        return Written(name, os.fstat(file.fileno()).st_size, sha256.hexdigest(), md5.hexdigest())


@contextmanager
def open_output(
    config: RunConfig, environ: Mapping[str, str], name: str = "output_dir"
) -> Iterator[Output]:
    """Open the output of a run; `s3://bucket/prefix` is mounted for as long as it is open.

    A missing directory is created when its parent exists.

    Args:
        config: Its `output_dir`.
        environ: Where credentials are found.
        name: What errors call the directory.

    Raises:
        MountError: The bucket cannot be mounted, or the mount there is dead.
        DatasourceError: The directory cannot be created or written.
    """
    if not config.output_dir.startswith("s3://"):
        root = writable(Path(config.output_dir), environ, name)
        with _opened(root, table.bucket_of(root, environ), environ) as output:
            yield output
        return
    name, prefix = parse_uri(config.output_dir)
    s3 = config.s3
    with private_directory("output") as directory:
        request = MountRequest(
            bucket=name,
            prefix=prefix,
            directory=directory,
            profile="output",
            url=s3.url,
            region=s3.region,
            aws_profile=s3.aws_profile,
            passwd_file=Path(s3.passwd_file) if s3.passwd_file else None,
            iam_role=s3.iam_role,
        )
        with (
            mounted(request, environ) as made,
            _opened(made.directory, made.bucket, environ) as output,
        ):
            yield output


@contextmanager
def _opened(root: Path, bucket: Bucket | None, environ: Mapping[str, str]) -> Iterator[Output]:
    output = Output(root, bucket, environ=environ)
    try:
        yield output
    finally:
        output.close()
