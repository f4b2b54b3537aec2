"""Where annotation files come from: a small protocol, and the datasource behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from lightly_fs.datasource.listing import walk
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Outcome, Sample

FOLDER = ".lightly/"
"""Holds every annotation of a bucket; the inventory never lists what lies in it."""


class AnnotationFiles(Protocol):
    """Files by their paths below the datasource's root (`.lightly/metadata/schema.json`)."""

    def list(self, prefix: str) -> Sequence[str]:
        """Return the paths that start with `prefix`; none when there is nothing."""
        ...

    def read(self, paths: Sequence[str]) -> Iterator[Buffer | Failure]:
        """Yield the files' bytes in their order, reading ahead; a `Failure` says why not."""
        ...


@dataclass(frozen=True, slots=True)
class InvalidFile:
    """A file that was left out; the reason names the place in it and the fix."""

    path: str
    reason: str


class SourceFiles:
    """The annotation files of a datasource, read by the reader that reads its samples."""

    def __init__(self, source: Source, reader: Reader) -> None:
        self._source, self._reader = source, reader
        self._listed: dict[str, Sample] = {}

    def list(self, prefix: str) -> Sequence[str]:
        """Return the paths that start with `prefix`, and remember their sizes for `read`.

        Raises:
            DatasourceError: The store or the directory cannot be listed.
            MountError: The credentials are refused.
        """
        found: list[str] = []
        for sample in self._samples(prefix):
            if sample.filename.startswith(prefix) and not sample.filename.endswith("/"):
                found.append(sample.filename)
                self._listed[sample.filename] = sample
        return found

    def read(self, paths: Sequence[str]) -> Iterator[Buffer | Failure]:
        known = [self._listed[path] for path in paths if path in self._listed]
        stream = self._reader.stream(known)
        for path in paths:
            if path in self._listed:
                yield next(stream)
            else:
                yield Failure(path, Outcome.GONE, "it was not listed")

    def _samples(self, prefix: str) -> Iterator[Sample]:
        if (bucket := self._source.bucket) is not None:
            below = replace(bucket, prefix=bucket.key(prefix))
            for batch in ObjectStore(below).list():
                for key, size, etag, mtime_ns in _rows(batch):
                    yield Sample(key[len(bucket.prefix) :], size, etag, mtime_ns)
            return
        if self._source.root is None:
            raise DatasourceError(f"{self._source.uri} has neither a directory nor a bucket")
        folder = prefix[: prefix.rfind("/") + 1]
        files = walk(
            self._source.root / folder, skip=lambda name: not (folder + name).startswith(prefix)
        )
        try:
            for batch in files:
                for name, size, etag, mtime_ns in _rows(batch):
                    yield Sample(folder + name, size, etag, mtime_ns)
        except DatasourceError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, int, str | None, int]]:
    return zip(*(batch[name].to_pylist() for name in batch.schema.names), strict=True)
