"""Read through FUSE: striped over mounts, every read with a deadline, dead mounts mounted again."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lightly_fs.datasource.cache import ObjectCache
from lightly_fs.datasource.lanes import Lane, within
from lightly_fs.datasource.listing import local_path
from lightly_fs.datasource.mounted_file import (
    ChangedError,
    MountedFile,
    ShortError,
    read_beginning,
    read_whole,
)
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.pacing import backoff_s
from lightly_fs.datasource.ranged import BLOCK_BYTES, RangedFile
from lightly_fs.datasource.read_ahead import in_order, spread
from lightly_fs.datasource.reader import Buffer, ReaderStatistics
from lightly_fs.datasource.source import Source
from lightly_fs.datasource.vitals import Vitals
from lightly_fs.errors import DatasourceError, LightlyFSError, MountError
from lightly_fs.types import CHANGED, Failure, Outcome, Sample

logger = logging.getLogger(__name__)

_THREADS = 8
"""Per mount; s3fs serves one or two files at once, more threads only hide its round trips."""
_DEADLINE_S = 30.0
_SLOWEST_BYTES_PER_S = 256 << 10
_ATTEMPTS = 3
_STALE_S = 1.2
"""The kernel's attribute cache, 1 s, after which a changed or refused file shows as it is."""
_OUTAGE_S = 60.0
_DEAD = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE, errno.ENXIO})
_NO_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EISDIR})


class MountReader:
    """Reads files of an s3fs mount, or of several mounts of the same bucket in turn."""

    kind = "mount"

    def __init__(
        self,
        source: Source,
        environ: Mapping[str, str],
        *,
        cache: ObjectCache | None = None,
        deadline_s: float = _DEADLINE_S,
        outage_s: float = _OUTAGE_S,
    ) -> None:
        """Prepare.

        Args:
            source: Its stripes, else its root, are read.
            environ: For mounting again: where records and credentials are.
            cache: Asked first and given what was read.
            deadline_s: For one small read; larger ones get a second more per 256 KiB.
            outage_s: Nothing at all readable for this long stops the run.
        """
        if source.root is None:
            raise DatasourceError(f"{source.uri} is not mounted")
        self._cache, self._deadline_s, self._outage_s = cache, deadline_s, outage_s
        self._lanes = [Lane(path, environ) for path in source.stripes or (source.root,)]
        self._pools = [ThreadPoolExecutor(_THREADS, "mount") for _ in self._lanes]
        self._turn = itertools.count()
        self._store = ObjectStore(source.bucket) if source.bucket is not None else None
        self._vitals = Vitals(self._probe)
        self._lock = threading.Lock()
        self._bytes = self._retries = 0
        self._store_answers = True
        self._broken: LightlyFSError | None = None
        self._closed: Future[None] = Future()

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        self._vitals.expect(spread(samples))
        return in_order(samples, self._start)

    def read(self, sample: Sample) -> Buffer | Failure:
        return self._start(sample).result()

    def open(self, sample: Sample) -> RangedFile:
        self._vitals.expect_also(sample)
        # One mount for all of a file: s3fs reads ahead in it.
        number = next(self._turn) % len(self._lanes)
        lane, pool = self._lanes[number], self._pools[number]
        file = MountedFile(self._path(sample, lane.directory), sample)

        def fetch(first: int, length: int) -> Future[Buffer | Failure]:
            return pool.submit(self._read_part, lane, sample, file, (first, length))

        return RangedFile(sample, fetch, release=file.close_soon)

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(
            requests=dict(self._store.requests) if self._store else {},
            bytes_read=self._bytes,
            retries=self._retries,
            cache_hits=self._cache.hits if self._cache else 0,
            remounts=sum(lane.remounts for lane in self._lanes),
        )

    def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        for pool in self._pools:
            pool.shutdown(wait=True)

    def _start(self, sample: Sample) -> Future[Buffer | Failure]:
        number = next(self._turn) % len(self._lanes)
        return self._pools[number].submit(self._read, sample, self._lanes[number])

    def _read(self, sample: Sample, lane: Lane) -> Buffer | Failure:
        cached = self._cache.get(sample) if self._cache else None
        if cached is not None:
            return cached
        path = self._path(sample, lane.directory)
        result = self._insist(sample, lane, sample.size, lambda: read_whole(path, sample))
        if self._cache and not isinstance(result, Failure):
            self._cache.put(sample, result)
        return result

    def _read_part(
        self, lane: Lane, sample: Sample, file: MountedFile, part: tuple[int, int]
    ) -> Buffer | Failure:
        cached = self._cache.get(sample, part) if self._cache else None
        if cached is not None:
            return cached
        result = self._insist(sample, lane, part[1], lambda: file.read(*part))
        return result if isinstance(result, Failure) else self._replaced(sample) or result

    def _insist(
        self, sample: Sample, lane: Lane, n_bytes: int, read: Callable[[], bytes]
    ) -> Buffer | Failure:
        """Read until all bytes are there, or it is clear whether sample or mount is broken."""
        if reason := unnameable(sample.filename):
            return Failure(sample.filename, Outcome.UNREADABLE, reason)
        try:
            result = self._try_again(sample, lane, n_bytes, read)
        except LightlyFSError as error:
            self._broken = self._broken or error
            raise
        if not isinstance(result, Failure):
            with self._lock:
                self._bytes += len(result)
        return result

    def _try_again(
        self, sample: Sample, lane: Lane, n_bytes: int, read: Callable[[], bytes]
    ) -> Buffer | Failure:
        attempts = 0
        while True:
            self._require_working()
            generation, asked = lane.generation, time.monotonic()
            try:
                data = self._attempt(n_bytes, read)
            except OSError as error:  # TimeoutError is one
                trouble = error
            else:
                self._vitals.good(sample, asked)
                lane.proved()
                return data
            attempts += 1
            verdict = self._judge(sample, trouble, attempts)
            if verdict is not None and lane.shows_the_mount():
                return verdict
            with self._lock:
                self._retries += 1
            logger.debug("%s: %s (attempt %d)", sample.filename, trouble, attempts)
            doubtful = verdict is not None or _suspicious(trouble)
            if doubtful and lane.recover(generation):
                attempts = 0
            stale = isinstance(trouble, ShortError | ChangedError)
            self._pause(_STALE_S if stale else backoff_s(attempts))

    def _attempt(self, n_bytes: int, read: Callable[[], bytes]) -> bytes:
        """Read in a thread; never takes longer than the deadline."""
        deadline_s = self._deadline_s + n_bytes / _SLOWEST_BYTES_PER_S
        return within(deadline_s, read, stop=self._closed)

    def _path(self, sample: Sample, directory: Path) -> bytes:
        return local_path(directory, sample.filename, walked=self._store is None)

    def _judge(self, sample: Sample, error: OSError, attempts: int) -> Failure | None:
        """Say what an error means for a sample: its end, or None to read it again.

        Raises:
            MountError: Not the sample but the mount is broken.
        """
        if isinstance(error, ChangedError):
            return _failed(sample, str(error.strerror)) if attempts >= _ATTEMPTS else None
        if error.errno in _DEAD:
            self._require_hope(error)
            return None
        if error.errno in _NO_NAME:
            reason = f"the mount cannot show it: {error.strerror}"
            return Failure(sample.filename, Outcome.UNREADABLE, reason)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return self._missing(sample)
        if attempts >= _ATTEMPTS and (verdict := self._verdict(sample, error)):
            return verdict
        self._require_hope(error)
        return None

    def _verdict(self, sample: Sample, error: OSError) -> Failure | None:
        """Say whether a sample that was tried often enough is at fault, or None."""
        if replaced := self._replaced(sample):
            return replaced
        refused = isinstance(error, ShortError) and error.denied
        denied = refused or isinstance(error, PermissionError)
        alive = self._vitals.alive(time.monotonic(), suspect=sample)
        if alive:
            return _blamed(sample, error, denied=denied)
        if alive is False and denied:
            raise MountError(
                f"nothing can be read through the mount any more ({error.strerror}): the "
                "store refuses its credentials",
                reason="credentials",
                hint="Renew them, mount again, then start the same command: it resumes.",
            )
        return None

    def _missing(self, sample: Sample) -> Failure:
        """Tell an object that was deleted from one that a mount never shows."""
        found = None
        if self._store is not None:
            try:
                found = self._store.head(self._store.bucket.key(sample.filename))
            except LightlyFSError:
                logger.debug("the store cannot be asked for %s", sample.filename)
        if found is not None:
            reason = "the mount does not show it (another object has the name of its folder)"
            return Failure(sample.filename, Outcome.UNREADABLE, reason)
        return Failure(sample.filename, Outcome.GONE, "deleted during the run")

    def _probe(self, sample: Sample) -> bool | None:
        """Read another sample through any mount."""
        unknown, n_bytes = False, min(sample.size, BLOCK_BYTES)  # never a whole film
        for lane in self._lanes:
            try:
                path = self._path(sample, lane.directory)
                self._attempt(n_bytes, partial(read_beginning, path, sample, n_bytes))
            except (PermissionError, ShortError):
                continue
            except OSError:
                unknown = True
            else:
                return True
        return None if unknown else False

    def _replaced(self, sample: Sample) -> Failure | None:
        """Ask the store whether an object still is the listed one; a mount does not tell.

        It gives bytes of two versions through one descriptor, and shows the attributes of the
        old one for a quarter of an hour.
        """
        if self._store is None or sample.etag is None or not self._store_answers:
            return None
        try:
            found = self._store.head(self._store.bucket.key(sample.filename))
        except LightlyFSError as error:
            self._store_answers = False
            logger.debug("whether files change while they are read is not known: %s", error)
            return None
        if found is None:
            return Failure(sample.filename, Outcome.GONE, "deleted during the run")
        if found.etag != sample.etag:
            return _failed(sample, f"{CHANGED}: its ETag is another")
        return None

    def _require_hope(self, error: OSError) -> None:
        self._vitals.bad()
        if self._vitals.silent_s > self._outage_s:
            raise MountError(
                f"nothing could be read through {self._lanes[0].directory} for "
                f"{self._vitals.silent_s:.0f} s: {error.strerror or error}",
                reason="stopped",
                hint="Check the endpoint and the mount; the same command resumes the run.",
            )

    def _require_working(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._closed.done():
            raise DatasourceError("the reader was closed while it was reading")

    def _pause(self, seconds: float) -> None:
        try:
            self._closed.result(timeout=seconds)
        except TimeoutError:
            return


def unnameable(filename: str) -> str | None:
    """Return why no path below a mount leads to a filename, or None."""
    if "\0" in filename:
        return "no path can express its name: it holds a NUL"
    for part in filename.split("/"):
        if part in ("", ".", ".."):
            return f"no path can express its name: it has the segment `{part}`"
        if len(part.encode()) > 255:
            return f"no path can express its name: a segment has {len(part.encode())} bytes"
    return None


def _suspicious(error: OSError) -> bool:
    """Tell whether an error may be the mount's: worth a look at it."""
    if isinstance(error, ChangedError):
        return False
    return error.errno in _DEAD or isinstance(error, TimeoutError) or error.errno == errno.EIO


def _failed(sample: Sample, reason: str) -> Failure:
    return Failure(sample.filename, Outcome.FAILED, reason)


def _blamed(sample: Sample, error: OSError, *, denied: bool) -> Failure:
    """Others can be read: this sample ends with its own reason."""
    if denied:
        return Failure(sample.filename, Outcome.UNREADABLE, "access denied")
    detail = error if isinstance(error, TimeoutError) else error.strerror
    return _failed(sample, f"cannot be read: {detail}")
