from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.lanes import within
from lightly_fs.datasource.mount_reader import MountReader, unnameable
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Sample


@pytest.mark.parametrize("name", ["a.jpg", "ü/b c.jpg", "nl\n.jpg", "..a/b..", "n" * 255])
def test_names_that_a_path_can_express(name: str):
    assert unnameable(name) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/a.jpg", "segment ``"),
        ("a//b.jpg", "segment ``"),
        ("a/../b.jpg", "`..`"),
        ("./b.jpg", "`.`"),
        ("a\0.jpg", "NUL"),
        ("ü" * 128, "256 bytes"),
    ],
)
def test_names_that_no_path_can_express(name: str, word: str):
    reason = unnameable(name)
    assert reason is not None
    assert word in reason


def test_such_a_sample_ends_as_unreadable(images: Path):
    reader = MountReader(Source("", images), {})
    results = list(reader.stream([Sample("a//b.jpg", 3, None, 0)]))
    reader.close()
    assert isinstance(results[0], Failure)
    assert results[0].outcome == "unreadable"


def test_any_directory_can_be_read_this_way(images: Path):
    samples = freeze(Source("", images)).samples()
    reader = MountReader(Source("", images), {})
    assert list(reader.stream(samples)) == [(images / s.filename).read_bytes() for s in samples]
    assert reader.statistics().bytes_read == sum(s.size for s in samples)
    reader.close()


def test_stripes_share_the_samples(images: Path, tmp_path: Path):
    samples = freeze(Source("", images)).samples()
    (tmp_path / "one").symlink_to(images)
    (tmp_path / "two").symlink_to(images)
    source = Source("", images, stripes=(tmp_path / "one", tmp_path / "two"))
    reader = MountReader(source, {})
    assert list(reader.stream(samples)) == [(images / s.filename).read_bytes() for s in samples]
    reader.close()


def test_a_source_without_a_directory_is_refused():
    with pytest.raises(DatasourceError, match="s3://b is not mounted"):
        MountReader(Source("s3://b", None), {})


def test_a_call_that_hangs_is_left_behind():
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        within(0.2, lambda: time.sleep(5), stop=Future())
    assert time.monotonic() - started < 3


def test_a_call_that_fails_fails():
    def fail() -> None:
        raise OSError(5, "x")

    with pytest.raises(OSError, match="x"):
        within(1, fail, stop=Future())
