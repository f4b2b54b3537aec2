"""`embeddings=FILE`: vectors that were made elsewhere, looked up by filename."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from lightly_fs.artifacts.embeddings_csv import (
    MARKS,
    VIDEO,
    CsvEmbeddings,
    CsvFormat,
    read_embeddings_csv,
)
from lightly_fs.errors import ModelError
from lightly_fs.types import ModelInfo, frame_of, provisional_name

INPUT_SIZE = 128
"""Images are decoded all the same, for their properties and to find the corrupt ones."""

_FORMAT = CsvFormat()
_logger = logging.getLogger(__name__)


class CsvEmbedder:
    """An embeddings file in the place of a model.

    Raises:
        ModelError: The file breaks the format, or none of its names is in the inventory.
    """

    def __init__(self, path: Path, filenames: Iterable[str]) -> None:
        embeddings = read_embeddings_csv(path, _FORMAT)
        _check(path, embeddings)
        names: list[str] = embeddings.filenames.to_pylist()
        self._vectors = embeddings.vectors
        self._rows = {name: row for row, name in enumerate(names)}
        found = self._name_frames(filenames)
        if not found:
            raise ModelError(
                f"none of the {len(names)} filenames of {path} is in the inventory, "
                f"the first is `{names[0]}`",
                hint="filenames are paths below the input directory; frames of a video `a/v.mp4` "
                "are `a/v-007-mp4.png`",
            )
        if found < len(names):
            _logger.warning("%d rows of %s name no sample", len(names) - found, path)
        self.no_vector = f"no row in {path.name}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.info = ModelInfo(
            name=f"csv:{path.name}",
            weights_sha256=digest,
            input_size=INPUT_SIZE,
            dimensions=self._vectors.shape[1],
            preprocessing="none",
            runtime="csv",
            precision="f32",
        )

    def _name_frames(self, filenames: Iterable[str]) -> int:
        """Make frames known by what they are called while decoded; return how many rows are used.

        How many digits a frame's name has is known only when its video is decoded to its end.
        """
        listed = set(filenames)
        found = 0
        for name, row in list(self._rows.items()):
            frame = frame_of(name)
            if name in listed:
                found += 1
            elif frame is not None and frame[0] in listed:
                self._rows[provisional_name(*frame)] = row
                found += 1
        return found

    def embed(self, pixels: Tensor, filenames: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(pixels), self.info.dimensions), np.nan, np.float32)
        for index, name in enumerate(filenames):
            row = self._rows.get(name)
            if row is not None:
                vectors[index] = self._vectors[row]
        return vectors


def read_vectors(path: Path) -> NDArray[np.float32]:
    """Return the (Q, D) vectors of a CSV of embeddings, or of a run's `embeddings.parquet`.

    Raises:
        ModelError: The file breaks the format.
    """
    if path.suffix != ".parquet":
        # What a datapool exported may be asked for, too.
        return read_embeddings_csv(path, CsvFormat(optional=(*MARKS, VIDEO))).vectors
    try:
        column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
        rows = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        vectors: NDArray[np.float32] = rows.astype(np.float32).reshape(len(column), -1)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}", hint="a column `embedding` of lists") from error
    if not np.isfinite(vectors).all():
        raise ModelError(f"{path}: not all values are finite numbers")
    return vectors


def _check(path: Path, embeddings: CsvEmbeddings) -> None:
    if not len(embeddings.filenames):
        raise ModelError(f"{path} has a header but no rows", hint=_FORMAT.hint)
    for mark in MARKS:
        marked = embeddings.marked(mark)
        if marked is not None and marked.any():
            raise ModelError(
                f"{path} marks rows as {mark}, which this version does not act on",
                hint=f"leave those rows or the column `{mark}` out",
            )
