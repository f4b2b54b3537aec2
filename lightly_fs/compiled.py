"""Compile inner loops with numba. Importing this module imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

REORDERED = frozenset({"reassoc", "contract", "nsz", "nnan"})
"""What the compiler may assume of estimates: any order of summation, no NaN."""


def compiled(*, fastmath: frozenset[str] = frozenset()) -> Callable[[_Function], _Function]:
    """Compile without the global lock, and keep the result on disk where there is a place for it.

    Args:
        fastmath: What the compiler may assume of floating point; by default nothing, so that it
            neither reorders nor fuses and results are the same everywhere.
    """

    def decorate(function: _Function) -> _Function:
        assumed = set(fastmath)
        try:
            return cast("_Function", njit(nogil=True, cache=True, fastmath=assumed)(function))
        except RuntimeError:  # neither the package's directory nor the home can be written
            return cast("_Function", njit(nogil=True, fastmath=assumed)(function))

    return decorate
