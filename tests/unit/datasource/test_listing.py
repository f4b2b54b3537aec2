from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from lightly_fs.datasource.listing import (
    LISTING,
    local_path,
    next_token,
    parse_page,
    printable,
    walk,
)
from lightly_fs.errors import DatasourceError

PAGE = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<NextContinuationToken>t/+=</NextContinuationToken>
<Contents><Key>a%2Fb+c%2Bd%0A.jpg</Key><LastModified>2026-11-20T14:03:22.250Z</LastModified>
<ETag>&quot;abc-2&quot;</ETag><Size>12</Size></Contents>
<Contents><Key>z</Key><LastModified>1970-01-01T00:00:01Z</LastModified><Size>0</Size></Contents>
</ListBucketResult>"""


def test_a_page():
    assert next_token(PAGE) == "t/+="
    assert parse_page(PAGE).to_pylist() == [
        {"key": "a/b c+d\n.jpg", "size": 12, "etag": "abc-2", "mtime_ns": 1795183402250000000},
        {"key": "z", "size": 0, "etag": None, "mtime_ns": 1_000_000_000},
    ]


def test_an_empty_last_page_without_namespace():
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    assert next_token(page) is None
    assert parse_page(page).num_rows == 0
    assert parse_page(page).schema == LISTING


def test_a_token_with_entities():
    assert next_token(PAGE.replace(b"t/+=", b"a&amp;&quot;b&lt;")) == 'a&"b<'


@pytest.mark.parametrize("page", [PAGE[:-40], b"", PAGE.replace(b"<Size>12", b"<Size>many")])
def test_a_page_that_is_none(page: bytes):
    with pytest.raises(DatasourceError, match="cannot be read"):
        parse_page(page)


def test_a_part_without_a_token_is_not_taken_for_everything():
    with pytest.raises(DatasourceError, match="only a part"):
        next_token(PAGE.replace(b"NextContinuationToken", b"Other"))


def test_a_store_that_does_not_encode_keys():
    entry = b"<Key>a+b%20</Key><LastModified>2026-11-20T14:03:22Z</LastModified>"
    page = b"<R><Contents>" + entry + b"</Contents></R>"
    assert parse_page(page)["key"].to_pylist() == ["a+b%20"]


def walked(root: Path, skip=lambda folder: False) -> dict[str, int]:
    rows = pa.Table.from_batches(walk(root, skip=skip), LISTING).to_pylist()
    return {row["key"]: row["size"] for row in rows}


def test_walking_finds_files_links_and_odd_names(tmp_path: Path):
    (tmp_path / "a b\n").mkdir()
    (tmp_path / "a b\n" / "ü.jpg").write_bytes(b"12")
    (tmp_path / "link.jpg").symlink_to("a b\n/ü.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    assert walked(tmp_path) == {"a b\n/ü.jpg": 2, "link.jpg": 2}


def test_a_skipped_folder_is_not_entered(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"")
    assert walked(tmp_path, lambda folder: folder == "out/") == {"in/a": 0}


def test_a_link_that_leads_back_up_ends(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"")
    (tmp_path / "d" / "up").symlink_to("..")
    assert walked(tmp_path) == {"d/a": 0}


def test_what_is_no_file_is_left_out(tmp_path: Path):
    (tmp_path / "file.jpg").write_bytes(b"1")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo.jpg")
    assert walked(tmp_path) == {"file.jpg": 1}


def test_a_name_that_is_no_utf8_is_listed_and_found(tmp_path: Path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"123")
    assert walked(tmp_path) == {r"caf\xe9.jpg": 3}
    assert local_path(tmp_path, printable(b"caf\xe9.jpg")) == raw


def test_a_backslash_in_a_name_that_is_no_utf8_survives(tmp_path: Path):
    raw = rb"caf" + b"\xe9" + rb"\xe9.jpg"
    path = os.fsencode(tmp_path) + b"/" + raw
    Path(os.fsdecode(path)).write_bytes(b"123")
    assert local_path(tmp_path, printable(raw)) == path


def test_a_name_that_only_looks_escaped_is_itself(tmp_path: Path):
    (tmp_path / r"a\xe9.jpg").write_bytes(b"")
    assert local_path(tmp_path, r"a\xe9.jpg") == os.fsencode(tmp_path / r"a\xe9.jpg")


@pytest.mark.skipif(os.getuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DatasourceError, match="closed"):
        walked(tmp_path)
