"""Compare rows with centres by dot products: in bfloat16 where that is less work, else float32.

A processor with instructions for bfloat16 multiplies several times as many of them as of float32.
Such estimates are coarse (`distances.rounded_slack`), so more pairs have to be looked at again.
What is found is the same: only measured distances decide. Importing this module imports numba.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from lightly_fs.selection import kernels
from lightly_fs.selection.distances import rounded_slack, slack

if TYPE_CHECKING:
    import torch

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


def one_thread() -> None:
    """Keep torch from starting more threads for products that the calling thread makes."""
    if "torch" in sys.modules:
        import torch

        torch.get_num_threads()  # sets the number itself when a thread asks for the first time
        threadpool_limits(1, "openmp")  # in this thread alone


class Factors(NamedTuple):
    """Centres, and for products in bfloat16 their (D, C) vectors in that, followed by zeros."""

    centres: kernels.Centres
    rounded: torch.Tensor | None

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


class Comparison:
    """Brings rows up to date with centres; of one thread.

    Products are made in bfloat16 as long as that has saved more than looking again at close pairs
    cost. Distances that decide shrink while centres are added, so coarse estimates tell fewer and
    fewer of them apart: once float32 is the better choice, it stays so.

    Attributes:
        vectors: (R, D) float32, where to put vectors of up to R rows before they are compared.
        rounding: Whether products are made in bfloat16.
        pairs: How many of them were made in bfloat16.
        close: How many of those pairs bfloat16 could not tell from the best known one.
    """

    def __init__(self, dimensions: int, n_centres: int, *, rounding: bool) -> None:
        self.rounding = rounding
        self.pairs = self.close = 0
        self._error = slack(dimensions)
        self._rounded_error = rounded_slack(dimensions)
        # Written again and again, since fresh pages cost as much as products in bfloat16.
        n_rows = _whole(max(256, CHUNK_BYTES // (4 * dimensions)))
        self.vectors = np.empty((n_rows, dimensions), np.float32)
        self._rounded = np.zeros((n_rows if rounding else 0, dimensions), np.int16)
        self._products = np.empty(n_rows * _whole(n_centres), np.float32)

    def see(self, rows: kernels.Rows, factors: Factors) -> None:
        """Bring `best` and `nearest` of the rows up to date with at most `n_centres` centres."""
        centres = factors.centres
        count = len(rows.best)
        if factors.rounded is None or not self.rounding:
            shape = count, len(centres.norms)
            products = self._products[: math.prod(shape)].reshape(shape)
            np.matmul(rows.vectors, centres.vectors.T, out=products)
            kernels.see(rows, centres, products, self._error)
            return
        import torch

        rounded = torch.from_numpy(self._rounded[: _whole(count)]).view(torch.bfloat16)
        rounded[:count] = torch.from_numpy(rows.vectors)
        shape = len(rounded), factors.rounded.shape[1]
        bits = self._products.view(np.uint16)[: math.prod(shape)].reshape(shape)
        torch.mm(rounded, factors.rounded, out=torch.from_numpy(bits).view(torch.bfloat16))
        self.pairs += count * len(centres.norms)
        self.close += kernels.see(rows, centres, bits, self._rounded_error, self._error)
        self.rounding = self.close * PAIRS_PER_CLOSE <= self.pairs + PAIRS_ON_CREDIT
