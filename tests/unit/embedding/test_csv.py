import logging
import re

import numpy as np
import pytest
import torch

from lightly_fs.embedding.csv import CsvEmbedder
from lightly_fs.errors import ModelError

GOOD = "filenames,embedding_0,embedding_1,labels\na.jpg,1,2,0\nb/c.jpg,3.5,-4e-1,0\n"


def embedder(tmp_path, text: str | bytes, names=("a.jpg", "b/c.jpg")) -> CsvEmbedder:
    path = tmp_path / "vectors.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return CsvEmbedder(path, names)


def embed(csv: CsvEmbedder, *names: str, batch: int = 3):
    return csv.embed(torch.zeros(batch, 128, 128, 3, dtype=torch.uint8), names)


def test_gives_the_vectors_by_filename(tmp_path):
    vectors = embed(embedder(tmp_path, GOOD), "b/c.jpg", "a.jpg")
    assert vectors.dtype == np.float32
    assert vectors[:2].tolist() == [[3.5, np.float32(-0.4)], [1, 2]]


def test_a_sample_without_a_row_gets_no_vector_and_a_reason(tmp_path):
    csv = embedder(tmp_path, GOOD)
    assert np.isnan(embed(csv, "other.jpg")[0]).all()
    assert csv.no_vector == "no row in vectors.csv"


def test_columns_go_by_their_number_and_marks_of_zero_are_allowed(tmp_path):
    text = "filenames,embedding_1,embedding_0,masked,selected,labels\na.jpg,2,1,0,0,street\n"
    assert embed(embedder(tmp_path, text), "a.jpg")[0].tolist() == [1, 2]


def test_names_with_commas_quotes_newlines_and_umlauts_are_found(tmp_path):
    name = 'süß, "x"\n.jpg'
    text = '\ufefffilenames,embedding_0,labels\n"süß, ""x""\n.jpg",7,0\n'
    assert embed(embedder(tmp_path, text, [name]), name)[0].tolist() == [7]


def test_rows_that_name_no_sample_are_counted(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        embedder(tmp_path, GOOD, ["a.jpg"])
    assert "1 rows of" in caplog.text


def test_a_file_for_other_images_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"none of the 2 filenames .* the first is `a.jpg`"):
        embedder(tmp_path, GOOD, ["x.jpg"])


def test_the_card_tells_the_file_and_changes_with_its_content(tmp_path):
    first = embedder(tmp_path, GOOD).info
    second = embedder(tmp_path, GOOD.replace("3.5", "3.6")).info
    assert (first.name, first.dimensions, first.runtime) == ("csv:vectors.csv", 2, "csv")
    assert first.weights_sha256 != second.weights_sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first column must be `filenames`"),
        ("embedding_0,filenames,labels\n1,a.jpg,0\n", "first column must be `filenames`"),
        ("filenames,embedding_0\na.jpg,1\n", "no column `labels`"),
        ("filenames,labels\na.jpg,0\n", "without a gap"),
        ("filenames,embedding_0,embedding_2,labels\na.jpg,1,2,0\n", "without a gap"),
        ("filenames,embedding_0,embedding_0,labels\na.jpg,1,2,0\n", "the same name"),
        ("filenames,embedding_0,embedding_x,labels\na.jpg,1,2,0\n", "`embedding_x` is unknown"),
        ("filenames,embedding_0, score,labels\na.jpg,1,2,0\n", "` score` is unknown"),
        ("filenames,embedding_0,labels\n", "no rows"),
        ("filenames,embedding_0,labels\na.jpg,1,0\n\nb.jpg,1,0\n", "row 3 has no filename"),
        ("filenames,embedding_0,labels\na.jpg,1,0\nb.jpg,1\n", "row 3 has 2 fields"),
        ("filenames,embedding_0,labels\na.jpg,one,0\n", "row 2, column `embedding_0`: `one`"),
        ("filenames,embedding_0,labels\na.jpg,nan,0\n", "no finite number for `a.jpg`"),
        ("filenames,embedding_0,labels\na.jpg,1e99,0\n", "no finite number for `a.jpg`"),
        ("filenames,embedding_0,labels\na.jpg,,0\n", "no finite number for `a.jpg`"),
        ("filenames,embedding_0,labels\na.jpg,1,0\na.jpg,2,0\n", "more than one row for `a.jpg`"),
        ("filenames,embedding_0,labels\na.jpg,1,0\n,2,0\n", "row 3 has no filename"),
        ("filenames,embedding_0,masked,labels\na.jpg,1,1,0\n", "marks rows as masked"),
        ("filenames,embedding_0,selected,labels\na.jpg,1,1,0\n", "marks rows as selected"),
        ("filenames,embedding_0,labels\n\xfc.jpg,1,0\n".encode("latin-1"), "row 2 is no UTF-8"),
    ],
)
def test_a_file_that_breaks_the_format_is_refused(tmp_path, text, message):
    with pytest.raises(ModelError, match=message):
        embedder(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "none.csv"))):
        CsvEmbedder(tmp_path / "none.csv", ["a.jpg"])
