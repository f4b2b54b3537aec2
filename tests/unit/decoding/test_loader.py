"""Batches of fixed shape, in order, whatever is broken, slow or large."""

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from lightly_fs.config.run import PropertiesMode
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.reader import Buffer
from lightly_fs.decoding import loader
from lightly_fs.decoding.images import decode_image
from lightly_fs.decoding.loader import ImageBatch, image_batches
from lightly_fs.types import Failure, ImageRecord, Outcome, Sample
from tests.images import jpeg, make_images, scene
from tests.unit.decoding.encoded import SETTINGS, decoded, encode, png

IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def listed(directory: Path) -> list[Sample]:
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in IMAGES)
    found = [(path, path.stat()) for path in paths]
    return [
        Sample(str(path.relative_to(directory)), stat.st_size, None, stat.st_mtime_ns)
        for path, stat in found
    ]


@pytest.fixture
def reader(images: Path) -> Iterator[DirectoryReader]:
    opened = DirectoryReader(images, threads=2)
    yield opened
    opened.close()


def everything(batches: Iterator[ImageBatch]) -> tuple[torch.Tensor, list[ImageRecord | Failure]]:
    rows, results = [], []
    for batch in batches:
        rows.append(batch.pixels[: len(batch.samples)])
        results.extend(batch.results)
    return torch.cat(rows), results


def test_every_sample_ends_in_its_place(images: Path, reader: DirectoryReader) -> None:
    samples = listed(images)
    batches = list(image_batches(samples, reader, SETTINGS))
    assert [sample for batch in batches for sample in batch.samples] == samples
    results = [result for batch in batches for result in batch.results]
    assert [result.filename for result in results] == [sample.filename for sample in samples]
    failed = {result.filename: result.reason for result in results if isinstance(result, Failure)}
    assert set(failed) == {"corrupt_empty.png", "corrupt_text.webp", "corrupt_truncated.jpg"}
    assert failed["corrupt_empty.png"] == "empty file"
    for batch in batches:
        assert batch.pixels.shape == (4, 64, 64, 3)
        assert batch.pixels.dtype == torch.uint8


def test_rows_are_what_one_image_alone_gives(images: Path, reader: DirectoryReader) -> None:
    for batch in image_batches(listed(images), reader, SETTINGS):
        for row, sample, result in zip(batch.pixels, batch.samples, batch.results, strict=False):
            data = (images / sample.filename).read_bytes()
            alone = decode_image(data, SETTINGS)
            if isinstance(result, Failure):
                assert result == Failure(sample.filename, Outcome.CORRUPT, str(alone))
                assert not row.any()
            else:
                assert np.array_equal(row.numpy(), alone.pixels)
                assert result.pixel_hash == alone.pixel_hash


def test_the_rest_of_the_last_batch_is_zeros(images: Path, reader: DirectoryReader) -> None:
    last = list(image_batches(listed(images)[:6], reader, SETTINGS))[-1]
    assert len(last.samples) == len(last.results) == 2
    assert last.pixels.shape[0] == 4
    assert not last.pixels[2:].any()


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (3, 5), (2, 64), (-1, 7)])
def test_results_depend_on_neither_threads_nor_batches(
    images: Path, reader: DirectoryReader, threads: int, batch_size: int
) -> None:
    samples = listed(images)
    measured = dataclasses.replace(SETTINGS, properties=PropertiesMode.SCALED)
    expected = everything(image_batches(samples, reader, measured))
    other = dataclasses.replace(measured, threads=threads, batch_size=batch_size)
    given = everything(image_batches(samples, reader, other))
    assert torch.equal(given[0], expected[0])
    assert given[1] == expected[1]


def test_no_samples_are_no_batches(reader: DirectoryReader) -> None:
    assert list(image_batches([], reader, SETTINGS)) == []


def test_a_sample_that_is_gone_keeps_its_place(tmp_path: Path) -> None:
    make_images(tmp_path, 5)
    samples = listed(tmp_path)
    (tmp_path / samples[4].filename).unlink()
    reader = DirectoryReader(tmp_path)
    results = everything(image_batches(samples, reader, SETTINGS))[1]
    reader.close()
    assert isinstance(results[4], Failure)
    assert results[4].outcome is Outcome.GONE
    assert isinstance(results[3], ImageRecord)


class MemoryReader:
    """Reads from memory, and notes how far it was read."""

    kind = "directory"

    def __init__(self, data: Sequence[bytes], fail_at: int | None = None) -> None:
        self.data = data
        self.fail_at = fail_at
        self.taken = 0
        self.closed = False

    def stream(self, samples: Sequence[Sample]) -> Iterator[Buffer | Failure]:
        try:
            for data in self.data:
                if self.taken == self.fail_at:
                    raise OSError("the mount is dead")
                self.taken += 1
                yield data
        finally:
            self.closed = True


def samples_of(data: Sequence[bytes]) -> list[Sample]:
    return [Sample(f"{index:03}.jpg", len(one), None, 0) for index, one in enumerate(data)]


def test_following_batches_are_decoded_while_one_is_used() -> None:
    data = [jpeg(scene(seed)) for seed in range(4)] * 5
    reader = MemoryReader(data)
    batches = image_batches(samples_of(data), reader, SETTINGS)
    first = next(batches)
    assert len(first.results) == 4
    assert reader.taken == 12, "one batch in use and two ahead"
    assert [len(batch.results) for batch in batches] == [4, 4, 4, 4]
    assert reader.taken == 20


def test_closing_early_ends_threads_and_reading() -> None:
    data = [jpeg(scene(1))] * 40
    reader = MemoryReader(data)
    batches = image_batches(samples_of(data), reader, SETTINGS)
    next(batches)
    batches.close()
    assert reader.closed
    assert reader.taken < 40
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_a_broken_system_is_raised_not_recorded() -> None:
    data = [jpeg(scene(1))] * 20
    reader = MemoryReader(data, fail_at=13)
    with pytest.raises(OSError, match="the mount is dead"):
        list(image_batches(samples_of(data), reader, SETTINGS))
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_bytes_that_wait_to_be_decoded_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a single file is larger than the bound."""
    monkeypatch.setattr(loader, "_BYTES_AHEAD", 1000)
    data = [jpeg(scene(seed)) for seed in range(10)]
    results = everything(image_batches(samples_of(data), MemoryReader(data), SETTINGS))[1]
    assert all(isinstance(result, ImageRecord) for result in results)


def test_the_global_random_state_is_left_alone() -> None:
    data = [jpeg(scene(1))] * 3
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    list(image_batches(samples_of(data), MemoryReader(data), SETTINGS))
    assert torch.equal(torch.rand(1), expected)


def test_results_do_not_mix_formats_up() -> None:
    data = [encode(scene(seed), kind) for seed, kind in enumerate(("PNG", "JPEG", "WEBP", "BMP"))]
    pixels, results = everything(image_batches(samples_of(data), MemoryReader(data), SETTINGS))
    for row, one, result in zip(pixels, data, results, strict=True):
        assert np.array_equal(row.numpy(), decoded(one).pixels)
        assert isinstance(result, ImageRecord)
        assert result.properties == {}


def test_an_image_that_memory_cannot_hold_has_failed_not_the_run() -> None:
    """The image is fine and this machine too small: not corrupt."""
    import resource

    huge = png(23_000, 23_000, bits=8, colour=2, rows=b"")
    data = [jpeg(scene(1)), huge, jpeg(scene(2))]
    list(image_batches(samples_of(data[:1]), MemoryReader(data[:1]), SETTINGS))  # threads, arenas
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        results = everything(image_batches(samples_of(data), MemoryReader(data), SETTINGS))[1]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert isinstance(results[0], ImageRecord)
    assert isinstance(results[2], ImageRecord)
    assert results[1] == Failure("001.jpg", Outcome.FAILED, "not enough memory to decode the image")


def test_a_file_larger_than_any_allowed_image_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(jpeg(scene(1)))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with closing(DirectoryReader(tmp_path)) as reader:
        settings = dataclasses.replace(SETTINGS, max_pixels=1_000_000)
        _, results = everything(image_batches(listed(tmp_path), reader, settings))
    assert isinstance(results[0], ImageRecord)
    assert results[1] == Failure(
        "huge.jpg", Outcome.CORRUPT, "too large: 1,099,511,627,776 bytes, more than 67,108,864"
    )
