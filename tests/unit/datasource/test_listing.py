from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.listing import (
    LISTING,
    local_path,
    next_token,
    parse_page,
    printable,
    printable_names,
    walk,
)
from lightly_fs.datasource.source import Source
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
    assert local_path(tmp_path, printable(b"caf\xe9.jpg"), walked=True) == raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a\xff.jpg", r"a\xff.jpg"),
        (rb"a\xff.jpg", r"a\x5cxff.jpg"),
        (rb"a\x5cxff.jpg", r"a\x5cx5cxff.jpg"),
        (rb"a\b \x \xFF \n.jpg", r"a\b \x \xFF \n.jpg"),
    ],
)
def test_a_name_that_looks_escaped_is_told_from_one_that_is(raw: bytes, text: str):
    assert printable(raw) == text


PIECES = st.sampled_from([b"\\", b"x", b"5c", b"\xff", b"\xc3", b"\xa9", "ü".encode(), b"f", b"n"])
RAW_NAMES = st.lists(PIECES | st.binary(min_size=1, max_size=3), max_size=8).map(b"".join)


@given(RAW_NAMES)
def test_every_name_can_be_had_again_from_its_text(name: bytes):
    folder = Path(r"/a \xff folder")
    assert local_path(folder, printable(name), walked=True) == rb"/a \xff folder/" + name


@given(st.lists(RAW_NAMES | st.just(b"plain.jpg")))
def test_many_names_are_printed_as_each_is_by_itself(names: list[bytes]):
    assert printable_names(names).to_pylist() == [printable(name) for name in names]


def test_names_that_differ_only_in_escaping_are_read_apart(tmp_path: Path):
    raw = {b"a\xff.jpg": b"byte", rb"a\xff.jpg": b"text"}
    for name, content in raw.items():
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    inventory = freeze(Source(str(tmp_path), tmp_path))
    reader = DirectoryReader(tmp_path)

    found = {one.filename: reader.read(one) for one in inventory.samples()}

    reader.close()
    assert found == {r"a\xff.jpg": b"byte", r"a\x5cxff.jpg": b"text"}


def test_the_key_of_an_object_is_its_path(tmp_path: Path):
    path = os.fsencode(tmp_path) + rb"/a\xe9.jpg"
    assert local_path(tmp_path, r"a\xe9.jpg", walked=False) == path


@pytest.mark.skipif(os.getuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(DatasourceError, match="closed"):
        walked(tmp_path)
