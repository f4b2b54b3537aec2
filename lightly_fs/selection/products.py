"""Compare rows with centres by dot products: in bfloat16 where that is less work, else float32.

A processor with instructions for bfloat16 multiplies several times as many of them as of float32.
Such estimates are coarse (`distances.rounded_slack`), so more pairs have to be looked at again.
What is found is the same: only measured distances decide. Importing this module imports numba.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from lightly_fs.cpus import usable_cpus
from lightly_fs.selection import kernels
from lightly_fs.selection.cell_kernels import Limit, Members, Pairs, near_pairs
from lightly_fs.selection.distances import rounded_slack, slack
from lightly_fs.workers import Workers

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

CHUNK_BYTES = 512 << 10
"""Vectors that one thread compares at once: they and their products stay in its cache."""
SHAPE = 64
"""Numbers of rows and centres that are multiplied in bfloat16 are multiples of this."""
LARGE_TERMS = 50_000_000_000
"""Of fewer, float32 products take a second at most."""
LARGEST_NORM = 1e37
"""Of squared lengths: products then stay away from the largest bfloat16, 3.39e38."""
PAIRS_PER_CLOSE = 64
"""To look at a close pair takes about 40 times what bfloat16 saves on it, as measured."""
PAIRS_ON_CREDIT = 1 << 24
"""The first centres are nearest to many rows; this many pairs take a tenth of a second at most."""
FEWEST_CENTRES = 64
"""Of fewer, one in a few is close to a row, and measuring counts for more than products."""
PAIRS_HERE = 1 << 16
"""So many take a millisecond at most, and to hand them to another thread a tenth of one."""
PAIRS_IN_ROOM = 1 << 14
CENTRES_AT_ONCE = 512
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has instructions for products of bfloat16."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return False
    return not _INSTRUCTIONS.isdisjoint(flags.split())


def rounding_pays(n_terms: int, largest_norm: float) -> bool:
    """Return whether to begin with products in bfloat16: torch makes them, where it is loaded.

    To load it would take more memory than the search, for a fifth of the time.

    Args:
        n_terms: Rows x centres x dimensions, if all pairs were multiplied.
        largest_norm: The largest squared length of any row or centre.
    """
    if n_terms < LARGE_TERMS or not largest_norm < LARGEST_NORM:
        return False
    if "torch" not in sys.modules or not multiplies_bfloat16():
        return False
    import torch

    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class Factors(NamedTuple):
    """Centres, ready to be multiplied with.

    Attributes:
        centres: C centres.
        rounded: For products in bfloat16 their (D, C) vectors in that, followed by zeros.
        placed: For a device their (C, D) vectors and (C,) squared lengths, there.
    """

    centres: kernels.Centres
    rounded: torch.Tensor | None
    placed: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def of(cls, centres: kernels.Centres, *, rounding: bool) -> Factors:
        """Prepare centres for many comparisons."""
        if not rounding or len(centres.norms) < FEWEST_CENTRES:
            return cls(centres, None)
        import torch

        count, dimensions = centres.vectors.shape
        rounded = torch.zeros((_whole(count), dimensions), dtype=torch.bfloat16)
        rounded[:count] = torch.from_numpy(centres.vectors)
        return cls(centres, rounded.T)


def _whole(count: int) -> int:
    """Round up: torch compiles a kernel for each new shape, which takes longer than to use it."""
    return -(-count // SHAPE) * SHAPE


class Products(NamedTuple):
    """Dot products of rows and centres, and how much estimates made of them are off.

    Attributes:
        values: (R, C) float32, or bits of bfloat16 in uint16; R and C are those of the rows and
            centres or more.
        error: `slack` or `rounded_slack` of the dimensions.
        finer_error: `slack` where pairs are to be estimated again in float32 before they are
            measured, else inf.
    """

    values: NDArray[Any]
    error: float
    finer_error: float


class Compares(Protocol):
    """What compares tiles of samples: `Comparison`, or `device.DeviceComparison`."""

    rows_at_once: int
    centres_at_once: int
    rounding: bool

    def gather(
        self, vectors: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]: ...

    def factors(self, centres: kernels.Centres) -> Factors: ...

    def see(self, rows: kernels.Rows, factors: Factors) -> None: ...

    def keep_nearest(
        self, rows: kernels.Neighbours, others: kernels.Neighbours, factors: Factors
    ) -> None: ...

    def near_pairs(
        self, rows: Members, others: Members, factors: Factors, limit: Limit, n_same: int
    ) -> Iterator[Pairs]: ...


def comparisons_for(
    dimensions: int,
    *,
    rounding: bool,
    device: torch.device | None = None,
    n_centres: int = CENTRES_AT_ONCE,
) -> list[Compares]:
    """Return one for each CPU, or the one that leaves products to a device.

    Args:
        dimensions: Of the vectors.
        rounding: Whether to begin with products in bfloat16.
        device: None for the CPU.
        n_centres: How many centres a thread compares at once.
    """
    if device is not None:
        from lightly_fs.selection.device import DeviceComparison

        return [DeviceComparison(dimensions, device)]
    return [Comparison(dimensions, n_centres, rounding=rounding) for _ in range(usable_cpus())]


def workers_for(
    dimensions: int, *, rounding: bool, device: torch.device | None
) -> Workers[Compares]:
    """Return the threads of `comparisons_for`."""
    return Workers(comparisons_for(dimensions, rounding=rounding, device=device))


class Comparison:
    """Compares rows with centres; of one thread.

    Products are made in bfloat16 as long as that has saved more than looking again at close pairs
    cost. Distances that decide shrink while centres are added, so coarse estimates tell fewer and
    fewer of them apart: once float32 is the better choice, it stays so.

    Attributes:
        rows_at_once: R, up to which number of rows is compared at once.
        centres_at_once: C, the same of centres.
        rounding: Whether products are made in bfloat16.
        pairs: How many of them were made in bfloat16.
        close: How many of those pairs bfloat16 could not tell from what decides.
    """

    def __init__(self, dimensions: int, n_centres: int, *, rounding: bool) -> None:
        self.rounding = rounding
        self.pairs = self.close = 0
        self._error = slack(dimensions)
        self._rounded_error = rounded_slack(dimensions)
        # Written again and again, since fresh pages cost as much as products in bfloat16.
        self.rows_at_once = _whole(max(256, CHUNK_BYTES // (4 * dimensions)))
        self.centres_at_once = n_centres
        self._vectors = np.empty((self.rows_at_once, dimensions), np.float32)
        self._rounded = np.zeros((self.rows_at_once if rounding else 0, dimensions), np.int16)
        self._products = np.empty(self.rows_at_once * _whole(n_centres), np.float32)

    def gather(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return up to R of the vectors, in the same place every time."""
        chosen = self._vectors[: len(rows)]
        # "raise" would copy twice
        return np.take(vectors, rows, axis=0, out=chosen, mode="clip")

    def factors(self, centres: kernels.Centres) -> Factors:
        """Prepare up to C centres for many comparisons."""
        return Factors.of(centres, rounding=self.rounding)

    def see(self, rows: kernels.Rows, factors: Factors) -> None:
        """Bring `best` and `nearest` of the rows up to date with centres."""
        products = self._multiply(rows.vectors, factors)
        self._count(products, kernels.see(rows, factors.centres, *products), len(rows.best))

    def keep_nearest(
        self, rows: kernels.Neighbours, others: kernels.Neighbours, factors: Factors
    ) -> None:
        """Keep the smallest distances of the rows to others, whose vectors the factors are."""
        products = self._multiply(rows.vectors, factors)
        self._count(products, kernels.keep_nearest(rows, others, *products), len(rows.norms))

    def near_pairs(
        self, rows: Members, others: Members, factors: Factors, limit: Limit, n_same: int
    ) -> Iterator[Pairs]:
        """Yield the near pairs; see `cell_kernels.near_pairs`."""
        products = self._multiply(rows.vectors, factors)
        start = 0
        while start < len(rows.norms):
            found = Pairs.room(PAIRS_IN_ROOM + len(others.norms))
            count, stop, close = near_pairs(rows, others, products, limit, found, (start, n_same))
            self._count(products, close, stop - start)
            if count:
                yield found.take(slice(count))
            start = stop

    def _multiply(self, vectors: NDArray[np.float32], factors: Factors) -> Products:
        count = len(vectors)
        if factors.rounded is None or not self.rounding:
            centres = factors.centres.vectors
            shape = count, len(centres)
            products = self._products[: math.prod(shape)].reshape(shape)
            np.matmul(vectors, centres.T, out=products)
            return Products(products, self._error, math.inf)
        import torch

        rounded = torch.from_numpy(self._rounded[: _whole(count)]).view(torch.bfloat16)
        rounded[:count] = torch.from_numpy(vectors)
        shape = len(rounded), factors.rounded.shape[1]
        bits = self._products.view(np.uint16)[: math.prod(shape)].reshape(shape)
        torch.mm(rounded, factors.rounded, out=torch.from_numpy(bits).view(torch.bfloat16))
        return Products(bits, self._rounded_error, self._error)

    def _count(self, products: Products, close: int, n_rows: int) -> None:
        """Go back to float32 when close pairs have cost more than bfloat16 has saved."""
        if products.finer_error < products.error:
            self.pairs += n_rows * products.values.shape[1]
            self.close += close
            self.rounding = self.close * PAIRS_PER_CLOSE <= self.pairs + PAIRS_ON_CREDIT


def compare(
    workers: Workers[Compares],
    rows: NDArray[np.int64],
    centres: kernels.Centres,
    see: Callable[[Compares, NDArray[np.int64], Factors], None],
) -> None:
    """Let every thread see some of the rows, a tile at a time; they do not depend on one another.

    Args:
        workers: The threads.
        rows: (R,) which of the samples to bring up to date.
        centres: With which centres.
        see: Called with a thread's comparison, as many rows as it compares at once, and the
            centres ready to be multiplied with.
    """
    coarsest = max(workers.tools, key=lambda comparison: comparison.rounding)
    few = len(centres.norms) < FEWEST_CENTRES and len(rows) * len(centres.norms) <= PAIRS_HERE
    each = workers.here if few else workers.each
    # In a worker too: torch would start threads for this one, which then wait in a loop.
    (factors,) = each(lambda _, given: coarsest.factors(given), [centres])

    def see_part(comparison: Compares, part: NDArray[np.int64]) -> None:
        for start in range(0, len(part), comparison.rows_at_once):
            see(comparison, part[start : start + comparison.rows_at_once], factors)

    for _ in each(see_part, [rows] if few else np.array_split(rows, workers.count)):
        pass
