from __future__ import annotations

from pathlib import Path

import pytest

from lightly_fs.config.run import ReadThrough, RunConfig
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.estimate import dry_run_estimate
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.reader import choose_reader, open_reader
from lightly_fs.datasource.source import Source, open_source
from lightly_fs.errors import DatasourceError
from tests.s3_stub import s3_stub

BUCKET = Bucket("b", "p/")
HERE = Path("/here")


@pytest.mark.parametrize(
    ("source", "asked", "kind"),
    [
        (Source("", HERE), ReadThrough.AUTO, "directory"),
        (Source("", HERE), ReadThrough.MOUNT, "directory"),
        (Source("", HERE, mounted=True), ReadThrough.AUTO, "mount"),
        (Source("", HERE, BUCKET, mounted=True), ReadThrough.AUTO, "object"),
        (Source("", HERE, BUCKET, mounted=True), ReadThrough.MOUNT, "mount"),
        (Source("", HERE, BUCKET, mounted=True), ReadThrough.OBJECT, "object"),
        (Source("", None, BUCKET), ReadThrough.AUTO, "object"),
    ],
)
def test_which_reader(source: Source, asked: ReadThrough, kind: str):
    assert choose_reader(source, asked)[0] == kind


@pytest.mark.parametrize(
    ("source", "asked", "word"),
    [
        (Source("/here", HERE), ReadThrough.OBJECT, "not known"),
        (Source("s3://b", None, BUCKET), ReadThrough.MOUNT, "needs a mount"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_hint(source: Source, asked: ReadThrough, word: str):
    with pytest.raises(DatasourceError, match=word) as caught:
        choose_reader(source, asked)
    assert caught.value.hint


def test_a_plain_directory_is_a_source(images: Path, caplog: pytest.LogCaptureFixture):
    config = RunConfig(input_dir=str(images))
    with caplog.at_level("INFO", "lightly_fs"), open_source(config, {}) as source:
        reader = open_reader(source, config, {})
        assert reader.kind == "directory"
        reader.close()
        open_reader(source, config, {}, quiet=True).close()
    assert caplog.text.count("reading through: directory") == 1


def test_a_directory_that_is_not_there():
    with (
        pytest.raises(DatasourceError, match="/nowhere"),
        open_source(RunConfig(input_dir="/nowhere"), {}),
    ):
        pass


def test_the_cache_lies_where_it_was_told(tmp_path: Path):
    with s3_stub({"a.jpg": b"data"}) as stub:
        source = Source("s3://stub", None, stub.bucket())
        config = RunConfig(cache_size=1000, cache_dir=str(tmp_path))
        for _ in range(2):
            reader = open_reader(source, config, {})
            assert [bytes(d) for d in reader.stream(freeze(source).samples())] == [b"data"]
            reader.close()
    assert reader.statistics().cache_hits == 1
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_an_estimate_counts_requests_and_bytes():
    with s3_stub({f"{n}.jpg": b"x" * 100 for n in range(300)} | {"t.txt": b""}) as stub:
        source = Source("s3://stub", None, stub.bucket())
        inventory = freeze(source)
        before = stub.requests["GET"]
        estimate = dry_run_estimate(inventory, source, RunConfig(shard_size=100), {})
        assert stub.requests["GET"] - before == estimate.probed <= 128
    assert (estimate.objects, estimate.bytes, estimate.get_requests) == (300, 30_000, 300)
    assert (estimate.list_requests, estimate.reader) == (1, "object")
    assert estimate.put_requests >= 3
    assert estimate.seconds == pytest.approx(300 / estimate.samples_per_second)


def test_a_cache_that_cannot_be_kept_names_its_directory(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    config = RunConfig(cache_size=1, cache_dir=str(tmp_path / "file"))
    with pytest.raises(DatasourceError, match="object cache cannot be kept"):
        open_reader(Source("", HERE, BUCKET, mounted=True), config, {})


@pytest.mark.parametrize("name", ["missing", "file", "x" * 300])
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str):
    (tmp_path / "file").write_bytes(b"")
    config = RunConfig(input_dir=str(tmp_path / name))
    with pytest.raises(DatasourceError, match="is no directory: ") as caught:
        open_source(config, {}).__enter__()
    assert "default" not in caught.value.message


def test_a_directory_that_was_not_given_is_told_to_be_the_default():
    assert not Path("/home/input_dir").exists()
    with pytest.raises(DatasourceError, match=r"`/home/input_dir` .*; it is the default"):
        open_source(RunConfig(), {}).__enter__()
