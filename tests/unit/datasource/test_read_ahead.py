from __future__ import annotations

from concurrent.futures import Future

from lightly_fs.datasource.read_ahead import in_order, spread
from lightly_fs.types import Failure, Sample


def samples(n: int, size: int = 10) -> list[Sample]:
    return [Sample(f"{i}", size, None, 0) for i in range(n)]


class Reads:
    """Begins reads and counts those that nobody took yet."""

    def __init__(self) -> None:
        self.begun: list[tuple[Sample, Future[bytes | memoryview | Failure]]] = []

    def __call__(self, sample: Sample) -> Future[bytes | memoryview | Failure]:
        future: Future[bytes | memoryview | Failure] = Future()
        self.begun.append((sample, future))
        return future

    def finish(self) -> None:
        for sample, future in self.begun:
            if not future.done():
                future.set_result(sample.filename.encode())


def test_results_keep_the_order_of_the_samples():
    def start(sample: Sample) -> Future[bytes | memoryview | Failure]:
        future: Future[bytes | memoryview | Failure] = Future()
        future.set_result(sample.filename.encode())
        return future

    assert list(in_order(samples(20), start, max_samples=3)) == [b"%d" % i for i in range(20)]


def test_no_more_than_the_bound_are_begun():
    reads = Reads()
    stream = in_order(samples(50), _finishing(reads, after=5), max_samples=5)
    next(stream)
    assert len(reads.begun) == 5
    next(stream)
    assert len(reads.begun) == 6
    stream.close()


def test_the_bound_in_bytes_holds_and_a_larger_sample_is_read_alone():
    reads = Reads()
    mixed = [*samples(3, size=40), *samples(1, size=500), *samples(2, size=40)]
    stream = in_order(mixed, _finishing(reads, after=1), max_bytes=100)
    ahead = [len(reads.begun) - taken for taken, _ in enumerate(stream)]
    assert ahead == [2, 2, 1, 1, 2, 1]


def test_closing_cancels_what_was_not_taken():
    reads = Reads()
    stream = in_order(samples(50), _finishing(reads, after=4), max_samples=4)
    next(stream)
    pending = [future for _, future in reads.begun if not future.done()]
    stream.close()
    assert pending
    assert all(future.cancelled() for future in pending)


def test_spread_takes_samples_from_all_over():
    assert [s.filename for s in spread(samples(80), 4)] == ["0", "20", "40", "60"]
    assert spread([]) == []


def _finishing(reads: Reads, *, after: int):
    """Finish the oldest read that is due as soon as `after` reads were begun since."""

    def start(sample: Sample) -> Future[bytes | memoryview | Failure]:
        future = reads(sample)
        for known, oldest in reads.begun[: max(1, len(reads.begun) - after + 1)]:
            if not oldest.done():
                oldest.set_result(known.filename.encode())
        return future

    return start
