"""Threads that compare tiles of samples, each with memory of its own."""

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

    A context manager: meanwhile no product of matrices starts threads of its own.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self._free: SimpleQueue[Tool] = SimpleQueue()
        for tool in tools:
            self._free.put(tool)
        self.count = len(tools)

    def __enter__(self) -> Self:
        self._limits = _libraries(with_torch="torch" in sys.modules).limit(
            limits=1, user_api="blas"
        )
        self._pool = ThreadPoolExecutor(self.count, "compare", initializer=one_thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()

    def each(self, task: Callable[[Tool, Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Yield what the task makes of each item, in order, a few items ahead.

        Nothing of it runs any more when one of them has failed or the caller has had enough.
        """
        running: deque[Future[Found]] = deque()
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

    def _do(self, task: Callable[[Tool, Item], Found], item: Item) -> Found:
        tool = self._free.get()
        try:
            return task(tool, item)
        finally:
            self._free.put(tool)


class Alone(Workers[Tool]):
    """The calling thread with the first tool: for work that takes less than to start threads."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools[:1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def each(self, task: Callable[[Tool, Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """Yield what the task makes of each item, in order."""
        return (task(self.tools[0], item) for item in items)


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
