"""Picking within a block of scored selection, lazily. Importing this module imports numba.

The rows of a block wait in one queue per group, the largest key first. A key made of a distance to
some of the picks bounds the key to all of them from above, and what the balances add is the same
for a whole group. So only the row whose bound comes first of all is compared with the picks that it
has not seen. When it still comes first after that, it is the next pick, whatever the others are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.compiled import compiled
from lightly_fs.selection.group_kernels import (
    Balances,
    Edges,
    Scale,
    count_pick,
    key_of,
    leads,
    set_offsets,
)
from lightly_fs.selection.kernels import Rows, estimated_dot, squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

CENTRES_AT_ONCE = 32
"""How many picks a row is compared with before its bound is looked at again."""


class Members(NamedTuple):
    """What candidates consist of, and so what is compared with when one is picked.

    Attributes:
        vectors: (M, D) float32, norms: (M,) their squared lengths.
        offsets: (N + 1,) int64; candidate i has the rows `offsets[i]` to `offsets[i + 1]`.
        error: `slack` of the dimensions.
        room: How many centres a block makes at most; the pick that would exceed it is its last.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    offsets: NDArray[np.int64]
    error: float
    room: int


class Block(NamedTuple):
    """What is known of R rows besides `Rows`: (R,) constant parts, keys, groups, names, seen.

    Names are those of the candidates that the rows belong to; what is picked is a candidate.
    `seen` is how many of the centres made in this block each was compared with, 0 at first.
    """

    constant: NDArray[np.float64]
    keys: NDArray[np.float64]
    groups: NDArray[np.int64]
    names: NDArray[np.int64]
    seen: NDArray[np.int64]


class Queues(NamedTuple):
    """A heap of rows per group: (R,) rows, (G,) where each begins and how many it holds."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Trail(NamedTuple):
    """The centres made in this block, in order: (C, D) vectors, (C,) lengths, candidates."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    names: NDArray[np.int64]


class Race(NamedTuple):
    """All that decides which row of a block comes first; offsets (G,) are those of this pick."""

    rows: Rows
    block: Block
    edges: Edges
    queues: Queues
    trail: Trail
    offsets: NDArray[np.float64]
    scale: Scale


@compiled()
def _comes_before(i: int, j: int, block: Block) -> bool:
    """Whether a row of a group comes before another one of it."""
    if block.keys[i] != block.keys[j]:
        return bool(block.keys[i] > block.keys[j])
    return bool(block.names[i] < block.names[j])


@compiled()
def _sink(queues: Queues, group: int, place: int, block: Block) -> None:
    """Move a row down its heap until nothing below it comes before it."""
    heap = queues.rows[queues.starts[group] :]
    size = queues.sizes[group]
    row = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _comes_before(heap[child + 1], heap[child], block):
            child += 1
        if not _comes_before(heap[child], row, block):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = row


@compiled()
def _drop_first(queues: Queues, group: int, block: Block) -> None:
    """Take the first row out of its queue."""
    start = queues.starts[group]
    queues.sizes[group] -= 1
    queues.rows[start] = queues.rows[start + queues.sizes[group]]
    if queues.sizes[group] > 0:
        _sink(queues, group, 0, block)


@compiled()
def _line_up(block: Block, edges: Edges) -> Queues:
    """Return the queues of the rows that come before all others of their group outside."""
    sizes = np.zeros(len(edges.key), np.int64)
    for i in range(len(block.names)):
        if leads(block.keys[i], block.names[i], block.groups[i], edges):
            sizes[block.groups[i]] += 1
    starts = np.cumsum(sizes) - sizes
    queues = Queues(np.empty(sizes.sum(), np.int64), starts, sizes)
    ends = starts.copy()
    for i in range(len(block.names)):
        group = block.groups[i]
        if leads(block.keys[i], block.names[i], group, edges):
            queues.rows[ends[group]] = i
            ends[group] += 1
    for group in range(len(sizes)):
        for place in range(sizes[group] // 2 - 1, -1, -1):
            _sink(queues, group, place, block)
    return queues


@compiled()
def _first_group(race: Race, n_centres: int) -> tuple[int, float]:
    """Return the group whose first row has the best bound, and the best bound of the others.

    -1 when a row outside may be better, or there is none. Of equal bounds, those that are out of
    date come first: what comes after such a row in its group may have the same score.
    """
    block = race.block
    best, row, best_score = -1, -1, -np.inf
    rival = outside = -np.inf
    for group in range(len(race.offsets)):
        if race.queues.sizes[group] == 0:
            if race.edges.key[group] > -np.inf:
                outside = max(outside, race.edges.key[group] + race.offsets[group])
            continue
        i = race.queues.rows[race.queues.starts[group]]
        score = block.keys[i] + race.offsets[group]
        better = best < 0 or score > best_score
        if not better and score == best_score and block.seen[row] == n_centres:
            better = block.seen[i] < n_centres or block.names[i] < block.names[row]
        if better:
            rival = best_score
            best, row, best_score = group, i, score
        else:
            rival = max(rival, score)
    if outside >= best_score:
        return -1, rival
    return best, rival


@compiled()
def _compare(i: int, stop: int, race: Race, error: float) -> None:
    """Show a row centres that it has not seen, measuring distances only where it may be nearer."""
    rows, block, trail = race.rows, race.block, race.trail
    norm = np.float64(rows.norms[i])
    squared = rows.best[i]
    for c in range(block.seen[i], stop):
        if trail.names[c] == block.names[i]:  # another object of a candidate that is picked
            block.keys[i] = -np.inf
            return
        total = norm + np.float64(trail.norms[c])
        estimate = total - 2.0 * np.float64(estimated_dot(rows.vectors[i], trail.vectors[c]))
        if estimate - error * total - 1e-36 <= squared:
            squared = min(squared, squared_distance(rows.vectors[i], trail.vectors[c]))
    block.seen[i] = stop
    if squared < rows.best[i]:
        rows.best[i] = squared
        block.keys[i] = key_of(block.constant[i], squared, race.scale)


@compiled()
def _bring_up_to_date(group: int, rival: float, n_centres: int, race: Race, error: float) -> None:
    """Bring the first row of a group up to date, or so far that another one comes first."""
    block, queues = race.block, race.queues
    start, size = queues.starts[group], queues.sizes[group]
    i = queues.rows[start]
    second = -np.inf
    for place in range(start + 1, start + min(size, 3)):
        second = max(second, block.keys[queues.rows[place]])
    while block.seen[i] < n_centres:
        _compare(i, min(block.seen[i] + CENTRES_AT_ONCE, n_centres), race, error)
        key = block.keys[i]
        if key == -np.inf or key < second or key + race.offsets[group] < rival:
            break
    if leads(block.keys[i], block.names[i], group, race.edges):
        _sink(queues, group, 0, block)
    else:
        _drop_first(queues, group, block)


@compiled()
def pick(
    rows: Rows,
    block: Block,
    edges: Edges,
    balances: Balances,
    scale: Scale,
    members: Members,
    picks: NDArray[np.int64],
) -> int:
    """Pick best first while the best is surely in the block; return how many picks were made.

    A row behind its group's edge never comes back (its key only shrinks, offsets are the group's),
    so it is left alone from then on. `rows.best` of a pick stays what it was when it was picked.
    """
    room = min(members.room, len(members.vectors))
    trail = Trail(
        np.empty((room, members.vectors.shape[1]), np.float32),
        np.empty(room, np.float32),
        np.empty(room, np.int64),
    )
    queues = _line_up(block, edges)
    race = Race(rows, block, edges, queues, trail, np.empty(len(edges.key)), scale)
    made = n_centres = 0
    while made < len(picks):
        set_offsets(balances, race.offsets)
        while True:
            group, rival = _first_group(race, n_centres)
            if group < 0:
                return made
            first = queues.rows[queues.starts[group]]
            if block.seen[first] == n_centres:
                break
            _bring_up_to_date(group, rival, n_centres, race, members.error)
        picks[made] = first
        made += 1
        count_pick(balances, group)
        _drop_first(queues, group, block)
        name = block.names[first]
        begin, end = members.offsets[name], members.offsets[name + 1]
        if n_centres + end - begin > room:
            break
        for c in range(begin, end):
            trail.vectors[n_centres] = members.vectors[c]
            trail.norms[n_centres] = members.norms[c]
            trail.names[n_centres] = name
            n_centres += 1
    return made
