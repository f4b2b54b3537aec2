"""An opened datapool, as it was in one state: what is known, selected, and can be used again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.artifacts.difference import model_difference
from lightly_fs.artifacts.parts import EmbeddedTable
from lightly_fs.datapool.columns import (
    FILE_ROWS,
    SAMPLE_ROWS,
    PoolRows,
    file_of,
    hash_array,
    hashes,
    pool_rows,
)
from lightly_fs.datapool.known import Known, split
from lightly_fs.datapool.state import State
from lightly_fs.datapool.store import Store
from lightly_fs.datapool.vectors import vectors_of
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.shards import video_rows
from lightly_fs.errors import ConfigError, ModelError
from lightly_fs.types import Duplicate, ModelInfo, Outcome, frame_of

logger = logging.getLogger(__name__)

_COMPARED = ("name", "weights_sha256", "input_size", "dimensions", "preprocessing")
"""What makes two models the same; the runtime and its precision change the last bits only."""


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
            ArtifactError: There is no such state (any more), or it is torn.
        """
        if number == self.state.number:
            return self
        state = self.store.state(number) if number else State()
        if state is None:
            raise self.store.missing(number)
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

    def check_sampling(self, known: Known, sampling: Mapping[str, Any]) -> None:
        """Warn of known videos of which a run would take other frames than the pool has.

        Args:
            known: The run's inventory beside this pool.
            sampling: Which frames it takes, as in `Additions`.
        """
        if self.files["video"].null_count == len(self.files):
            return
        names = known.inventory.table["filename"].take(pa.array(known.known))
        told = pc.drop_null(self.files_named(names)["video"]).to_pylist()
        others = sum(json.loads(one)["sampling"] != sampling for one in told)
        if others:
            logger.warning(
                "known videos stay as they are, and the frames of %d of them were taken with "
                "other `video.*` settings; datasource.process_all=True takes them anew",
                others,
            )

    def videos(self) -> list[str]:
        """Return the videos that are remembered, once for each row of `files`."""
        names: list[str] = self.files["filename"].take(pa.array(video_rows(self.files))).to_pylist()
        return names

    def check_names(self, known: Known) -> None:
        """Refuse new videos of which a frame would be called like an image of the pool.

        Raises:
            ConfigError: There is such a video.
        """
        new = known.inventory.table["filename"].take(pa.array(known.to_process))
        new_videos = {*new.take(pa.array(video_rows(pa.table({"filename": new})))).to_pylist()}
        if not new_videos:
            return
        embedded = pc.equal(self.files["outcome"], Outcome.EMBEDDED.value)
        images = self.files["filename"].filter(embedded)
        images = images.filter(pc.match_substring_regex(images, r"-\d+-\w+\.png$"))
        for image in images.to_pylist():
            video, _ = frame_of(image) or ("", 0)
            if video in new_videos:
                raise ConfigError(
                    f"the datapool `{self.uri}` holds the image `{image}`, and a frame of the new "
                    f"`{video}` would have the same name",
                    hint="rename the video; or process everything again: "
                    "datasource.process_all=True",
                )

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
        first = "use that model"
        if there is None:
            what = "that were imported, and nobody said what made them"
            first = (
                f"say it: `lightly-fs datapool reset {self.uri}`, then import again with `--model "
                "RUN_DIR/config/model.json`"
            )
        else:
            by_file = there.runtime == model.runtime == "csv"
            names = ("dimensions",) if by_file else _COMPARED
            different = model_difference(there, model, names)
            what = f"of another model: {different}" if different else ""
        if what:
            raise ModelError(
                f"the datapool `{self.uri}` holds embeddings {what}",
                hint=f"{first}; or another `datapool.name`; or embed everything again: "
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

    def selected_vectors(self, known: Known | None = None) -> tuple[list[str], NDArray[np.float32]]:
        """Return the selected samples' K names and (K, D) embeddings, read anew by each call.

        Args:
            known: Leaves out the samples of files that it calls changed: these are decided anew.
        """
        names: list[str] = []
        found = np.empty((self.state.counts.selected, self.state.dimensions), np.float32)
        for table, keep in self.pieces(["filename", "selected", "vector"], known):
            mask, done = keep & table["selected"].to_numpy(), len(names)
            names += table["filename"].filter(pa.array(mask)).to_pylist()
            np.compress(mask, vectors_of(table["vector"]), axis=0, out=found[done : len(names)])
        return names, found[: len(names)]

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

    def same_content(self, table: EmbeddedTable, known: Known | None = None) -> list[Duplicate]:
        """Return the rows of a table that have the same bytes as a sample of the pool.

        Frames have those of the model's input, which of frames of other sizes may be the same.
        A row that is a sample of the pool itself is no duplicate of itself.

        Args:
            table: N embedded samples.
            known: Leaves out the samples of files that it calls changed.
        """
        here = _content(table.content_hashes, table.widths, table.heights)
        names, contents = [pa.array([], pa.string())], [here[:0]]
        # The pool is large and the table is not: what is not in the table is forgotten at once.
        for piece, keep in self.pieces(["filename", "width", "height", "content_hash"], known):
            sizes = [pc.fill_null(piece[side], 0).to_numpy() for side in ("width", "height")]
            there = _content(hashes(piece["content_hash"]), *sizes)
            counts = keep & piece["content_hash"].is_valid().to_numpy()
            hits = pc.and_(pc.is_in(there, value_set=here), pa.array(counts))
            contents.append(there.filter(hits))
            names += piece["filename"].filter(hits).chunks
        at = pc.index_in(here, value_set=pa.concat_arrays(contents))
        rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        originals = pa.concat_arrays(names).take(pc.drop_null(at)).to_pylist()
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
        self, columns: Sequence[str] | None, known: Known | None = None, *, since: int = 0
    ) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        """Yield each part's rows, the oldest first, and which of them count.

        Args:
            columns: Those that are needed; None for all.
            known: Of files that it calls changed no sample counts.
            since: Leaves out the parts of states before this one.
        """
        self.store.fetch([part for part in self.state.samples if part.number >= since])
        changed = None if known is None or not len(known.changed) else known.changed_files
        if columns is not None and changed is not None:
            columns = list(dict.fromkeys([*columns, "filename", "video"]))
        for part, current in zip(self.state.samples, self._current, strict=True):
            if part.number < since:
                continue
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
