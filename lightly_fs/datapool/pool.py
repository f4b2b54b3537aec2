"""An opened datapool, as it was in one state: what is known, selected, and can be used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.datapool.columns import (
    FILE_ROWS,
    SAMPLE_ROWS,
    PoolRows,
    file_of,
    hash_array,
    hashes,
    pool_rows,
    vectors_of,
)
from lightly_fs.datapool.known import Known, split
from lightly_fs.datapool.state import State
from lightly_fs.datapool.store import Store
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.errors import ArtifactError, ModelError
from lightly_fs.types import Duplicate, ModelInfo

_COMPARED = ("name", "weights_sha256", "input_size", "dimensions", "preprocessing")
"""What makes two models the same; the runtime and its precision change the last bits only."""


@dataclass(frozen=True, eq=False)
class Hashes:
    """What exact duplicates are found by, of N samples that came with hashes.

    Attributes:
        widths: (N,) int32 pixels; `heights` likewise.
        content: (N, 32) uint8 SHA-256 of the object's bytes; `pixels` of the model input.
    """

    filenames: pa.ChunkedArray
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    content: NDArray[np.uint8]
    pixels: NDArray[np.uint8]


class Pool:
    """What a datapool held in one state; immutable, whatever is committed afterwards.

    Attributes:
        state: Number, model, counts, and the parts.
        uri: Where the pool lies.
    """

    def __init__(self, store: Store, state: State) -> None:
        self.store = store
        self.state = state

    @property
    def uri(self) -> str:
        return self.store.uri

    def at(self, number: int) -> Pool:
        """Return the pool as it was in a state; 0 is before the first.

        Raises:
            ArtifactError: There is no such state (any more).
        """
        if number == self.state.number:
            return self
        state = self.store.state(number) if number else State()
        if state is None:
            there = ", ".join(map(str, self.store.numbers())) or "none"
            raise ArtifactError(
                f"{self.uri} has no state {number}; there is {there}",
                hint=f"lightly-fs datapool history {self.uri}",
            )
        return Pool(self.store, state)

    @cached_property
    def files(self) -> pa.Table:
        """Rows of `FILE_ROWS` and the `number` of their state, later states first.

        Of several rows of one name the first counts.
        """
        parts = self.state.files[::-1]
        self.store.fetch(parts)
        tables = [FILE_ROWS.empty_table(), *map(self.store.read, parts)]
        numbers = np.repeat([part.number for part in parts], [part.rows for part in parts])
        return pa.concat_tables(tables).append_column("number", pa.array(numbers, pa.int32()))

    def files_named(self, names: pa.ChunkedArray) -> pa.Table:
        """Return the rows of `files` that count, of those of some names that are remembered."""
        # Few names are looked for among many files, not the other way round.
        found = self.files.filter(pc.is_in(self.files["filename"], value_set=names))
        first = pc.index_in(found["filename"], value_set=found["filename"])
        return found.filter(pc.equal(first, pa.array(np.arange(len(found), dtype=np.int32))))

    @cached_property
    def _current(self) -> list[NDArray[np.bool_]]:
        """Return for each part of samples which of its rows were not superseded by a later state.

        A file's samples are those of the state that has its last row.
        """
        parts = self.state.samples
        if self.state.all_current:
            return [np.ones(part.rows, dtype=bool) for part in parts]
        self.store.fetch(parts)
        files = [file_of(self.store.read(part, ["filename", "video"])) for part in parts]
        at = pc.index_in(
            pa.chunked_array([chunk for one in files for chunk in one.chunks], pa.string()),
            value_set=self.files["filename"],
        )
        newest = pc.fill_null(self.files["number"].take(at), -1).to_numpy()
        own = np.repeat([part.number for part in parts], [part.rows for part in parts])
        ends = np.cumsum([part.rows for part in parts])[:-1]
        return np.split(newest == own, ends)

    def split(self, inventory: Inventory) -> Known:
        """Tell which files of an inventory are new, changed or known, and which are deleted."""
        return split(inventory, self.files)

    def check_model(self, model: ModelInfo) -> None:
        """Refuse embeddings that cannot be compared with those in the pool.

        Vectors of files (`embeddings=…`) say nothing about what made them: only their dimensions
        are compared.

        Raises:
            ModelError: They are of another model; the hint tells the ways out.
        """
        there = self.state.model
        if not self.state.dimensions:
            return
        if there is None:
            problem = "embeddings that were imported, and nobody said what made them"
        elif there.runtime == model.runtime == "csv":
            problem = _difference(there, model, ("dimensions",))
        else:
            problem = _difference(there, model, _COMPARED)
        if problem:
            raise ModelError(
                f"the datapool `{self.uri}` holds {problem}",
                hint="use that model; or another `datapool.name`; or embed everything again: "
                "datasource.process_all=True; or begin again with "
                f"`lightly-fs datapool reset {self.uri}` (a rollback brings it back; `lightly-fs "
                "datapool export` keeps its embeddings as a file). Training gives a new model "
                "each time: train once, then run with `checkpoint`",
            )

    def rows(self, columns: Sequence[str]) -> pa.Table:
        """Return columns of the samples that count, in the order in which they were added."""
        empty = pa.schema([SAMPLE_ROWS.field(name) for name in columns]).empty_table()
        pieces = [table.filter(pa.array(keep)) for table, keep in self.pieces(columns)]
        return pa.concat_tables([empty, *(piece.select(columns) for piece in pieces)])

    def selected_vectors(self, known: Known | None = None) -> NDArray[np.float32]:
        """Return the (K, D) float32 embeddings of the selected samples, read anew by each call.

        Args:
            known: Leaves out the samples of files that it calls changed: these are decided anew.
        """
        found = np.empty((self.state.counts.selected, self.state.dimensions), np.float32)
        done = 0
        for table, keep in self.pieces(["selected", "vector"], known):
            mask = keep & table["selected"].to_numpy()
            end = done + int(mask.sum())
            np.compress(mask, vectors_of(table["vector"]), axis=0, out=found[done:end])
            done = end
        return found[:done]

    def selected(self, known: Known | None = None) -> PoolRows:
        """Return everything about the selected samples.

        Args:
            known: Leaves out the samples of files that it calls changed: these are decided anew.
        """
        return self._whole(lambda table: table["selected"].to_numpy(), known)

    def samples(self) -> PoolRows:
        """Return everything about all samples."""
        return self._whole(lambda table: np.ones(len(table), dtype=bool))

    def reuse(self, filenames: Sequence[str]) -> PoolRows:
        """Return the samples of files, for a run that need not embed them again.

        Samples without hashes are left out: whoever needs those has to read the files.

        Args:
            filenames: Images and videos; those that the pool does not hold are passed over.
        """
        names = pa.array(filenames, pa.string())

        def wanted(table: pa.Table) -> NDArray[np.bool_]:
            of_these = pc.is_in(file_of(table), value_set=names)
            mask: NDArray[np.bool_] = pc.and_(of_these, table["content_hash"].is_valid()).to_numpy()
            return mask

        return self._whole(wanted)

    def hashes(self, known: Known | None = None) -> Hashes:
        """Return what tells exact duplicates of the pool's samples.

        Args:
            known: Leaves out the samples of files that it calls changed.
        """
        columns = ["filename", "width", "height", "content_hash", "pixel_hash"]
        pieces = [
            table.filter(pa.array(keep & table["content_hash"].is_valid().to_numpy()))
            for table, keep in self.pieces(columns, known)
        ]
        empty = pa.schema([SAMPLE_ROWS.field(name) for name in columns]).empty_table()
        table = pa.concat_tables([empty, *(piece.select(columns) for piece in pieces)])
        return Hashes(
            filenames=table["filename"],
            widths=table["width"].to_numpy(),
            heights=table["height"].to_numpy(),
            content=hashes(table["content_hash"]),
            pixels=hashes(table["pixel_hash"]),
        )

    def same_content(self, table: EmbeddedTable, known: Known | None = None) -> list[Duplicate]:
        """Return the rows of a table that have the same bytes as a sample of the pool.

        Frames have those of the model's input, which of frames of other sizes may be the same.
        A row that is a sample of the pool itself is no duplicate of itself.
        """
        there = self.hashes(known)
        here = _content(table.content_hashes, table.widths, table.heights)
        at = pc.index_in(here, value_set=_content(there.content, there.widths, there.heights))
        rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        originals = there.filenames.take(pc.drop_null(at)).to_pylist()
        pairs = zip((table.filenames[row] for row in rows), originals, strict=True)
        return [Duplicate(name, one, "content") for name, one in pairs if name != one]

    def _whole(
        self,
        wanted: Callable[[pa.Table], NDArray[np.bool_]],
        known: Known | None = None,
    ) -> PoolRows:
        tables: list[pa.Table] = [SAMPLE_ROWS.empty_table()]
        vectors = [np.empty((0, self.state.dimensions), np.float32)]
        for table, keep in self.pieces(None, known):
            mask = keep & wanted(table)
            tables.append(table.drop_columns(["vector"]).filter(pa.array(mask)))
            vectors.append(vectors_of(table["vector"])[mask])
        rows = pa.concat_tables(tables, promote_options="default")
        return pool_rows(rows, np.concatenate(vectors))

    def pieces(
        self, columns: Sequence[str] | None, known: Known | None = None
    ) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        """Yield each part's rows, the oldest first, and which of them count.

        Args:
            columns: Those that are needed; None for all.
        """
        self.store.fetch(self.state.samples)
        changed = None if known is None or not len(known.changed) else known.changed_files
        if columns is not None and changed is not None:
            columns = list(dict.fromkeys([*columns, "filename", "video"]))
        for part, current in zip(self.state.samples, self._current, strict=True):
            table, keep = self.store.read(part, columns), current
            if changed is not None:
                keep = current & ~pc.is_in(file_of(table), value_set=changed).to_numpy()
            yield table, keep


def _content(
    hashed: NDArray[np.uint8], widths: NDArray[np.int32], heights: NDArray[np.int32]
) -> pa.Array:
    """Return what is equal for samples that show the same: hash and size, as (N, 40) bytes."""
    sizes = np.stack([widths, heights], axis=1).astype("<i4").view(np.uint8)
    return hash_array(np.concatenate([hashed, sizes.reshape(-1, 8)], axis=1))


def _difference(there: ModelInfo, now: ModelInfo, names: Sequence[str]) -> str:
    """Name the first fact in which two models differ; "" when they are the same."""
    for name in names:
        old, new = getattr(there, name), getattr(now, name)
        if old != new:
            return f"embeddings of another model: {name} is {old!r} there and {new!r} now"
    return ""
