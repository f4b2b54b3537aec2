"""Threads that make products of matrices, each its own ones."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from typing import Self

Tool = TypeVar("Tool")
Item = TypeVar("Item")
Found = TypeVar("Found")


class Workers(Generic[Tool]):
    """As many threads as there are tools, which hold what one task at a time may write to.

    While they work, no product of matrices starts threads of its own. They are started when they
    are first needed, and end with the context, or with the last reference.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.count = len(tools)
        self._free: SimpleQueue[Tool] = SimpleQueue()
        for tool in tools:
            self._free.put(tool)
        self._pool = ThreadPoolExecutor(self.count, "worker", initializer=one_thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def each(self, task: Callable[[Tool, Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Yield what the task makes of each item, in order, a few items ahead.

        Nothing of it runs any more when one of them has failed or the caller has had enough.
        """
        running: deque[Future[Found]] = deque()
        limits = _libraries(with_torch="torch" in sys.modules).limit(limits=1, user_api="blas")
        try:
            for item in items:
                running.append(self._pool.submit(self._do, task, item))
                if len(running) > 2 * self.count:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
            wait(running)
            limits.restore_original_limits()

    def here(self, task: Callable[[Tool, Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Do the same in the calling thread, for what takes less than to hand it over."""
        return (self._do(task, item) for item in items)

    def _do(self, task: Callable[[Tool, Item], Found], item: Item) -> Found:
        tool = self._free.get()
        try:
            return task(tool, item)
        finally:
            self._free.put(tool)


@cache
def _libraries(*, with_torch: bool) -> ThreadpoolController:  # noqa: ARG001 - the key
    """Return the loaded libraries that have threads: to look for them takes milliseconds."""
    return ThreadpoolController()


def one_thread() -> None:
    """Keep torch from starting more threads for products that the calling thread makes."""
    if "torch" in sys.modules:
        import torch

        torch.get_num_threads()  # sets the number itself when a thread asks for the first time
        _libraries(with_torch=True).limit(limits=1, user_api="openmp")  # in this thread alone
