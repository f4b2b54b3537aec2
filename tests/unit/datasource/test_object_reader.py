from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lightly_fs.datasource.cache import ObjectCache
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.reader import Buffer
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError, MountError
from lightly_fs.types import Failure, Sample
from tests.s3_stub import S3Stub, s3_stub


@pytest.fixture
def stub():
    objects = {
        f"{folder}/{n:02d}.jpg": f"{folder}{n}".encode() * 500 for folder in "ab" for n in range(20)
    }
    with s3_stub(objects) as running:
        yield running


def listed(stub: S3Stub) -> list[Sample]:
    bucket = stub.bucket()
    return freeze(Source(bucket.uri, None, bucket)).samples()


def read(stub: S3Stub, samples: list[Sample], **options) -> list[Buffer | Failure]:
    reader = ObjectReader(ObjectStore(stub.bucket()), **options)
    try:
        return list(reader.stream(samples))
    finally:
        reader.close()


def reasons(results) -> set[str]:
    return {f"{r.outcome}: {r.reason}" for r in results if isinstance(r, Failure)}


def test_bytes_arrive_in_order(stub: S3Stub):
    samples = listed(stub)
    assert [bytes(data) for data in read(stub, samples)] == [
        stub.objects[s.filename] for s in samples
    ]


def test_each_object_costs_one_request(stub: S3Stub):
    samples = listed(stub)
    before = stub.requests["GET"]
    read(stub, samples)
    assert stub.requests["GET"] - before == len(samples)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (429, "x"), (500, "InternalError")]
)
def test_a_busy_store_is_asked_again(stub: S3Stub, status: int, code: str):
    samples = listed(stub)
    seen: set[str] = set()

    def first_time(method: str, key: str) -> tuple[int, str] | None:
        return None if key in seen else (seen.add(key), (status, code))[1]

    stub.fault = first_time
    assert reasons(read(stub, samples)) == set()


def test_one_object_that_only_fails_is_the_objects_fault(stub: S3Stub):
    stub.fault = lambda method, key: (500, "InternalError") if key == "a/03.jpg" else None
    results = read(stub, listed(stub))
    assert reasons(results) == {"failed: 500 InternalError, 6 times"}


def test_one_refused_object_is_unreadable(stub: S3Stub):
    stub.fault = lambda method, key: (403, "AccessDenied") if key == "b/03.jpg" else None
    results = read(stub, listed(stub))
    assert reasons(results) == {"unreadable: access denied (403 AccessDenied)"}
    assert sum(isinstance(r, Failure) for r in results) == 1


def test_a_refused_folder_is_unreadable_though_nothing_else_was_read(stub: S3Stub):
    stub.fault = lambda method, key: (403, "AccessDenied") if key.startswith("a/") else None
    samples = [s for s in listed(stub) if s.filename.startswith("a/")]
    results = read(stub, samples)
    assert reasons(results) == {"unreadable: access denied (403 AccessDenied)"}
    assert len(results) == 20


def test_everything_refused_is_the_systems_fault(stub: S3Stub):
    samples = listed(stub)
    stub.fault = lambda method, key: (403, "AccessDenied") if key != "?" else None
    with pytest.raises(MountError, match="from the test do not open") as caught:
        read(stub, samples)
    assert caught.value.reason == "credentials"


def test_credentials_that_expire_in_between_end_the_run_with_no_failure_invented(stub: S3Stub):
    samples = listed(stub)
    count = iter(range(1000))
    stub.fault = lambda method, key: (403, "AccessDenied") if next(count) > 15 else None
    reader = ObjectReader(ObjectStore(stub.bucket()))
    results = []
    with pytest.raises(MountError):
        results.extend(reader.stream(samples))
    reader.close()
    assert not any(isinstance(result, Failure) for result in results)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_an_answer_that_names_the_credentials_ends_the_run_at_once(stub: S3Stub, code: str):
    samples = listed(stub)
    stub.fault = lambda method, key: (400, code)
    with pytest.raises(MountError, match=code):
        read(stub, samples)


def test_a_dead_endpoint_stops_the_run(stub: S3Stub):
    samples = listed(stub)
    stub.fault = lambda method, key: (503, "SlowDown")
    started = time.monotonic()
    with pytest.raises(DatasourceError, match="has not answered for"):
        read(stub, samples, outage_s=1)
    assert time.monotonic() - started < 15


def test_an_idle_reader_does_not_mistake_its_silence_for_an_outage(stub: S3Stub):
    samples = listed(stub)
    reader = ObjectReader(ObjectStore(stub.bucket()), outage_s=1)
    reader.read(samples[0])
    time.sleep(1.2)
    once = iter([(503, "SlowDown")])
    stub.fault = lambda method, key: next(once, None)
    assert not isinstance(reader.read(samples[1]), Failure)
    reader.close()


def test_deleted_and_replaced_objects(stub: S3Stub):
    samples = listed(stub)
    del stub.objects["a/01.jpg"]
    stub.objects["a/02.jpg"] = b"another"
    results = read(stub, samples)
    assert reasons(results) == {
        "gone: deleted during the run",
        "failed: changed during the run: its ETag is another",
    }


def test_a_store_that_ignores_if_match_is_found_out(stub: S3Stub):
    samples = listed(stub)
    stub.ignore_if_match = True
    stub.objects["a/02.jpg"] = b"x" * samples[2].size
    assert reasons(read(stub, samples)) == {"failed: changed during the run: its ETag is another"}


def test_a_slow_request_is_overtaken(stub: S3Stub):
    samples = listed(stub)
    first = iter([7.0])
    stub.fault = lambda method, key: next(first, None) if key == "a/05.jpg" else None
    reader = ObjectReader(ObjectStore(stub.bucket()))
    started = time.monotonic()
    results = list(reader.stream(samples))
    seconds = time.monotonic() - started
    assert reasons(results) == set()
    assert reader.statistics().hedged == 1
    assert seconds < 6
    reader.close()


def test_closing_early_leaves_no_thread(stub: S3Stub):
    samples = listed(stub)
    before = {
        thread.name for thread in threading.enumerate() if thread.name.startswith(("get", "hedg"))
    }
    reader = ObjectReader(ObjectStore(stub.bucket()))
    stream = reader.stream(samples)
    next(stream)
    stream.close()
    reader.close()
    after = {
        thread.name for thread in threading.enumerate() if thread.name.startswith(("get", "hedg"))
    }
    assert after == before == set()


def test_the_cache_answers_the_second_time(stub: S3Stub, tmp_path: Path):
    samples = listed(stub)
    cache = ObjectCache(tmp_path, 1 << 20)
    first = [bytes(data) for data in read(stub, samples, cache=cache)]
    before = stub.requests["GET"]
    second = [bytes(data) for data in read(stub, samples, cache=cache)]
    assert first == second
    assert stub.requests["GET"] == before
    assert cache.hits == len(samples)
