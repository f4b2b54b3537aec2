"""Read ahead of a consumer, in order, bounded by count and by bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from lightly_fs.datasource.reader import Buffer
from lightly_fs.types import Failure, Sample

MAX_SAMPLES = 256
MAX_BYTES = 256 << 20


def in_order(
    samples: Sequence[Sample],
    start: Callable[[Sample], Future[Buffer | Failure]],
    *,
    max_samples: int = MAX_SAMPLES,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Buffer | Failure]:
    """Yield each sample's result in order while later ones are being read.

    Sizes are the listed ones, so the bound holds before a byte has arrived; one sample larger
    than the bound is read alone. Closing the generator cancels what has not started.

    Args:
        samples: What to read.
        start: Begins a read.
        max_samples: Reads begun and not yet taken.
        max_bytes: Their listed sizes together.
    """
    ahead: deque[tuple[int, Future[Buffer | Failure]]] = deque()
    held = 0
    rest = iter(samples)
    following = next(rest, None)
    try:
        while ahead or following is not None:
            while following is not None and (
                not ahead or (len(ahead) < max_samples and held + following.size <= max_bytes)
            ):
                ahead.append((following.size, start(following)))
                held += following.size
                following = next(rest, None)
            size, future = ahead.popleft()
            result = future.result()
            del future
            held -= size
            yield result
    finally:
        for _, future in ahead:
            future.cancel()


def spread(samples: Sequence[Sample], n: int = 8) -> list[Sample]:
    """Return up to `n` samples from all over a sequence."""
    return list(samples[:: max(1, len(samples) // n)][:n])
