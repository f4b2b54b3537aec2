"""Vectors of crops in an unfinished run directory: parts like those of images, in a folder beside.

A part's name begins with a digest of what was to be embedded, so that the vectors of other boxes
or of another model are never taken for these.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightly_fs.artifacts import parts
from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.artifacts.run_dir import RunDir
from lightly_fs.datasource.output import WRITERS, Output
from lightly_fs.types import EmbeddedSamples

logger = logging.getLogger(__name__)

FOLDER = "crop_parts"


class CropParts:
    """The parts of one set of crops, `crop_parts/DIGEST-embed-NNNNN-HASH.parquet`."""

    def __init__(self, run_dir: RunDir, digest: str, local: Path) -> None:
        """Fetch the parts that are there; torn ones are deleted.

        Args:
            run_dir: Where the parts lie.
            digest: Says what is embedded; 16 of its hexadecimal digits are in the names.
            local: Empty directory for verified copies of the parts.
        """
        self._run_dir, self._local = run_dir, local
        self._files = _files(run_dir)
        self._prefix = f"{digest[:16]}-"
        self._paths: dict[int, Path] = {}
        names = [name for name in self._files.names(FOLDER) if name.startswith(self._prefix)]
        with ThreadPoolExecutor(WRITERS) as pool:
            for name, path in zip(names, pool.map(self._fetch, names), strict=True):
                place = parts.place_of(name.removeprefix(self._prefix))
                if place is None or path is None or place[0] in self._paths:
                    logger.warning("deleting the torn or double part %s", name)
                    self._files.delete(f"{FOLDER}/{name}")
                else:
                    self._paths[place[0]] = path

    @property
    def committed(self) -> Set[int]:
        """The shards that are embedded."""
        return self._paths.keys()

    def write(self, number: int, embedded: EmbeddedSamples) -> None:
        """Commit what a shard became; raises what `RunDir.check` does."""
        path = parts.write_part(self._local, number, embedded)
        self._run_dir.check()
        self._files.put(f"{FOLDER}/{self._prefix}{path.name}", path)
        self._paths[number] = path

    def read(self) -> EmbeddedTable:
        """Return the crops of all shards, by their names, in order."""
        return parts.read_parts([self._paths[number] for number in sorted(self._paths)])

    def _fetch(self, name: str) -> Path | None:
        data = self._files.read(f"{FOLDER}/{name}")
        own = name.removeprefix(self._prefix)
        if data is None or not parts.is_intact(own, data):
            return None
        path = self._local / own
        path.write_bytes(data)
        return path


def delete_crop_parts(run_dir: RunDir) -> None:
    """Delete the parts of all crops, which a complete run needs no more."""
    _files(run_dir).delete_folder(FOLDER)


def _files(run_dir: RunDir) -> Output:
    return run_dir.output.below(run_dir.folder)
