from __future__ import annotations

import os
import threading
from pathlib import Path

from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.source import Source
from lightly_fs.types import Failure, Sample


def read(root: Path, samples: list[Sample]) -> list[bytes | str]:
    reader = DirectoryReader(root)
    results = list(reader.stream(samples))
    reader.close()
    return [f"{r.outcome}: {r.reason}" if isinstance(r, Failure) else bytes(r) for r in results]


def test_files_arrive_whole_and_in_order(images: Path):
    samples = freeze(Source("", images)).samples()
    assert read(images, samples) == [(images / s.filename).read_bytes() for s in samples]


def test_what_changed_since_it_was_listed_says_so(tmp_path: Path):
    for name in ("deleted", "grown", "shrunk", "touched", "whole"):
        (tmp_path / f"{name}.jpg").write_bytes(b"12345")
    samples = freeze(Source("", tmp_path)).samples()
    (tmp_path / "deleted.jpg").unlink()
    (tmp_path / "grown.jpg").write_bytes(b"123456")
    (tmp_path / "shrunk.jpg").write_bytes(b"")
    os.utime(tmp_path / "touched.jpg", ns=(1, 1))
    assert read(tmp_path, samples) == [
        "gone: deleted during the run",
        "failed: changed during the run: 5 bytes were listed, 6 are there",
        "failed: changed during the run: 5 bytes were listed, 0 are there",
        "failed: changed during the run: its time of change is another",
        b"12345",
    ]


def test_a_fifo_or_device_in_the_place_of_a_file_ends(tmp_path: Path):
    for name in ("device.jpg", "fifo.jpg"):
        (tmp_path / name).write_bytes(b"12345")
    samples = freeze(Source("", tmp_path)).samples()
    for sample in samples:
        (tmp_path / sample.filename).unlink()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo.jpg")
    assert read(tmp_path, samples) == [
        "failed: changed during the run: 5 bytes were listed, 0 are there",
        "failed: changed during the run: 5 bytes were listed, 0 are there",
    ]


def test_a_name_that_is_no_utf8_is_read(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"123")
    assert read(tmp_path, freeze(Source("", tmp_path)).samples()) == [b"123"]


def test_closing_a_stream_early_leaves_no_thread(images: Path):
    before = threading.active_count()
    reader = DirectoryReader(images)
    stream = reader.stream(freeze(Source("", images)).samples())
    next(stream)
    stream.close()
    reader.close()
    assert threading.active_count() == before


def test_bytes_are_counted(images: Path):
    inventory = freeze(Source("", images))
    reader = DirectoryReader(images)
    list(reader.stream(inventory.samples()))
    assert reader.statistics().bytes_read == inventory.total_bytes
    reader.close()
