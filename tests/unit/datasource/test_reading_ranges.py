"""The three readers' `open`: the listed bytes or a reason, and not one request too many."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lightly_fs.datasource.cache import ObjectCache
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.mount_reader import MountReader
from lightly_fs.datasource.mounted_file import MountedFile
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.ranged import RangedFile, RangedReadError
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError, MountError
from lightly_fs.types import Outcome, Sample
from tests.s3_stub import SHORT, S3Stub, etag, s3_stub

MIB = 1 << 20
DATA = random.Random(1).randbytes(43 * MIB)
NAME = "a/film.mp4"
OTHER = "b/small.mp4"


@pytest.fixture
def stub():
    with s3_stub({NAME: DATA, OTHER: DATA[: 3 * MIB]}) as running:
        yield running


def sample_of(stub: S3Stub, name: str = NAME) -> Sample:
    data = stub.objects[name]
    return Sample(name, len(data), etag(data), 0)


@contextmanager
def opened(stub: S3Stub, name: str = NAME, **options) -> Iterator[tuple[ObjectReader, RangedFile]]:
    with closing(ObjectReader(ObjectStore(stub.bucket()), **options)) as reader:
        yield reader, reader.open(sample_of(stub, name))


def said(file: RangedFile) -> str:
    """Read a file to its end; return how that ends."""
    with pytest.raises(RangedReadError) as caught:
        file.handle().read()
    assert file.error is not None
    assert (file.error.outcome, file.error.reason) == (caught.value.outcome, caught.value.reason)
    return f"{caught.value.outcome}: {caught.value.reason}"


def test_a_pass_costs_one_request_per_block_and_the_files_bytes(stub: S3Stub):
    with opened(stub) as (reader, file):
        assert file.handle().read() == DATA
        statistics = reader.statistics()
    assert stub.requests["GET"] == statistics.requests["GET"] == 43 // 8
    assert statistics.bytes_read == len(DATA)
    assert sorted(stub.ranges)[0] == f"bytes=0-{8 * MIB - 1}"


def test_a_small_object_is_asked_for_as_a_whole(stub: S3Stub):
    with opened(stub, OTHER) as (_, file):
        assert file.handle().read() == stub.objects[OTHER]
    assert (stub.requests["GET"], stub.ranges) == (1, [])


def test_the_end_is_read_without_what_lies_before(stub: S3Stub):
    with opened(stub) as (reader, file):
        handle = file.handle()
        handle.seek(-5, os.SEEK_END)
        assert handle.read() == DATA[-5:]
        assert reader.statistics().bytes_read == 11 * MIB, "the last block has the rest too"
    assert stub.requests["GET"] == 1


def test_keys_that_obstore_cannot_express_have_ranges_too(stub: S3Stub):
    stub.objects["a//odd.mp4"] = DATA[: 20 * MIB]
    with opened(stub, "a//odd.mp4") as (_, file):
        handle = file.handle()
        handle.seek(7 * MIB)
        assert handle.read(2 * MIB) == DATA[7 * MIB : 9 * MIB]
    assert stub.requests["GET"] == 2


@pytest.mark.parametrize("fault", [(503, "SlowDown"), (500, "InternalError"), SHORT])
def test_what_passes_is_asked_again(stub: S3Stub, fault):
    faults = iter([None, fault, fault, None, fault])
    stub.fault = lambda method, key: next(faults, None)
    with opened(stub) as (reader, file):
        assert file.handle().read() == DATA
        assert reader.statistics().retries == 3
    assert file.error is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ((503, "SlowDown"), "failed: 503 SlowDown, 6 times"),
        (SHORT, "failed: no answer, 6 times"),
        ((403, "AccessDenied"), "unreadable: access denied (403 AccessDenied)"),
    ],
)
def test_what_does_not_pass_fails_while_others_can_be_read(stub: S3Stub, fault, reason: str):
    stub.fault = lambda method, key: fault if key == NAME else None
    with opened(stub) as (_, file):
        assert said(file) == reason


def test_everything_refused_is_the_systems_fault(stub: S3Stub):
    stub.fault = lambda method, key: (403, "AccessDenied") if key != "?" else None
    with opened(stub) as (_, file):
        with pytest.raises(MountError, match="do not open"):
            file.handle().read()
        with pytest.raises(MountError, match="do not open"):
            _ = file.error


def test_a_store_that_is_silent_stops_the_run(stub: S3Stub):
    stub.fault = lambda method, key: (503, "SlowDown")
    with (
        opened(stub, outage_s=1) as (_, file),
        pytest.raises(DatasourceError, match="has not answered for"),
    ):
        file.handle().read()


def test_an_object_replaced_between_two_blocks_never_gives_bytes_of_both(stub: S3Stub):
    with opened(stub) as (_, file):
        handle = file.handle()
        assert handle.read(5) == DATA[:5]
        stub.objects[NAME] = DATA[::-1]
        assert handle.read(MIB // 2) == DATA[5 : 5 + MIB // 2], "of the block that was read"
        assert said(file) == "failed: changed during the run: its ETag is another"


def test_an_object_deleted_between_two_blocks_is_gone(stub: S3Stub):
    with opened(stub) as (_, file):
        file.handle().read(5)
        del stub.objects[NAME]
        assert said(file) == "gone: deleted during the run"


def test_a_store_that_ignores_ranges_is_no_way_to_read_a_large_object(stub: S3Stub):
    stub.ignore_range = True
    with opened(stub) as (_, file):
        assert said(file) == "failed: the store refuses it (it serves no ranges)"


def test_a_store_that_sends_ranges_as_if_they_were_whole_is_read_all_the_same(stub: S3Stub):
    stub.range_status = 200
    with opened(stub) as (reader, file):
        assert file.handle().read() == DATA
        assert reader.statistics().retries == 0


def test_a_store_that_ignores_if_match_is_found_out(stub: S3Stub):
    stub.ignore_if_match = True
    with opened(stub) as (_, file):
        stub.objects[NAME] = DATA[::-1]
        assert said(file) == "failed: changed during the run: its ETag is another"


def test_whole_objects_in_the_cache_are_served_from_it_and_ranges_are_not_put_there(
    stub: S3Stub, tmp_path: Path
):
    cache = ObjectCache(tmp_path, 100 * MIB)
    with opened(stub, cache=cache) as (reader, file):
        assert file.handle().read() == DATA
        assert not any(path.is_file() for path in tmp_path.rglob("*"))
        reader.read(sample_of(stub))
        before = stub.requests["GET"]
        assert reader.open(sample_of(stub)).handle().read() == DATA
    assert stub.requests["GET"] == before
    assert cache.hits == 43 // 8


def test_a_damaged_object_in_the_cache_is_read_from_the_store(stub: S3Stub, tmp_path: Path):
    cache = ObjectCache(tmp_path, 100 * MIB)
    with opened(stub, cache=cache) as (reader, _):
        reader.read(sample_of(stub))
        (stored,) = (path for path in tmp_path.rglob("*") if path.is_file())
        with stored.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes([DATA[-1] ^ 1]))
        assert reader.open(sample_of(stub)).handle().read() == DATA
    assert not stored.exists()


# Directories, mounted or not.


@pytest.fixture(params=[DirectoryReader, MountReader])
def reader(request, tmp_path: Path):
    root = tmp_path if request.param is DirectoryReader else Source("", tmp_path)
    made = request.param(root) if request.param is DirectoryReader else request.param(root, {})
    with closing(made):
        yield made


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "film.mp4").write_bytes(DATA)
    (tmp_path / "other.mp4").write_bytes(DATA[:100])
    return tmp_path / "film.mp4"


def listed(path: Path) -> Sample:
    found = path.stat()
    return Sample(path.name, found.st_size, None, found.st_mtime_ns)


def test_a_file_is_read_in_blocks(reader, film: Path):
    file = reader.open(listed(film))
    handle = file.handle()
    assert handle.read(5) == DATA[:5]
    assert reader.statistics().bytes_read == 8 * MIB, "the first, and none ahead of it"
    handle.seek(8 * MIB - 3)
    assert handle.read(6) == DATA[8 * MIB - 3 : 8 * MIB + 3]
    handle.seek(0)
    assert handle.read() == DATA
    assert reader.statistics().bytes_read == len(DATA)
    file.close()


def change_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1")


def shrink(path: Path) -> None:
    os.truncate(path, 10 * MIB)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_time, "changed during the run: its time of change is another"),
        (grow, f"changed during the run: {len(DATA)} bytes were listed, {len(DATA) + 1} are there"),
        (shrink, f"changed during the run: {len(DATA)} bytes were listed, {10 * MIB} are there"),
    ],
)
def test_a_file_changed_between_two_blocks_fails(reader, film: Path, change, reason: str):
    file = reader.open(listed(film))
    file.handle().read(5)
    change(film)
    assert said(file) == f"failed: {reason}"
    file.close()


def test_a_file_whose_time_changed_fails_when_it_is_read_as_a_whole(reader, film: Path):
    sample = listed(film)
    change_time(film)
    failure = reader.read(sample)
    assert (failure.outcome, failure.reason) == (
        Outcome.FAILED,
        "changed during the run: its time of change is another",
    )


def test_a_deleted_file_is_gone(reader, film: Path):
    sample = listed(film)
    film.unlink()
    assert said(reader.open(sample)) == "gone: deleted during the run"


def test_a_name_that_no_path_can_express_is_unreadable(tmp_path: Path):
    with closing(MountReader(Source("", tmp_path), {})) as reader:
        assert said(reader.open(Sample("a//b.mp4", 5, None, 0))).startswith("unreadable: no path")


def descriptors(path: Path) -> int:
    """Return how often this process has a file open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += entry.readlink() == path
        except OSError:  # of the listing itself
            continue
    return found


def test_a_file_on_a_mount_is_opened_once_and_closed_at_the_end(film: Path):
    with closing(MountReader(Source("", film.parent), {})) as reader:
        file = reader.open(listed(film))
        assert descriptors(film) == 0
        handle = file.handle()
        for _ in range(4):
            handle.read(9 * MIB)
            assert descriptors(film) == 1
        file.close()
    for _ in range(1000):
        if not descriptors(film):
            break
        os.sched_yield()
    assert descriptors(film) == 0


def test_a_descriptor_is_renewed_so_that_s3fs_forgets_what_it_downloaded(film: Path):
    file = MountedFile(os.fsencode(film), listed(film), renew_bytes=MIB)
    kept = os.open(film, os.O_RDONLY)  # takes the number that is free
    numbers = []
    for first in range(4):
        assert file.read(first * MIB // 2, MIB // 2) == DATA[first * MIB // 2 :][: MIB // 2]
        numbers.append(file._current.n_bytes)
    assert numbers == [MIB // 2, MIB, MIB // 2, MIB]
    file.close()
    os.close(kept)
    assert descriptors(film) == 0
