"""Annotation files that are not written yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightly_fs.datasource.reader import Buffer
from lightly_fs.types import Failure, Outcome


class FilesInMemory:
    """Lets a reader check what is about to be written."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents

    def list(self, prefix: str) -> Sequence[str]:
        return [path for path in self._contents if path.startswith(prefix)]

    def read(self, paths: Sequence[str]) -> Iterator[Buffer | Failure]:
        for path in paths:
            data = self._contents.get(path)
            yield Failure(path, Outcome.GONE, "it is not there") if data is None else data
