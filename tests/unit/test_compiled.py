"""Compiled loops run where nothing can be written, too."""

from collections.abc import Callable

import numba
import pytest

from lightly_fs.compiled import compiled


def test_loops_compile_where_nothing_can_be_kept() -> None:
    """Without a writable place for its cache, numba refuses to compile for the cache at all."""
    namespace: dict[str, Callable[[int], int]] = {}
    exec("def double(value): return 2 * value", namespace)
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(namespace["double"])
    assert compiled()(namespace["double"])(21) == 42
