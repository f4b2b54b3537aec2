from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from lightly_fs.datasource.relevant import keep_relevant, parse_lines
from lightly_fs.errors import DatasourceError

LISTED = [
    "#hash.jpg",
    "a.jpg",
    "a/im_1.jpg",
    "a/im_40.png",
    "a/im_41.png",
    "a/other.jpg",
    "b/cam_1/x.jpg",
    "b/cam_2/x.jpg",
    "b/cam_22/x.jpg",
    "sp ace.jpg",
    "we[i]rd.jpg",
]


def kept(*entries: str) -> list[str]:
    mask = keep_relevant(pa.chunked_array([LISTED]), entries).to_pylist()
    return [name for name, keep in zip(LISTED, mask, strict=True) if keep]


def test_comments_blank_lines_and_repetitions_are_dropped():
    text = "a.jpg\r\n\n# a comment\n   \na.jpg\nb/\n"
    assert parse_lines(text) == ["a.jpg", "b/"]


@pytest.mark.parametrize("name", ["a.jpg", "sp ace.jpg", "we[i]rd.jpg", "a/im_1.jpg", "#hash.jpg"])
def test_a_filename_names_itself_alone(name: str):
    assert kept(name) == [name]


def test_a_bare_name_is_no_pattern_for_other_folders():
    assert kept("a.jpg", "x.jpg") == ["a.jpg"]


def test_a_folder_is_a_prefix():
    assert kept("a/") == ["a/im_1.jpg", "a/im_40.png", "a/im_41.png", "a/other.jpg"]


def test_a_star_at_the_end_is_a_prefix():
    assert kept("a/im_4*") == ["a/im_40.png", "a/im_41.png"]


def test_gitignore_patterns():
    assert kept("**/cam_?/*.jpg") == ["b/cam_1/x.jpg", "b/cam_2/x.jpg"]


def test_an_exclamation_mark_takes_out_again():
    assert kept("**/*.png", "!a/im_41.png") == ["a/im_40.png"]


def test_a_prefix_with_patterns_on_its_line():
    assert kept("a/* a/im_4* !a/im_41.png") == ["a/im_40.png"]


def test_what_names_nothing_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        assert kept("a.jpg", "missing.jpg", "nowhere/", "*.tiff") == ["a.jpg"]
    assert "3 entries" in caplog.text
    for entry in ("missing.jpg", "nowhere/", "*.tiff"):
        assert f"`{entry}`" in caplog.text


def test_nothing_at_all_is_an_error():
    with pytest.raises(DatasourceError, match=r"none of the 2 entries .* `missing.jpg`"):
        kept("missing.jpg", "nowhere/")


@pytest.mark.parametrize("pattern", ["!", "\\"])
def test_half_a_pattern_is_an_error(pattern: str):
    with pytest.raises(DatasourceError, match="holds no pattern"):
        kept(pattern)
