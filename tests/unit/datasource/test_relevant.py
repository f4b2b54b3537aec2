from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.artifacts.lists import write_list
from lightly_fs.config import RunConfig
from lightly_fs.datasource.relevant import keep_relevant, parse_lines
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.pipeline.relevant_file import relevant_entries

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


def some_of(names: set[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(sorted(names)), min_size=1, unique=True)


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


ODD = st.text(st.sampled_from("a/\\n\nx5c#!*?[] \t\r\u2028\ufeffü\x85"), min_size=1, max_size=6)
NAMES = ODD | st.text(min_size=1)


def written(folder: Path, filenames: Sequence[str]) -> list[str]:
    """Return the entries of a list as a run leaves it."""
    write_list(folder / "list.txt", filenames)
    config = RunConfig(
        input_dir="unused",
        output_dir="unused",
        shared_dir=str(folder),
        relevant_filenames_file="list.txt",
    )
    entries = relevant_entries(config, Source("unused", None))
    assert entries is not None
    return entries


@given(st.sets(NAMES, min_size=1).flatmap(lambda s: st.tuples(st.just(s), some_of(s))))
def test_a_list_that_a_run_wrote_names_the_same_files_and_no_other(tmp_path_factory, both):
    everything, chosen = both
    listed = sorted(everything)
    entries = written(tmp_path_factory.getbasetemp(), chosen)

    mask = keep_relevant(pa.chunked_array([listed]), entries).to_pylist()

    assert {name for name, keep in zip(listed, mask, strict=True) if keep} == set(chosen)


@pytest.mark.parametrize("name", ["a\\nb", "a\nb", "#a", "\ufeffa", " a ", "!a", "a*", "a/[b]"])
def test_names_that_others_resemble_are_told_apart(tmp_path: Path, name: str):
    listed = [
        "#a",
        "!a",
        " a ",
        "a",
        "a*",
        "a/",
        "a/[b]",
        "a/b",
        "a\\\\nb",
        "a\\nb",
        "a\nb",
        "\ufeffa",
    ]

    mask = keep_relevant(pa.chunked_array([listed]), written(tmp_path, [name])).to_pylist()

    assert [found for found, keep in zip(listed, mask, strict=True) if keep] == [name]


def test_a_backslash_of_other_lists_is_itself_when_it_means_nothing_else():
    listed = pa.chunked_array([["a\\b.jpg", "a\\new.jpg", "c\\new.jpg", "c\new.jpg"]])

    mask = keep_relevant(listed, ["a\\b.jpg", "a\\new.jpg", "c\\new.jpg"]).to_pylist()

    assert mask == [True, True, False, True]


def test_half_a_character_names_nothing():
    assert kept("a.jpg", r"\ud83d.jpg") == ["a.jpg"]


@pytest.mark.parametrize("pattern", ["!", "\\"])
def test_half_a_pattern_is_an_error(pattern: str):
    with pytest.raises(DatasourceError, match="holds no pattern"):
        kept(pattern)
