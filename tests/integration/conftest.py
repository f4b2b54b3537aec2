"""What the tests that mount something share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import S3Server
from tests.integration.mounting import Host, clear, make_host


@pytest.fixture
def host(tmp_path: Path, s3: S3Server) -> Iterator[Host]:
    """A corner of this machine for one test; whatever is left mounted there ends with it."""
    made = make_host(tmp_path, s3.environ())
    yield made
    clear(made)


@pytest.fixture
def photos(s3: S3Server, bucket: str) -> str:
    """A bucket with five objects, two of them below `photos/2026`."""
    client = s3.client()
    for key in ("a.txt", "photos/1.jpg", "photos/2026/2.jpg", "photos/2026/3.jpg", "other/x"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket
