"""Near duplicates of many samples, exact, on all threads or a device. Imports numba.

All near pairs are found first, cell by cell (see `cells`); then they are gone through in order. Of
many samples that are all alike there are too many pairs, so samples are gone through in blocks, as
large as pairs allow: what is kept of earlier blocks is compared with a block before its own pairs,
and pairs whose earlier sample is removed by then are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightly_fs.selection import kernels
from lightly_fs.selection.cell_kernels import Limit, Members, Pairs, decide
from lightly_fs.selection.cells import Cells, cell_count
from lightly_fs.selection.distances import squared_lengths
from lightly_fs.selection.heartbeat import Heartbeat
from lightly_fs.selection.products import Compares, rounding_pays, workers_for
from lightly_fs.types import Progress

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

PAIRS_AT_ONCE = 1 << 22
"""Near pairs that are kept in memory, 24 bytes each."""
HITS_AT_ONCE = 1 << 22
"""About how many times a sample is noted as one to compare with a cell, 4 to 8 bytes each."""
CELLS_AT_ONCE = 256
ROWS_AT_ONCE = 8192


class _TooManyPairs(Exception):
    """A block has more near pairs than are kept in memory."""


class _Block(NamedTuple):
    """Consecutive samples.

    Attributes:
        start: The first.
        stop: Beyond the last.
        rows: (R,) int64 the samples by cell, ascending within each.
        bounds: (C + 1,) int64 where the cells begin in `rows`.
    """

    start: int
    stop: int
    rows: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def of(self, cell: int) -> NDArray[np.int64]:
        """Return the samples of a cell."""
        return self.rows[self.bounds[cell] : self.bounds[cell + 1]]


class _Tile(NamedTuple):
    """What is compared at once.

    Attributes:
        columns: (C,) int64 samples of one cell.
        rows: (R,) int64 samples that may be near to one of them.
        n_same: How many of the rows, the first ones, are of that cell.
        done: Which part of the work is done with it.
    """

    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    n_same: int
    done: float


class _Nearest(NamedTuple):
    """(R,) samples, the squared distances of their nearest originals, and these."""

    rows: NDArray[np.int64]
    squared: NDArray[np.float64]
    numbers: NDArray[np.int64]


class NearPairs:
    """The search; samples are numbered by their place in the order.

    Attributes:
        best: (N,) float64 squared distance to the nearest original known; more than `limit` allows
            for those without one.
        nearest: (N,) int64 that original, N for those without one.
        kept: (N,) bool, of samples that have been gone through.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        order: NDArray[np.int64],
        max_distance: float,
        progress: Progress,
    ) -> None:
        self.vectors, self.order, self.progress = vectors, order, progress
        squared = float(np.nextafter(max_distance, np.inf) ** 2 * (1 + 1e-12) + 1e-300)
        self.limit = Limit(float(max_distance), squared)
        self.norms = squared_lengths(vectors)

    def run(self, device: torch.device | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return squared distances and numbers (-1: kept) of the originals, by number."""
        count = len(self.order)
        self.best = np.full(count, self.limit.squared)
        self.nearest = np.full(count, count)
        self.kept = np.ones(count, np.bool_)
        # A device compares all with all in less time than cells take.
        n_cells = cell_count(count) if device is None else 1
        self.cells = Cells(self.vectors, n_cells, Heartbeat(self.progress))
        self.assigned = self.cells.assigned[self.order]
        self.by_cell = np.argsort(self.assigned, kind="stable")
        self.heartbeat = Heartbeat(self.progress)
        self.compared = 0
        rounding = rounding_pays(self.vectors.size * (count // 2), float(self.norms.max()))
        with workers_for(self.vectors.shape[1], rounding=rounding, device=device) as self.workers:
            start, size = 0, count
            while start < count:
                stop = min(start + size, count)
                try:
                    self._advance(start, stop)
                except _TooManyPairs:
                    # A block of the smallest size has not more pairs than that.
                    size = max((stop - start) // 4, math.isqrt(2 * PAIRS_AT_ONCE))
                else:
                    start, size = stop, 4 * size
        self.nearest[np.sqrt(self.best) > self.limit.distance] = -1
        return self.best, self.nearest

    def _advance(self, start: int, stop: int) -> None:
        inside = self.by_cell[(self.by_cell >= start) & (self.by_cell < stop)]
        bounds = np.searchsorted(self.assigned[inside], np.arange(len(self.cells.radii) + 1))
        block = _Block(start, stop, inside, bounds)
        if start and self.compared < stop:
            self._compare_with_kept(block)
            self.compared = stop
        pairs = self._pairs(block)
        pairs = pairs.take(np.argsort(pairs.later, kind="stable"))
        self.kept[start:stop] = np.sqrt(self.best[start:stop]) > self.limit.distance
        decide(pairs, self.kept, self.best, self.nearest)
        self.compared = 0

    def _compare_with_kept(self, block: _Block) -> None:
        """Find the nearest original of the block's samples among those kept before it."""

        def nearest_kept(comparison: Compares, tile: _Tile) -> tuple[_Tile, list[_Nearest]]:
            found = []
            numbers = tile.columns
            vectors = self.vectors[self.order[numbers]]
            centres = kernels.Centres(vectors, self.norms[self.order[numbers]], 0)
            factors = comparison.factors(centres)
            for some in _chunks(tile.rows, comparison.rows_at_once):
                of_rows = self.order[some]
                # Of equally near ones in other cells, too, the lowest number counts.
                best = np.nextafter(self.best[some], np.inf)
                nearest = np.full(len(some), -1)
                mine = comparison.gather(self.vectors, of_rows)
                comparison.see(kernels.Rows(mine, self.norms[of_rows], best, nearest), factors)
                nearer = np.flatnonzero((nearest >= 0) & (np.sqrt(best) <= self.limit.distance))
                if len(nearer):
                    found.append(_Nearest(some[nearer], best[nearer], numbers[nearest[nearer]]))
            return tile, found

        def kept(cell: int) -> NDArray[np.int64]:
            every = self.by_cell[self.cells.starts[cell] : self.cells.starts[cell + 1]]
            every = every[: np.searchsorted(every, block.start)]
            return every[self.kept[every]]

        work = 2 * block.start * (block.stop - block.start)
        tiles = self._tiles(block, kept, symmetric=False)
        for tile, found in self.workers.each(nearest_kept, tiles):
            for each in found:
                best, rows = self.best[each.rows], each.rows
                nearer = each.squared < best
                nearer |= (each.squared == best) & (each.numbers < self.nearest[rows])
                self.best[rows[nearer]] = each.squared[nearer]
                self.nearest[rows[nearer]] = each.numbers[nearer]
            done = block.start**2 + work * tile.done
            self.heartbeat.tell_work("near duplicates", done, len(self.order) ** 2)

    def _pairs(self, block: _Block) -> Pairs:
        """Return the near pairs within a block.

        Raises:
            _TooManyPairs: They are more than fit.
        """

        def near(comparison: Compares, tile: _Tile) -> tuple[_Tile, list[Pairs]]:
            others = self._members(tile.columns, self.vectors[self.order[tile.columns]])
            factors = comparison.factors(kernels.Centres(others.vectors, others.norms, 0))
            found, count, n_same = list[Pairs](), 0, tile.n_same
            for some in _chunks(tile.rows, comparison.rows_at_once):
                mine = self._members(some, comparison.gather(self.vectors, self.order[some]))
                for pairs in comparison.near_pairs(mine, others, factors, self.limit, n_same):
                    found.append(pairs)
                    count += len(pairs.later)
                    if count > PAIRS_AT_ONCE:
                        raise _TooManyPairs
                n_same = max(0, n_same - len(some))
            return tile, found

        size, count = block.stop - block.start, 0
        every = [Pairs.room(0)]
        tiles = self._tiles(block, block.of, symmetric=True)
        for tile, found in self.workers.each(near, tiles):
            every += found
            count += sum(len(each.later) for each in found)
            if count > PAIRS_AT_ONCE:
                raise _TooManyPairs
            done = block.stop**2 - (size * (1 - tile.done)) ** 2
            self.heartbeat.tell_work("near duplicates", done, len(self.order) ** 2)
        return Pairs(
            np.concatenate([each.later for each in every]),
            np.concatenate([each.earlier for each in every]),
            np.concatenate([each.squared for each in every]),
        )

    def _members(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> Members:
        return Members(vectors, self.norms[self.order[numbers]], self.best[numbers], numbers)

    def _tiles(
        self, block: _Block, columns: Callable[[int], NDArray[np.int64]], *, symmetric: bool
    ) -> Iterator[_Tile]:
        """Yield what to compare: columns of a cell with the rows it may hold something near to.

        With `symmetric`, columns are rows, too, and each pair comes once, but those of two columns
        twice.
        """
        n_cells, at_once = len(self.cells.radii), self.workers.tools[0].centres_at_once
        for cell, hits in self._cells(block, symmetric=symmetric):
            every = columns(cell)
            for first in range(0, len(every), at_once):
                rows = np.concatenate([every[first:], hits]) if symmetric else hits
                some = every[first : first + at_once]
                done = (cell + (first + len(some)) / len(every)) / n_cells
                yield _Tile(some, rows, len(every) - first if symmetric else 0, done)

    def _cells(self, block: _Block, *, symmetric: bool) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield the cells, each with the samples of the block that it may hold a near one of.

        With `symmetric`, of later cells alone, so that each pair of cells is looked at once.
        """
        cell, at_once = 0, max(1, min(16, HITS_AT_ONCE // max(1, len(block.rows))))
        while cell < len(self.cells.radii):
            stop = min(cell + at_once, len(self.cells.radii))
            begin = int(block.bounds[cell]) if symmetric else 0
            hits = self._hits(block.rows[begin:], np.arange(cell, stop))
            for other, rows in zip(range(cell, stop), hits, strict=True):
                later = np.searchsorted(self.assigned[rows], other, side="right")
                yield other, rows[later:] if symmetric else rows
            most = max(1, *(len(rows) for rows in hits))
            cell, at_once = stop, max(1, min(CELLS_AT_ONCE, HITS_AT_ONCE // most))

    def _hits(self, rows: NDArray[np.int64], cells: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return for each of consecutive cells which of the rows it may hold a near one of."""
        if len(self.cells.radii) == 1:
            return [rows]
        pivots = slice(int(cells[0]), int(cells[-1]) + 1)

        def find(_: Compares, some: NDArray[np.int64]) -> list[NDArray[np.int64]]:
            of_rows = self.order[some]
            squared = self.cells.estimates(self.vectors[of_rows], pivots)
            within = np.minimum(np.sqrt(self.best[some]), self.limit.distance)
            found = self.cells.may_hold(squared, of_rows, within, cells)
            return [some[np.flatnonzero(column)] for column in found.T]

        parts = list(self.workers.each(find, _chunks(rows, ROWS_AT_ONCE)))
        return (
            [np.concatenate(each) for each in zip(*parts, strict=True)]
            if parts
            else [rows for _ in cells]
        )


def _chunks(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
