"""A finished run, looked at from outside: what it read, and what it selected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from lightly_fs.artifacts.dump import FOLDER as COPIES
from lightly_fs.artifacts.dump import dump_names
from lightly_fs.artifacts.lists import FOLDER, SELECTED, read_list
from lightly_fs.artifacts.manifest import Manifest
from lightly_fs.artifacts.record import CONFIG, INVENTORY, RUN
from lightly_fs.artifacts.tables import FRAME_FIELDS
from lightly_fs.config import S3Config
from lightly_fs.datasource.exclusion import MANIFEST_NAME
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.errors import ArtifactError
from lightly_fs.selection.nearest import covering_distances
from lightly_fs.types import Frame, Sample, frame_sample

EMBEDDINGS = "data/embeddings.parquet"
_VECTOR = "embedding"
_FRAME = tuple(field.name for field in FRAME_FIELDS)
_OWN_COLUMNS = ("filename", "width", "height", "content_hash", _VECTOR, *_FRAME)
_BLOCK = 64


class FinishedRun:
    """Reads the files of a finished run; each is checked against the run's manifest.

    Attributes:
        uri: The run directory, for messages.
    """

    def __init__(self, uri: str, read: Callable[[str], bytes | None], staging: Path) -> None:
        """Open a run.

        Args:
            uri: The run directory.
            read: Returns a file of it, or None when there is none.
            staging: Local directory for copies.

        Raises:
            ArtifactError: There is no run, or it is not finished.
        """
        self.uri = uri
        self._read, self._staging = read, staging
        manifest = Manifest.decode(read(MANIFEST_NAME))
        if manifest is None:
            raise self._unfinished(begun=read(RUN) is not None)
        self._entries = {entry.name: entry for entry in manifest.entries}

    def _unfinished(self, *, begun: bool) -> ArtifactError:
        if begun:
            return ArtifactError(
                f"the run in {self.uri} is not finished: it has no valid {MANIFEST_NAME}",
                hint="run the command that began it again, with the same run_directory",
            )
        return ArtifactError(
            f"{self.uri} holds no run of lightly-fs",
            hint="give a run directory, the folder with report.pdf and manifest.json",
        )

    @cached_property
    def _config(self) -> dict[str, Any]:
        values = yaml.safe_load(self.file(CONFIG).read_bytes())
        return values if isinstance(values, dict) else {}

    @property
    def input_dir(self) -> str:
        """What the run read: a directory, or `s3://…`."""
        return str(self._config["input_dir"])

    @property
    def max_image_pixels(self) -> int:
        """Larger images and frames were corrupt."""
        return int(self._config["max_image_pixels"])

    @property
    def s3(self) -> S3Config:
        """How the run reached buckets."""
        return S3Config(**(self._config.get("s3") or {}))

    @cached_property
    def inventory(self) -> Inventory:
        return Inventory.read(self.file(INVENTORY))

    @cached_property
    def selected(self) -> list[str]:
        """Selected filenames, in the order they were chosen."""
        return read_list(self.file(f"{FOLDER}/{SELECTED}"))

    @cached_property
    def table(self) -> pa.Table:
        """The selected rows of `embeddings.parquet` in the order they were chosen, no vectors."""
        path = self.file(EMBEDDINGS)
        names = [name for name in pq.read_schema(path).names if name != _VECTOR]
        return pq.read_table(path, columns=names).take(self._rows)

    @cached_property
    def _rows(self) -> pa.Array:
        """Where the selected images are in `embeddings.parquet`."""
        names = pq.read_table(self.file(EMBEDDINGS), columns=["filename"])["filename"].to_pylist()
        rows = {name: row for row, name in enumerate(names)}
        lost = next((name for name in self.selected if name not in rows), None)
        if lost is not None:
            raise ArtifactError(f"{self.uri}/{EMBEDDINGS} does not hold the selected `{lost}`")
        return pa.array([rows[name] for name in self.selected], pa.int64())

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(K, 2) width and height in pixels of the selected images."""
        columns = [self.table[name].to_numpy().astype(np.int64) for name in ("width", "height")]
        return np.stack(columns, axis=1)

    @property
    def properties(self) -> dict[str, pa.ChunkedArray]:
        """The measured properties of the selected images, by name."""
        names = [name for name in self.table.column_names if name not in _OWN_COLUMNS]
        return {name: self.table[name] for name in names}

    def distances(self) -> NDArray[np.float32]:
        """Return (K,) L2 distances of each to the nearest selected before it; inf for the first."""
        column = pq.read_table(self.file(EMBEDDINGS), columns=[_VECTOR])[_VECTOR]
        vectors = column.take(self._rows).combine_chunks().flatten().to_numpy()
        return distances_when_chosen(vectors.reshape(len(self.selected), -1))

    def samples(self) -> list[Sample]:
        """Return the selected samples: images as they were listed, frames with their names."""
        listed = iter(self._listed([n for n, one in self._named_frames() if one is None]))
        sizes = self.sizes.tolist()
        return [
            next(listed) if frame is None else frame_sample(name, *size)
            for (name, frame), size in zip(self._named_frames(), sizes, strict=True)
        ]

    def video(self, filename: str) -> Sample:
        """Return a video as it was listed."""
        return self._listed([filename])[0]

    @cached_property
    def frames(self) -> dict[str, Frame]:
        """The selected samples that are frames, by name."""
        table = self.table
        if _FRAME[0] not in table.column_names:
            return {}
        rows = zip(self.selected, *(table[name].to_pylist() for name in _FRAME), strict=True)
        return {row[0]: Frame(*row[1:]) for row in rows if row[1] is not None}

    @cached_property
    def copies(self) -> dict[str, str]:
        """Of the selected frames that the run wrote as images: the copy's name below the run."""
        form = self._config["output_image_format"]
        copies = dump_names(self.selected, "" if form == "original" else f".{form}")
        named = {name: f"{COPIES}/{copy}" for name, copy in zip(self.selected, copies, strict=True)}
        return {name: named[name] for name in self.frames if named[name] in self._entries}

    @property
    def copies_are_scaled(self) -> bool:
        """Whether copies may have another size than the frames."""
        form, size = self._config["output_image_format"], self._config["output_image_size"]
        return bool(form != "original" and size != -1)

    def _named_frames(self) -> list[tuple[str, Frame | None]]:
        return [(name, self.frames.get(name)) for name in self.selected]

    def _listed(self, filenames: Sequence[str]) -> list[Sample]:
        rows = [self._row_of[name] for name in filenames]
        return self.inventory.take(np.array(rows, np.int64))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """Where each sample is in the inventory."""
        names = self.inventory.table["filename"].to_pylist()
        return {name: row for row, name in enumerate(names)}

    def content_hashes(self) -> list[bytes]:
        """Return the SHA-256 of each selected object's bytes."""
        hashes: list[bytes] = self.table["content_hash"].to_pylist()
        return hashes

    def file(self, name: str) -> Path:
        """Return a local copy of one of the run's files.

        Raises:
            ArtifactError: It is gone, or not what the run wrote.
        """
        local = self._staging / name
        if not local.exists():
            data, entry = self._read(name), self._entries.get(name)
            if entry is None or data is None:
                raise ArtifactError(f"{self.uri}/{name} is gone", hint=_REDO)
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise ArtifactError(
                    f"{self.uri}/{name} is not what the run wrote: {len(data)} bytes "
                    f"with another hash than its {MANIFEST_NAME} says",
                    hint=_REDO,
                )
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(data)
        return local


_REDO = "run the command that made it again, with the same run_directory: it writes what is missing"


def distances_when_chosen(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (K,) L2 distances of (K, D) vectors, each to the nearest of those before it."""
    found = np.full(len(vectors), np.inf, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float64)
        among = np.sqrt(((block[:, None] - block[None]) ** 2).sum(axis=2))
        among[np.triu_indices(len(block))] = np.inf
        before = covering_distances(vectors[start : start + _BLOCK], vectors[:start])[0]
        found[start : start + _BLOCK] = np.minimum(before, among.min(axis=1))
    return found
