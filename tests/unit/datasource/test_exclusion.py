from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.exclusion import lies_in, output_below
from lightly_fs.datasource.source import Source

IN = Source("s3://b/in/", None, Bucket("b", "in/", "http://x"))


@pytest.mark.parametrize(
    ("output", "below"),
    [
        (Bucket("b", "in/out/", "http://x"), "out/"),
        (Bucket("b", "in/", "http://x"), ""),
        (Bucket("b", "", "http://x"), ""),
        (Bucket("b", "inner/", "http://x"), ""),
        (Bucket("c", "in/out/", "http://x"), ""),
        (Bucket("b", "in/out/", "http://y"), ""),
        (Path("/somewhere"), ""),
        (None, ""),
    ],
)
def test_where_an_output_bucket_lies_in_the_input(output: Bucket | Path | None, below: str):
    assert output_below(IN, output) == below


def test_where_an_output_directory_lies_in_the_input(tmp_path: Path):
    source = Source("", tmp_path)
    assert output_below(source, tmp_path / "a" / "b") == "a/b/"
    assert output_below(source, tmp_path) == ""
    assert output_below(source, tmp_path.parent) == ""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert output_below(source, tmp_path / "link") == "real/"


def test_an_output_directory_is_named_as_the_listing_names_it(tmp_path: Path):
    source = Source(str(tmp_path), tmp_path)
    assert output_below(source, tmp_path / r"a\x41") == r"a\x5cx41/"
    assert output_below(source, tmp_path / os.fsdecode(b"a\xff")) == r"a\xff/"


@pytest.mark.parametrize(
    ("prefix", "inside"), [("in/", True), ("in/a/", True), ("", False), ("inner/", False)]
)
def test_the_input_itself_lies_in_the_input(tmp_path: Path, prefix: str, inside: bool):
    source = Source("", tmp_path / "in")
    assert lies_in(IN, Bucket("b", prefix, "http://x")) is inside
    assert lies_in(source, tmp_path / prefix) is inside
    assert not lies_in(source, None)
