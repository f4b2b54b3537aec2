"""Direct reads from a real server behind a proxy that is slow, busy, silent or gone."""

from __future__ import annotations

import threading
import time

import pytest

from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.object_reader import ObjectReader
from lightly_fs.datasource.objects import ObjectStore
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from tests.integration.reading_support import fill, known, outcomes
from tests.latency_proxy import LatencyProxy, latency_proxy

pytestmark = pytest.mark.s3


@pytest.fixture
def far(s3):
    with latency_proxy(s3.url, delay_ms=5) as proxy:
        yield proxy


def opened(s3, bucket: str, far: LatencyProxy, **options):
    place = known(s3, bucket, url=far.url)
    samples = freeze(Source(place.uri, None, place)).samples()
    return samples, ObjectReader(ObjectStore(place), **options)


@pytest.mark.parametrize("fault", ["refuse 503 3", "refuse 500 10", "limit 4"])
def test_a_busy_store_is_read_to_the_end(s3, bucket: str, far: LatencyProxy, fault: str):
    made = fill(s3, bucket, 120)
    samples, reader = opened(s3, bucket, far)
    far.tell(fault)
    results = outcomes(reader.stream(samples))
    reader.close()
    requests, refused = far.tell("pass")
    assert results == [made[sample.filename] for sample in samples]
    assert refused > 0
    assert reader.statistics().retries >= refused
    assert requests < 2 * len(samples), "a busy store must not be hammered"


def test_connections_that_are_reset_are_made_again(s3, bucket: str, far: LatencyProxy):
    made = fill(s3, bucket, 60)
    samples, reader = opened(s3, bucket, far)
    far.tell("delay 100")
    timer = threading.Timer(0.15, lambda: (far.tell("reset"), far.tell("pass")))
    timer.start()
    results = outcomes(reader.stream(samples))
    reader.close()
    timer.join()
    assert results == [made[sample.filename] for sample in samples]


def test_a_silence_that_ends_costs_only_its_time(s3, bucket: str, far: LatencyProxy):
    made = fill(s3, bucket, 60)
    samples, reader = opened(s3, bucket, far, timeout_s=2)
    far.tell("stall")
    timer = threading.Timer(3, lambda: far.tell("pass"))
    timer.start()
    started = time.monotonic()
    results = outcomes(reader.stream(samples))
    seconds = time.monotonic() - started
    reader.close()
    timer.join()
    assert results == [made[sample.filename] for sample in samples]
    assert 3 <= seconds < 15


def test_an_endpoint_that_is_gone_stops_the_run(s3, bucket: str, far: LatencyProxy):
    fill(s3, bucket, 20)
    samples, reader = opened(s3, bucket, far, outage_s=2)
    far.tell("reset")
    started = time.monotonic()
    with pytest.raises(DatasourceError, match=r"has not answered for .* no answer") as caught:
        list(reader.stream(samples))
    reader.close()
    assert time.monotonic() - started < 20
    assert caught.value.hint
    assert "resumes" in caught.value.hint
