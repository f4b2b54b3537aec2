import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.artifacts import lists
from lightly_fs.artifacts.lists import check_lists, read_list, write_list
from lightly_fs.escaping import escape, unescape

NAMES = st.text(st.characters(exclude_categories=()))


@given(NAMES)
def test_every_name_survives_escaping(name):
    assert unescape(escape(name)) == name


@given(st.text(st.sampled_from("\\\nnx5cu2028\u2028#"), max_size=9), NAMES)
def test_a_line_is_one_name(one, other):
    lines = {name: escape(name) for name in (one, other, unescape(one), escape(one))}
    assert len(set(lines.values())) == len(lines)


@given(NAMES)
def test_an_escaped_name_is_one_line_for_every_reader(name):
    line = escape(name)

    assert len((line + "\n").splitlines()) == 1
    assert line.strip() == line
    line.encode()


@given(st.lists(NAMES))
def test_every_list_survives_writing(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "list.txt"

    write_list(path, names)

    assert read_list(path) == names


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("plain name, ü 猫.jpg", "plain name, ü 猫.jpg"),
        ("a\nb.jpg", r"a\nb.jpg"),
        ("a\\nb.jpg", r"a\\nb.jpg"),
        (" a.jpg ", r"\x20a.jpg\x20"),
        ("a\x1b[0m\u2028.jpg", r"a\x1b[0m\u2028.jpg"),
        ("#1/a#b.jpg", r"\x231/a#b.jpg"),
        ("\ufeffa.jpg", r"\ufeffa.jpg"),
    ],
)
def test_only_special_characters_are_escaped(name, line):
    assert escape(name) == line


def written(folder, **changes):
    """Write lists that add up, but for the changes."""
    content = {
        lists.EMBEDDED: ["a", "b", "c", "d"],
        lists.DUPLICATE: ["b"],
        lists.SELECTED: ["d", "a"],
        lists.REMOVED: ["c"],
        "corrupt_filenames.txt": ["e"],
        "gone_filenames.txt": [],
        "failed_filenames.txt": [],
        "unreadable_filenames.txt": ["f"],
    }
    for name, names in {**content, **changes}.items():
        write_list(folder / name, names)
    return folder


INVENTORY = pa.chunked_array([["a", "b", "c"], ["d", "e", "f"]])


def test_lists_that_add_up_pass(tmp_path):
    assert check_lists(written(tmp_path), INVENTORY) is None


@pytest.mark.parametrize(
    ("name", "names", "problem"),
    [
        ("corrupt_filenames.txt", [], "in no list, the first is `e`"),
        ("gone_filenames.txt", ["e"], "in two lists, the first is `e`"),
        ("gone_filenames.txt", ["x"], "unknown, the first is `x`"),
        (lists.REMOVED, [], "of embedded_filenames.txt are in no list, the first is `c`"),
        (lists.REMOVED, ["c", "b"], "in two lists, the first is `b`"),
        (lists.SELECTED, ["d", "a", "e"], "unknown, the first is `e`"),
    ],
)
def test_lists_that_do_not_add_up_are_named(tmp_path, name, names, problem):
    assert problem in check_lists(written(tmp_path, **{name: names}), INVENTORY)
