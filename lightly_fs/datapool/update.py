"""Write a datapool's next state: what a run added, an older state again, or nothing."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightly_fs.datapool.columns import (
    FILE_ROWS,
    SAMPLE_ROWS,
    Additions,
    file_of,
    file_rows,
    sample_rows,
)
from lightly_fs.datapool.known import AGAIN
from lightly_fs.datapool.merging import Rows, merge
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.state import FILES, SAMPLES, Kind, PoolCounts, State
from lightly_fs.datapool.store import Store
from lightly_fs.datasource.output import WRITERS
from lightly_fs.errors import ArtifactError
from lightly_fs.types import Outcome

logger = logging.getLogger(__name__)

_PART_BYTES = 128 << 20
"""Of vectors in one part: several are read and sent at the same time."""
_SAME = ("filename", "content_hash", "pixel_hash", "selected", "duplicate_of")
"""Two rows that agree in these are the same sample."""


def update(
    pool: Pool, additions: Additions, *, fresh: bool = False, keep_history: bool = True
) -> Pool:
    """Add what a run found; return the pool as it is then.

    Samples of the same content stay selected once they are, and what the pool holds already is
    not written again. A run that was killed after its update does nothing here when it resumes.

    Args:
        pool: What the run began with.
        additions: What it found.
        fresh: Begin from scratch, with this run alone; the earlier states stay.
        keep_history: False deletes the earlier states afterwards.

    Raises:
        ArtifactError: Another run updated the pool meanwhile.
        ModelError: The pool holds embeddings of another model, and `fresh` is not given.
    """
    newest = pool.store.newest()
    if newest.number != pool.state.number:
        if newest.run_id == additions.run_id and newest.parent == (pool.state.number or None):
            logger.info("state %d of %s holds this run already", newest.number, pool.uri)
            return Pool(pool.store, newest)
        raise ArtifactError(
            f"the datapool `{pool.uri}` is in state {newest.number} now, and this run began with "
            f"{pool.state.number}: its selection does not know what was added since",
            hint="start a new run; `lightly-fs datapool history` shows who added what",
        )
    if not fresh:
        pool.check_model(additions.model)
    base = Pool(pool.store, State()) if fresh else pool
    samples = sample_rows(additions)
    rows = Rows(samples, file_rows(additions, file_of(samples)))
    if not fresh:
        rows = _changes(pool, rows)
    deleted = 0 if fresh else len(additions.known.deleted)
    if not (fresh or len(rows.files) or deleted != pool.state.counts.deleted):
        return pool
    kind = Kind.FRESH if fresh else Kind.UPDATE
    kept, written = merge(base, rows)
    draft = replace(
        pool.state.following(next_number(pool.store), kind, additions.run_id),
        model=additions.model,
        dimensions=additions.model.dimensions,
        samples=kept.samples,
        files=kept.files,
        counts=replace(counts_with(base, rows), deleted=deleted),
    )
    return write(pool.store, draft, written, keep_history=keep_history)


def rollback(store: Store, number: int) -> Pool:
    """Bring the content of an earlier state back, as a new state; nothing is deleted.

    Raises:
        ArtifactError: There is no such state, its parts are damaged, or it is the newest.
    """
    newest = store.newest()
    then = Pool(store, newest).at(number).state
    if number == newest.number:
        raise ArtifactError(
            f"state {number} is the newest state of {store.uri} already",
            hint=f"lightly-fs datapool history {store.uri}",
        )
    broken = store.first_broken(then)
    if broken is not None:
        raise ArtifactError(
            f"state {number} of {store.uri} cannot be brought back: {broken} is gone or damaged",
            hint="choose another state",
        )
    following = newest.following(next_number(store), Kind.ROLLBACK)
    state = replace(
        then,
        number=following.number,
        kind=following.kind,
        created=following.created,
        parent=following.parent,
        restored=number,
        run_id="",
    )
    store.commit(state)
    return Pool(store, state)


def reset(store: Store, *, keep_history: bool = True) -> Pool:
    """Begin again with a state that holds nothing, also where no state can be read any more.

    Args:
        keep_history: False deletes everything else; no rollback can bring it back.
    """
    empty, newest = State().following(next_number(store), Kind.RESET), store.newest_intact()
    state = replace(empty, parent=None if newest is None else newest.number)
    store.commit(state)
    if not keep_history:
        store.drop_others(state)
    return Pool(store, state)


def drop_history(pool: Pool) -> None:
    """Delete the states before the newest one, and the parts that it does not need.

    A run that may still have to resume from the state it began with does this when it is complete,
    and updates with `keep_history`.

    Raises:
        ArtifactError: The pool is not the newest state any more.
    """
    newest = pool.store.newest().number
    if newest != pool.state.number:
        raise ArtifactError(
            f"state {pool.state.number} of {pool.uri} is not the newest: {newest} is",
            hint="leave the history to whoever made that state",
        )
    pool.store.drop_others(pool.state)


def write(store: Store, draft: State, rows: Rows, *, keep_history: bool) -> Pool:
    """Write the parts of a state and then, which commits them, the state itself."""
    store.begin(draft.number)
    step = max(1, _PART_BYTES // (4 * max(1, draft.dimensions)))
    pieces = [(SAMPLES, rows.samples.slice(at, step)) for at in range(0, len(rows.samples), step)]
    if len(rows.files):
        pieces.append((FILES, rows.files))
    with ThreadPoolExecutor(WRITERS) as pool:
        parts = list(pool.map(lambda one: store.write_part(one[0], draft.number, one[1]), pieces))
    of_samples, of_files = (
        tuple(part for part in parts if part.name.startswith(f"{folder}/"))
        for folder in (SAMPLES, FILES)
    )
    state = replace(draft, samples=draft.samples + of_samples, files=draft.files + of_files)
    store.commit(state)
    if not keep_history:
        store.drop_others(state)
    return Pool(store, state)


def next_number(store: Store) -> int:
    """Return the number of the next state; those of torn and lost states are not used again."""
    return max(store.taken(), default=0) + 1


def counts_with(base: Pool, rows: Rows) -> PoolCounts:
    """Return what a pool holds once the rows are added to it."""
    before = base.state.counts
    replaced = base.files_named(rows.files["filename"])
    lost = SAMPLE_ROWS.empty_table()
    if len(replaced):
        lost = base.rows(["filename", "video", "selected", "duplicate_of"])
        lost = lost.filter(pc.is_in(file_of(lost), value_set=replaced["filename"]))
    return PoolCounts(
        files=before.files + len(rows.files) - len(replaced),
        corrupt=before.corrupt + _corrupt(rows.files) - _corrupt(replaced),
        unfinished=before.unfinished + _unfinished(rows.files) - _unfinished(replaced),
        deleted=before.deleted,
        samples=before.samples + len(rows.samples) - len(lost),
        selected=before.selected + _selected(rows.samples) - _selected(lost),
        duplicate=before.duplicate + _duplicates(rows.samples) - _duplicates(lost),
        added_files=len(rows.files) - len(replaced),
        changed_files=len(replaced),
        added_samples=len(rows.samples),
        added_selected=_selected(rows.samples),
        superseded_samples=len(lost),
    )


def _corrupt(files: pa.Table) -> int:
    return _true(pc.equal(files["outcome"], Outcome.CORRUPT.value))


def _unfinished(files: pa.Table) -> int:
    return _true(pc.is_in(files["outcome"], value_set=pa.array(AGAIN)))


def _selected(samples: pa.Table) -> int:
    return _true(samples["selected"])


def _duplicates(samples: pa.Table) -> int:
    return _true(samples["duplicate_of"].is_valid())


def _true(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _changes(pool: Pool, rows: Rows) -> Rows:
    """Return the rows without files that the pool holds as they are; what is selected stays so."""
    files = rows.files["filename"]
    remembered = pool.files_named(files)
    if not len(remembered):
        return rows
    there = pool.rows([*_SAME, "video"])
    there = there.filter(pc.is_in(file_of(there), value_set=remembered["filename"]))
    beside = there.take(pc.index_in(rows.samples["filename"], value_set=there["filename"]))
    # Of an imported sample nothing but its name is known.
    same_content = pc.or_(
        beside["content_hash"].is_null(),
        pc.fill_null(pc.equal(rows.samples["content_hash"], beside["content_hash"]), False),  # noqa: FBT003
    )
    kept = pc.and_(same_content, pc.fill_null(beside["selected"], False))  # noqa: FBT003
    samples = rows.samples.set_column(
        rows.samples.schema.get_field_index("selected"),
        rows.samples.schema.field("selected"),
        pc.or_(rows.samples["selected"], kept),
    )
    same = [_equal(samples[name], beside[name]) for name in _SAME]
    total, equal, before = (
        _per_file(file_of(table), files)
        for table in (samples, samples.filter(pa.array(np.logical_and.reduce(same))), there)
    )
    at = pc.index_in(files, value_set=remembered["filename"])
    facts = [_equal(rows.files[name], remembered[name].take(at)) for name in FILE_ROWS.names]
    is_same = np.logical_and.reduce([*facts, total == equal, total == before])
    differs = pa.array(~is_same)
    written = rows.files.filter(differs)
    of_these = pc.is_in(file_of(samples), value_set=written["filename"])
    return Rows(samples.filter(of_these), written)


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Tell row by row whether two columns agree; null agrees with null."""
    equal = pc.fill_null(pc.equal(one, other), False)  # noqa: FBT003
    both: NDArray[np.bool_] = pc.or_(equal, pc.and_(one.is_null(), other.is_null())).to_numpy()
    return both


def _per_file(of: pa.ChunkedArray, files: pa.ChunkedArray) -> NDArray[np.int64]:
    """Count how many samples each file has."""
    at = pc.drop_null(pc.index_in(of, value_set=files)).to_numpy()
    return np.bincount(at, minlength=len(files))
