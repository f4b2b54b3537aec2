"""A file in blocks: the same bytes as the file's, each block once, and not many of them kept."""

from __future__ import annotations

import gc
import io
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.datasource.ranged import RangedFile, RangedHandle, RangedReadError
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Outcome, Sample

B = 1 << 10
"""Bytes of a block here."""


def content(size: int) -> bytes:
    return bytes(n * n % 251 for n in range(size))


class Chunk(bytearray):
    """Bytes of which a test can tell whether anybody still has them."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Place:
    """Where blocks come from; counts them, and remembers which still live."""

    def __init__(self, data: bytes, pool: ThreadPoolExecutor) -> None:
        self.data, self.pool = data, pool
        self.fetched: Counter[int] = Counter()
        self.n_bytes = 0
        self.alive: weakref.WeakSet[Chunk] = weakref.WeakSet()
        self.answer: Callable[[int], Failure | Exception | None] = lambda first: None

    def fetch(self, first: int, length: int) -> Future[bytes | memoryview | Failure]:
        future = self.pool.submit(self._read, first, length)
        self.fetched[first // B] += 1
        self.n_bytes += length
        return future

    def _read(self, first: int, length: int) -> memoryview | Failure:
        answer = self.answer(first)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        chunk = Chunk(self.data[first : first + length])
        self.alive.add(chunk)
        return memoryview(chunk)

    def open(self) -> RangedFile:
        return RangedFile(Sample("a.mp4", len(self.data), "e", 0), self.fetch, block_bytes=B)

    def settle(self) -> None:
        """Wait until nothing is on its way."""
        barrier = threading.Barrier(5)
        for _ in range(4):
            self.pool.submit(barrier.wait)
        barrier.wait(10)


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(4) as running:
        yield running


MOVES = st.lists(
    st.tuples(
        st.sampled_from([None, io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]),
        st.integers(-3 * B, 30 * B),
        st.one_of(st.none(), st.integers(-1, 4 * B)),
    ),
    min_size=1,
    max_size=12,
)


def moved(file, moves) -> list[bytes | int | str]:
    """Do seeks and reads; return all that they say."""
    said: list[bytes | int | str] = []
    for whence, offset, n in moves:
        if whence is not None:
            try:
                said.append(file.seek(offset, whence))
            except (OSError, ValueError):
                said.append("before the beginning")
        if n is None:
            buffer = bytearray(700)
            said += [file.readinto(buffer), bytes(buffer)]
        else:
            said.append(file.read(n))
        said.append(file.tell())
    return said


@given(size=st.integers(0, 40 * B), threads=st.lists(MOVES, min_size=1, max_size=4))
def test_any_seeks_and_reads_of_several_threads_give_the_files_bytes(pool, size, threads):
    data = content(size)
    place = Place(data, pool)
    file = place.open()
    with tempfile.TemporaryFile(buffering=0) as real:
        real.write(data)
        expected = [(real.seek(0), moved(real, moves))[1] for moves in threads]
    with ThreadPoolExecutor(len(threads)) as readers:
        handles = [file.handle() for _ in threads]
        said = list(readers.map(moved, handles, threads))
    assert said == expected
    assert file.error is None
    file.close()


@given(size=st.integers(0, 60 * B), step=st.integers(1, 3 * B))
def test_a_pass_from_the_start_to_the_end_fetches_each_block_once(pool, size, step):
    data = content(size)
    place = Place(data, pool)
    handle = place.open().handle()
    assert b"".join(iter(lambda: handle.read(step), b"")) == data
    assert sum(place.fetched.values()) == (max(1, size // B) if size else 0)
    assert set(place.fetched.values()) <= {1}
    assert place.n_bytes == size
    handle.close()


def test_a_small_file_costs_one_fetch(pool):
    place = Place(content(2 * B - 1), pool)
    assert place.open().handle().read() == place.data
    assert place.fetched == {0: 1}


def test_nothing_is_fetched_before_something_is_read(pool):
    place = Place(content(50 * B), pool)
    place.open().handle().seek(30 * B)
    assert not place.fetched


def test_reading_here_and_there_fetches_nothing_ahead(pool):
    place = Place(content(50 * B), pool)
    handle = place.open().handle()
    for number in (30, 2, 49, 12):
        handle.seek(number * B + 5)
        handle.read(10)
    assert place.fetched == {30: 1, 2: 1, 49: 1, 12: 1}


def test_reading_on_fetches_three_blocks_ahead(pool):
    place = Place(content(50 * B), pool)
    handle = place.open().handle()
    handle.seek(20 * B)
    handle.read(B)
    assert set(place.fetched) == {20}
    handle.read(1)
    assert set(place.fetched) == {20, 21, 22, 23, 24}


def test_a_mebibyte_read_on_is_sequential_within_a_block(pool):
    data = bytes(40 << 20)
    place = Place(data, pool)
    file = RangedFile(Sample("a.mp4", len(data), "e", 0), place.fetch)
    handle = file.handle()
    handle.seek(8 << 20)
    handle.read((1 << 20) - 1)
    assert place.n_bytes == 8 << 20
    handle.read(1)
    assert place.n_bytes == 32 << 20
    file.close()


def test_two_places_read_in_turn_are_sequential_in_both(pool):
    place = Place(content(60 * B), pool)
    handle = place.open().handle()
    for number in range(20):
        for start in (0, 30):
            handle.seek((start + number) * B)
            assert handle.read(B) == place.data[(start + number) * B :][:B]
    assert set(place.fetched.values()) == {1}
    assert {23, 52, 59} & set(place.fetched) == {52}, "read ahead up to three blocks, and no more"


@pytest.mark.parametrize(("n_handles", "kept"), [(1, 8), (2, 16), (6, 16)])
def test_few_blocks_are_kept(pool, n_handles: int, kept: int):
    place = Place(content(200 * B), pool)
    file = place.open()
    handles = [file.handle() for _ in range(n_handles)]
    most = 0
    for number in range(30):
        for index, handle in enumerate(handles):
            handle.seek((index * 33 + number) * B)
            handle.read(B)
        place.settle()
        most = max(most, len(place.alive))
    assert kept // 2 <= most <= kept + n_handles
    assert set(place.fetched.values()) == {1}
    file.close()
    for handle in handles:
        handle.close()
    gc.collect()
    assert len(place.alive) == 0


def test_the_first_and_the_last_block_stay(pool):
    place = Place(content(100 * B), pool)
    file = place.open()
    for number in range(3, 90, 5):
        with file.handle() as handle:
            handle.read(20)
            handle.seek(-20, io.SEEK_END)
            handle.read(20)
            handle.seek(number * B)
            handle.read(4 * B)
    assert place.fetched[0] == place.fetched[99] == 1


def test_blocks_of_handles_on_one_place_are_shared(pool):
    place = Place(content(12 * B), pool)
    file = place.open()
    handles = [file.handle() for _ in range(6)]
    with ThreadPoolExecutor(6) as readers:
        read = list(readers.map(RangedHandle.read, handles))
    assert read == [place.data] * 6
    assert set(place.fetched.values()) == {1}


GONE = Failure("a.mp4", Outcome.GONE, "deleted during the run")


def test_what_storage_does_not_deliver_is_raised_and_remembered(pool):
    place = Place(content(20 * B), pool)
    place.answer = lambda first: GONE if first == 5 * B else None
    file = place.open()
    handle, other = file.handle(), file.handle()
    assert handle.read(5 * B) == place.data[: 5 * B]
    assert file.error is None, "read ahead, but nobody wanted it yet"
    for reader in (handle, handle, other):
        with pytest.raises(RangedReadError, match="deleted during the run") as caught:
            reader.read(1)
        assert caught.value.outcome is Outcome.GONE
    assert file.error is not None
    assert (file.error.outcome, file.error.reason) == (Outcome.GONE, "deleted during the run")
    with pytest.raises(RangedReadError):
        file.handle()


def test_a_broken_system_is_no_failure_of_the_file(pool):
    place = Place(content(20 * B), pool)
    place.answer = lambda first: DatasourceError("the bucket is gone")
    file = place.open()
    with pytest.raises(DatasourceError, match="the bucket is gone"):
        file.handle().read(1)
    with pytest.raises(DatasourceError, match="the bucket is gone"):
        _ = file.error


def test_closing_wakes_who_waits_and_ends_what_has_not_begun(pool):
    begin = threading.Event()
    place = Place(content(20 * B), pool)
    begun: list[int] = []

    def answer(first: int) -> None:
        begun.append(first)
        assert begin.wait(20)

    place.answer = answer
    with ThreadPoolExecutor(6) as readers:
        file = place.open()
        handles = [file.handle() for _ in range(6)]
        for number, handle in enumerate(handles):
            handle.seek(number * 3 * B)
        waiting = [readers.submit(handle.read, 1) for handle in handles]
        while sum(place.fetched.values()) < 6 or len(begun) < 4:
            pass
        file.close()
        begin.set()
        said = [type(future.exception(10)) for future in waiting]
    assert said.count(ValueError) == 2, "four had begun: the pool has four threads"
    with pytest.raises(ValueError, match="closed"):
        handles[0].read(1)
    with pytest.raises(ValueError, match="closed"):
        file.handle()


def test_closing_releases_once(pool):
    released = []
    place = Place(content(B), pool)
    file = RangedFile(
        Sample("a.mp4", B, "e", 0), place.fetch, release=lambda: released.append(1), block_bytes=B
    )
    file.close()
    file.close()
    assert released == [1]


def test_a_closed_handle_reads_nothing_and_the_others_go_on(pool):
    file = Place(content(3 * B), pool).open()
    one, other = file.handle(), file.handle()
    one.close()
    one.close()
    for call in (one.read, lambda: one.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert other.read() == content(3 * B)
    assert other.readable()
    assert other.seekable()


@pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-1, 1), (-4 * B, 2), (0, 5)])
def test_positions_that_do_not_exist_are_refused(pool, offset: int, whence: int):
    with pytest.raises(ValueError, match=r"before the beginning|whence is 5"):
        Place(content(3 * B), pool).open().handle().seek(offset, whence)


def test_pyav_reads_a_video_through_it(pool, test_data):
    av = pytest.importorskip("av")
    path = sorted((test_data / "videos").glob("*.mp4"))[0]
    place = Place(path.read_bytes(), pool)
    file = RangedFile(Sample(path.name, len(place.data), "e", 0), place.fetch, block_bytes=100 * B)

    def frames(opened) -> list[tuple[int | None, bytes]]:
        with av.open(opened) as container:
            found = container.decode(video=0)
            return [(f.pts, bytes(f.planes[0])) for f, _ in zip(found, range(40), strict=False)]

    assert frames(file.handle()) == frames(str(path))
    assert set(place.fetched.values()) == {1}
    file.close()
