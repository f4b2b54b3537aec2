"""CSV files of embeddings: what is read is what was written, and mistakes are found in the file."""

import csv

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightly_fs.artifacts.embeddings_csv import CsvFormat, read_embeddings_csv
from lightly_fs.artifacts.tables import write_embeddings_csv
from lightly_fs.errors import ModelError

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
LOOSE = CsvFormat(required=(), optional=("labels", "masked", "selected", "video"))


def written(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class Table:
    def __init__(self, filenames, vectors):
        self.filenames, self.vectors = filenames, vectors


@given(
    vectors=arrays(np.float32, (7, 3), elements=NUMBERS),
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1),
        min_size=7,
        max_size=7,
        unique=True,
    ),
)
def test_what_was_written_is_read_again(tmp_path_factory, vectors, names):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    marks = {"selected": np.arange(7) % 2.0}
    texts = {"video": pa.array([None, *names[1:]], pa.string())}
    write_embeddings_csv(path, Table(names, vectors), np.arange(7), marks, texts)

    found = read_embeddings_csv(path, LOOSE)

    assert found.filenames.to_pylist() == names
    assert np.array_equal(found.vectors, vectors)
    assert found.marked("selected").tolist() == [bool(n % 2) for n in range(7)]
    assert found.marked("masked") is None
    assert found.others["video"].to_pylist() == ["", *names[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filenames,embedding_0,labels\na,1,0\nb,cat,0\n", "row 3, column `embedding_0`: `cat`"),
        ("filenames,embedding_0,embedding_1,labels\na,1,1_0,0\n", "row 2, column `embedding_1`"),
        ("filenames,embedding_0,masked,labels\na,1,no,0\n", "row 2, column `masked`: `no` is no"),
        (
            "filenames,embedding_0,masked,labels\na,1,0,0\nb,1,2,0\n",
            "row 3, column `masked`: `2` is",
        ),
        ("filenames,embedding_0,selected,labels\na,1,,0\nb,1,nan,0\n", "row 3, column `selected`"),
        ('filenames,embedding_0,labels\n"a\nb",1,0\nc, x,0\n', "row 3, column `embedding_0`: ` x`"),
        ("filenames,embedding_0,labels\na,1,0\nb,1\n", "row 3 has 2 fields, and the header 3"),
        ("filenames,embedding_0,labels\na,1,0\nb,1,0,4\n", "row 3 has 4 fields, and the header 3"),
        ("filenames,embedding_0,labels\na,1,0\n\nb,1,0\n", "row 3 has no filename"),
        (b"filenames,embedding_0,labels\na,1,0\n\xfc,1,0\n", "row 3 is no UTF-8 text"),
        ("filenames,embedding_0,labels\na,1,0\n,2,0\n", "row 3 has no filename"),
        ("filenames,embedding_0,labels\na,1,0\nb,1,0\na,1,0\n", "row for `a`: 2 and 4"),
        ("filenames,embedding_0,embedding_1,labels\na,1,,0\n", "row 2, column `embedding_1`.*`a`"),
        ("filenames,embedding_0,labels\na,1,0\nb,inf,0\n", "row 3, column `embedding_0`.*`b`"),
        ("filenames,embedding_0,labels\na,1e99,0\n", "row 2, column `embedding_0`.*finite"),
        ("embedding_0,filenames,labels\n1,a,0\n", "must be `filenames`, not `embedding_0`"),
        ("filenames,embedding_0\na,1\n", "there is no column `labels`"),
        (b"filenames,embedding_0,\xfc\n", "the header is no UTF-8 text"),
        ("filenames,embedding_0,embedding_0,labels\na,1,1,0\n", "two columns have the same name"),
        ("filenames,embedding_0,video,labels\na,1,v,0\n", "the column `video` is unknown"),
    ],
)
def test_a_mistake_is_named_with_its_row_and_column(tmp_path, text, message):
    path = written(tmp_path / "x.csv", text)

    with pytest.raises(ModelError, match=message) as caught:
        read_embeddings_csv(path, CsvFormat())

    assert str(path) in caught.value.message
    assert caught.value.hint == (
        "columns: first `filenames`, then `embedding_0`, `embedding_1`, …, `labels`; "
        "may be missing: `masked`, `selected`"
    )


def test_rows_count_as_in_the_file_when_masked_ones_are_left_out(tmp_path):
    text = "filenames,embedding_0,masked\n,nan,1\na,1,0\nb,2,\nc,nan,\n"
    path = written(tmp_path / "x.csv", text)

    with pytest.raises(ModelError, match="row 5, column `embedding_0`"):
        read_embeddings_csv(path, LOOSE, skip_masked=True)
    path.write_text(text.replace("c,nan", "c,3"))
    assert read_embeddings_csv(path, LOOSE, skip_masked=True).vectors.tolist() == [[1], [2], [3]]


def test_the_mistake_is_found_late_in_a_large_file(tmp_path):
    """Arrow reads blocks at once, and its message says neither row nor column."""
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filenames", *(f"embedding_{n}" for n in range(8)), "labels"])
        for number in range(50_000):
            values = [number / 7] * 8
            if number == 49_000:
                values[5] = "0,5"
            rows.writerow([f"{number}.jpg", *values, 0])

    with pytest.raises(ModelError, match="row 49002, column `embedding_5`: `0,5` is no number"):
        read_embeddings_csv(path, CsvFormat())
