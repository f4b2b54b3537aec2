"""A large file in blocks: many handles read it, each block is fetched once, a few ahead of them."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightly_fs.errors import LightlyFSError
from lightly_fs.types import Failure, Outcome, Sample

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Buffer = bytes | memoryview
Fetch = Callable[[int, int], Future[Buffer | Failure]]
"""From an offset and a number of bytes to these bytes; begins and does not wait."""

BLOCK_BYTES = 8 << 20
"""Large enough that a request's round trip does not count, small enough to be tried again."""
_KEPT = 16
_KEPT_PER_HANDLE = 8
_AHEAD = 3
_SEQUENTIAL_BYTES = 1 << 20
_RECENT = 4


class RangedReadError(Exception):
    """A block could not be read: the end of its sample.

    Attributes:
        outcome: How the sample ends: gone, failed or unreadable.
        reason: Why, for people.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(eq=False)
class _Block:
    result: Future[Buffer | Failure]
    waiting: int = 0
    """Threads that wait for it: such a block is neither cancelled nor forgotten."""


class RangedFile:
    """A file of a datasource that is read in pieces, by as many threads as there are handles.

    A block has 8 MiB; the last one has the rest too, up to twice that, so that an index at the
    end of a file lies within one block and a small file costs one request. Blocks are shared
    among the handles. Eight are kept per handle, 16 at most, the least recently used go first;
    the first and the last stay, because every new look at a video begins with them. Each handle
    holds on to the block it is in.
    """

    def __init__(
        self,
        sample: Sample,
        fetch: Fetch,
        *,
        release: Callable[[], None] | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """Prepare; nothing is read before a handle reads.

        Args:
            sample: What is read.
            fetch: Reads a part of it.
            release: Called when the file is closed.
            block_bytes: Size of all blocks but the last.
        """
        self.size = sample.size
        self._fetch, self._release, self._block_bytes = fetch, release, block_bytes
        self._n_blocks = max(1, sample.size // block_bytes)
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        # Reentrant: a handle that nobody refers to is closed wherever its thread happens to be.
        self._lock = threading.RLock()
        self._n_handles = 0
        self._closed = False
        self._error: RangedReadError | LightlyFSError | None = None

    @property
    def error(self) -> RangedReadError | None:
        """What first went wrong, for whoever reads through a library that swallows exceptions.

        After an error every further read of any handle raises it again.

        Raises:
            LightlyFSError: Not the file but the system is broken.
        """
        if isinstance(self._error, LightlyFSError):
            raise self._error
        return self._error

    def handle(self) -> RangedHandle:
        """Return a new file object at position 0, for one thread at a time.

        Raises:
            ValueError: The file is closed.
            RangedReadError: It could not be read before.
            LightlyFSError: The system was broken before.
        """
        with self._lock:
            self._require_open()
            self._n_handles += 1
        return RangedHandle(self)

    def close(self) -> None:
        """Forget all blocks; a thread that waits for one gets a `ValueError`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for block in self._blocks.values():
                block.result.cancel()
            self._blocks.clear()
        if self._release is not None:
            self._release()

    def _forget_handle(self) -> None:
        with self._lock:
            self._n_handles -= 1

    def _number_at(self, offset: int) -> int:
        return min(offset // self._block_bytes, self._n_blocks - 1)

    def _span(self, number: int) -> tuple[int, int]:
        """Return a block's offset and its number of bytes."""
        first = number * self._block_bytes
        last = number == self._n_blocks - 1
        return first, self.size - first if last else self._block_bytes

    def _block(self, number: int, *, ahead: bool) -> memoryview:
        """Return a block's bytes, fetching it unless it is here or on its way."""
        with self._lock:
            block = self._wanted(number)
            block.waiting += 1
            if ahead:
                self._read_ahead(number)
            self._shrink()
        try:
            result = block.result.result()
        except CancelledError:
            raise ValueError("the file was closed while it was read") from None
        except LightlyFSError as broken:
            self._fail(broken)
            raise
        finally:
            with self._lock:
                block.waiting -= 1
        if isinstance(result, Failure):
            error = RangedReadError(result.outcome, result.reason)
            self._fail(error)
            raise error
        return memoryview(result)

    def _read_ahead(self, number: int) -> None:
        """Begin to fetch the blocks behind one, as many as there is room for."""
        with self._lock:
            room = self._capacity() // max(1, self._n_handles) - 1
            following = range(number + 1, number + 1 + min(_AHEAD, room))
            for other in following:
                if other < self._n_blocks:
                    self._wanted(other)
            self._shrink()

    def _wanted(self, number: int) -> _Block:
        self._require_open()
        if number not in self._blocks:
            self._blocks[number] = _Block(self._fetch(*self._span(number)))
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _capacity(self) -> int:
        return min(_KEPT, _KEPT_PER_HANDLE * max(1, self._n_handles))

    def _shrink(self) -> None:
        surplus = len(self._blocks) - self._capacity()
        for number, block in list(self._blocks.items()):
            if surplus <= 0:
                break
            if number not in (0, self._n_blocks - 1) and not block.waiting:
                del self._blocks[number]
                block.result.cancel()
                surplus -= 1

    def _fail(self, error: RangedReadError | LightlyFSError) -> None:
        with self._lock:
            self._error = self._error or error

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on a closed file")
        if self._error is not None:
            raise self._error


class RangedHandle(io.RawIOBase):
    """A position in a `RangedFile`; reads are whole except at the end of the file.

    Blocks are fetched ahead once a handle has read 1 MiB without moving elsewhere, or enters the
    block behind one that it was in lately: so a reader that goes back and forth between two
    places of a file (its pictures and its sound) is sequential in both.
    """

    def __init__(self, file: RangedFile) -> None:
        super().__init__()
        self._file, self._position, self._run = file, 0, 0
        self._number, self._start = -1, 0
        self._bytes = memoryview(b"")
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._is_ahead = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move; a position behind the end is one where nothing is read.

        Raises:
            ValueError: The position is before the beginning, or `whence` is unknown.
        """
        self._require_open()
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}
        if whence not in starts:
            raise ValueError(f"whence is {whence}, and must be 0, 1 or 2")
        position = starts[whence] + offset
        if position < 0:
            raise ValueError(f"position {position} is before the beginning of the file")
        if position != self._position:
            self._position, self._run = position, 0
        return position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, fewer at the end of the file; all that follow for -1.

        Raises:
            RangedReadError: Storage did not deliver them.
            LightlyFSError: Not the file but the system is broken.
            ValueError: The handle or the file is closed.
        """
        return b"".join(self._pieces(-1 if size is None else size))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as the file goes; raises as `read`."""
        target, n = memoryview(buffer).cast("B"), 0
        for piece in self._pieces(len(target)):
            target[n : n + len(piece)] = piece
            n += len(piece)
        return n

    def close(self) -> None:
        """Let go of the block; the file stays open for other handles."""
        if not self.closed:
            self._bytes, self._number = memoryview(b""), -1
            self._file._forget_handle()
        super().close()

    def _pieces(self, n: int) -> Iterator[memoryview]:
        self._require_open()
        self._file._require_open()
        left = max(0, self._file.size - self._position)
        left = left if n < 0 else min(n, left)
        while left:
            self._enter(self._file._number_at(self._position))
            first = self._position - self._start
            piece = self._bytes[first : first + left]
            self._position += len(piece)
            self._run += len(piece)
            left -= len(piece)
            yield piece
            if self._run >= _SEQUENTIAL_BYTES and not self._is_ahead:
                self._is_ahead = True
                self._file._read_ahead(self._number)

    def _enter(self, number: int) -> None:
        """Hold a block, which may be the one held already."""
        if number == self._number:
            return
        self._bytes, self._number = memoryview(b""), -1  # never two blocks in one handle
        self._is_ahead = number - 1 in self._recent
        self._bytes = self._file._block(number, ahead=self._is_ahead)
        self._number, self._start = number, self._file._span(number)[0]
        if number in self._recent:
            self._recent.remove(number)
        self._recent.append(number)

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
