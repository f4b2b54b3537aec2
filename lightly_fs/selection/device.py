"""Products on a device that torch knows, such as a GPU: they leave out what need not be measured.

The device estimates distances in float32 and returns only the pairs that its estimates cannot rule
out, with the same proven error as on the CPU (`distances.slack`). What decides is measured by the
CPU, by the one definition. So what is found does not depend on the device. torch is imported when
it is loaded already, never for a selection alone. Importing this module imports numba.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from lightly_fs.selection import kernels
from lightly_fs.selection.cell_kernels import Limit, Members, Pairs
from lightly_fs.selection.distances import slack
from lightly_fs.selection.products import Factors

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

ROWS_AT_ONCE = 8192
VECTOR_BYTES = 16 << 20
"""Of vectors that stay on the device while rows are compared with them."""
COLUMNS_AT_ONCE = 8192
"""Estimates of so many columns are made at once: with 8,192 rows, 256 MiB and as much besides."""
FEWEST_COLUMNS = 256
PAIRS_AT_ONCE = 1 << 22
"""Pairs that are returned at once, 16 bytes each."""
NO_MEMORY = "%s has no memory left to select with; the CPU selects instead"


class DeviceMemoryError(Exception):
    """Not even a small tile fits into what is left of the device's memory."""


def on_device(device: str, search: Callable[[torch.device | None], Found]) -> Found:
    """Search with products made where `device` says, and on the CPU when there is no room.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`, as in the configuration.
        search: Called with a device or None; finds the same everywhere.
    """
    where = find_device(device)
    if where is not None:
        try:
            with exact_products():
                return search(where)
        except DeviceMemoryError:
            logger.warning(NO_MEMORY, where)
    return search(None)


def find_device(device: str) -> torch.device | None:
    """Return the GPU to use; None for the CPU, or where torch is not loaded or has none."""
    if device == "cpu" or "torch" not in sys.modules:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.device("cuda" if device == "auto" else device)
    return found if (found.index or 0) < torch.cuda.device_count() else None


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply float32 as such meanwhile: TensorFloat-32 is off by more than `slack`."""
    import torch

    matmul = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # since torch 2.9
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set in the newer way alone
        older = "highest"
    torch.set_float32_matmul_precision("highest")  # sets both
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer


class DeviceComparison:
    """Does what `products.Comparison` does, with products made by a device.

    Attributes:
        rows_at_once: Up to which number of rows is compared at once.
        centres_at_once: The same of centres, which are kept on the device.
        columns_at_once: Of how many centres estimates are made at once; halved until they fit.
    """

    rounding = False

    def __init__(self, dimensions: int, device: torch.device) -> None:
        self.device = device
        self.rows_at_once = ROWS_AT_ONCE
        self.centres_at_once = max(FEWEST_COLUMNS, VECTOR_BYTES // (4 * dimensions))
        self.columns_at_once = COLUMNS_AT_ONCE
        self._error = slack(dimensions)

    def gather(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some of the vectors."""
        return vectors[rows]

    def factors(self, centres: kernels.Centres) -> Factors:
        """Put centres on the device.

        Raises:
            DeviceMemoryError: They do not fit.
        """
        with _out_of_memory_is_ours():
            return Factors(centres, None, (self._put(centres.vectors), self._put(centres.norms)))

    def see(self, rows: kernels.Rows, factors: Factors) -> None:
        """Bring `best` and `nearest` of the rows up to date with centres."""
        centres = factors.centres
        for i, j in self._close(rows.vectors, rows.norms, factors, rows.best, 1):
            squared = kernels.pair_distances((rows.vectors, i), (centres.vectors, j))
            order = np.lexsort((j, squared, i))
            order = order[np.diff(i[order], prepend=-1) > 0]  # the nearest of each row
            order = order[squared[order] < rows.best[i[order]]]
            rows.best[i[order]] = squared[order]
            rows.nearest[i[order]] = centres.first + j[order]

    def keep_nearest(
        self, rows: kernels.Neighbours, others: kernels.Neighbours, factors: Factors
    ) -> None:
        """Keep the smallest distances of the rows to others, whose vectors the factors are."""
        ceilings = rows.kept[:, -1].copy()
        count = rows.kept.shape[1] + 1  # one of them may be the row itself
        for i, j in self._close(rows.vectors, rows.norms, factors, ceilings, count):
            different = rows.names[i] != others.names[j]
            one, other = i[different], j[different]
            squared = kernels.pair_distances((rows.vectors, one), (others.vectors, other))
            kernels.keep_measured(rows.kept, one, squared)

    def near_pairs(
        self, rows: Members, others: Members, factors: Factors, limit: Limit, n_same: int
    ) -> Iterator[Pairs]:
        """Yield the near pairs; see `cell_kernels.near_pairs`."""
        ceilings = np.full(len(rows.norms), limit.squared)
        for each, every in self._close(rows.vectors, rows.norms, factors, ceilings, 0):
            row_is_later = rows.numbers[each] > others.numbers[every]
            first = np.where(row_is_later, others.best[every], rows.best[each])
            possible = ((each >= n_same) | row_is_later) & (first >= limit.squared)
            i, j = each[possible], every[possible]
            squared = kernels.pair_distances((rows.vectors, i), (others.vectors, j))
            known = np.where(row_is_later[possible], rows.best[i], others.best[j])
            near = (np.sqrt(squared) <= limit.distance) & (squared < known)
            one, other = rows.numbers[i[near]], others.numbers[j[near]]
            yield Pairs(np.maximum(one, other), np.minimum(one, other), squared[near])

    def _close(
        self,
        vectors: NDArray[np.float32],
        norms: NDArray[np.float32],
        factors: Factors,
        ceilings: NDArray[np.float64],
        count: int,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield pairs of rows and centres: all that may be among those asked for.

        Args:
            vectors: (R, D) float32.
            norms: (R,) float32 squared lengths.
            factors: C centres.
            ceilings: (R,) largest squared distance that is asked for.
            count: How many of the nearest centres of each row are asked for; 0 for all.

        Raises:
            DeviceMemoryError: Not even a small part of the centres can be compared at once.
        """
        import torch

        centres, lengths = cast("tuple[torch.Tensor, torch.Tensor]", factors.placed)
        norm = norms.astype(np.float64)
        margin = self._error * (norm + float(factors.centres.norms.max())) + kernels.VANISHING
        with _out_of_memory_is_ours():
            rows = self._put(vectors)
            bounds, twice = self._put(ceilings - norm + margin), self._put(2.0 * margin)
        start = 0
        while start < len(centres):
            part = slice(start, start + self.columns_at_once)
            try:
                estimates = torch.mm(rows, centres[part].T).mul_(-2.0).add_(lengths[part])
                if 0 < count <= estimates.shape[1]:
                    worst = estimates.topk(count, dim=1, largest=False).values[:, -1]
                    bounds = torch.minimum(bounds, worst.double() + twice)
                # Rounded up, and so that what is not a number is not ruled out.
                highest = torch.nextafter(bounds.float(), torch.full_like(lengths[:1], math.inf))
                possible = estimates.gt_(highest[:, None]).eq(0.0)
            except torch.OutOfMemoryError as error:
                self.columns_at_once = _half(self.columns_at_once, self.device, error)
                continue
            del estimates
            for i, j in _true(possible):
                yield i, j + start
            start = part.stop

    def _put(self, values: NDArray[np.float32] | NDArray[np.float64]) -> torch.Tensor:
        return _put(values, self.device)


class DeviceBounds:
    """All samples on a device, to say by how much gains surely shrink; see `representativeness`.

    In float64, which is exact enough to need no care of how a device rounds.

    Attributes:
        columns_at_once: As of `DeviceComparison`.
    """

    def __init__(self, vectors: NDArray[np.float32], device: torch.device) -> None:
        self.device = device
        self.columns_at_once = COLUMNS_AT_ONCE
        self._error = slack(vectors.shape[1], 53)
        with _out_of_memory_is_ours():
            self._vectors = _put(vectors, device)

    def lost(
        self,
        nearer: NDArray[np.float64],
        before: NDArray[np.float64],
        now: NDArray[np.float64],
        squared_largest: float,
    ) -> NDArray[np.float64]:
        """Return (N,) by how much the gains of all samples have surely shrunk.

        Args:
            nearer: (R, D) samples that the last pick came nearer to.
            before: (R,) their similarities to the selection before that.
            now: (R,) and now.
            squared_largest: The squared distance at which similarity is 0.

        Raises:
            DeviceMemoryError: Not even a small part of the samples can be compared at once.
        """
        import torch

        with _out_of_memory_is_ours():
            rows, most = _put(nearer, self.device), _put(now - before, self.device)[:, None]
            known = _put(before, self.device)[:, None]
            lengths = rows.square().sum(dim=1, keepdim=True)
        found = np.empty(len(self._vectors))
        start = 0
        while start < len(found):
            part = slice(start, start + self.columns_at_once)
            try:
                others = self._vectors[part].double()
                total = lengths + others.square().sum(dim=1)
                farthest = torch.mm(rows, others.T).mul_(-2.0).add_(total)
                farthest.add_(total.mul_(self._error)).add_(kernels.VANISHING)
                each = torch.minimum(1.0 - farthest.div_(squared_largest) - known, most)
                # The grid of similarities, and all that is rounded here and in the bound.
                found[part] = each.sub_(4e-9).clamp_(min=0.0).sum(dim=0).cpu().numpy()
            except torch.OutOfMemoryError as error:
                self.columns_at_once = _half(self.columns_at_once, self.device, error)
                continue
            start = part.stop
        return found


def _true(
    possible: torch.Tensor,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield which of (R, C) are true, by row."""
    at_once = len(possible)
    if int(possible.count_nonzero()) > PAIRS_AT_ONCE:
        at_once = max(1, PAIRS_AT_ONCE // possible.shape[1])
    for start in range(0, len(possible), at_once):
        with _out_of_memory_is_ours():
            i, j = possible[start : start + at_once].nonzero(as_tuple=True)
        yield i.cpu().numpy() + start, j.cpu().numpy()


def _half(columns: int, device: torch.device, error: torch.OutOfMemoryError) -> int:
    """Return how many columns to try next.

    Raises:
        DeviceMemoryError: Fewer are not worth it.
    """
    import torch

    if columns // 2 < FEWEST_COLUMNS:
        raise DeviceMemoryError from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return columns // 2


def _put(values: NDArray[np.float32] | NDArray[np.float64], device: torch.device) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(values)).to(device)


@contextmanager
def _out_of_memory_is_ours() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError from error
