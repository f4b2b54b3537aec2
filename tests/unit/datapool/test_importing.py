"""Embeddings of older pools come in, and go out in the same format."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from lightly_fs.artifacts import read_list
from lightly_fs.datapool.exporting import export_pool
from lightly_fs.datapool.importing import LATEST, import_embeddings, read_embeddings
from lightly_fs.datapool.update import update
from lightly_fs.errors import ArtifactError, ModelError
from lightly_fs.types import Outcome
from tests.unit.datapool.made import MODEL, additions_of, inventory_of, opened, vector_of
from tests.unit.datapool.scenario import FIRST, first_run

HEADER = "filenames,embedding_0,embedding_1,embedding_2,embedding_3,labels"


@pytest.fixture
def empty(tmp_path):
    with opened(tmp_path / "pool", tmp_path / "staging") as pool:
        yield pool


def written(folder, *names):
    """Write a file of embeddings in which nothing but the names matters."""
    path = folder / "x.csv"
    path.write_text(f"{HEADER}\n" + "".join(f"{name},1,2,3,4,0\n" for name in names))
    return path


@pytest.fixture
def older(tmp_path):
    """A pool of the first version of the container, with one earlier state."""
    folder = tmp_path / "older"
    (folder / "history").mkdir(parents=True)
    first = f'{HEADER}\na.jpg,1,2,3,4,0\n"b, c.jpg",0.1,2,3,4,1\n'
    (folder / "history" / "datapool_2021-03-01.csv").write_text(first)
    (folder / "datapool_latest.csv").write_text(first + "ü/d.jpg,5,6,7,8,0\n")
    (folder / "checkpoint_latest.ckpt").write_bytes(b"")
    return folder


def test_an_older_pool_becomes_a_state_per_file(empty, older):
    first, second = import_embeddings(empty, older, MODEL)

    assert first.samples().table.filenames == ["a.jpg", "b, c.jpg"]
    assert second.selected().table.filenames == ["a.jpg", "b, c.jpg", "ü/d.jpg"]
    assert second.selected_vectors()[1][1].tolist() == [np.float32(0.1), 2, 3, 4]
    assert second.state.counts.added_samples == 1
    known = second.split(inventory_of({"a.jpg": 5, "new.jpg": 0}))
    assert (known.known.tolist(), known.new.tolist()) == ([0], [1])
    assert known.deleted == ["b, c.jpg", "ü/d.jpg"]


def test_a_second_import_adds_nothing(empty, older):
    made = import_embeddings(empty, older, MODEL)

    assert import_embeddings(made[-1], older, MODEL) == []


def test_what_was_imported_is_embedded_again_when_a_run_needs_more_of_it(empty, older):
    pool = import_embeddings(empty, older, MODEL)[-1]

    assert pool.reuse(["a.jpg"]).table.filenames == []
    bucket = {"a.jpg": 1}
    found = additions_of(pool, bucket, {"a.jpg": Outcome.EMBEDDED}, ())
    again = update(pool, found)
    assert again.state.counts.selected == 3
    assert again.reuse(["a.jpg"]).table.vectors.tolist() == [vector_of("a.jpg", 1).tolist()]
    assert again.state.counts.samples == 3


def test_embeddings_of_an_unknown_model_are_kept_apart(empty, older, tmp_path):
    pool = import_embeddings(empty, older, None)[-1]

    assert pool.state.model is None
    with pytest.raises(ModelError, match="nobody said what made them"):
        update(pool, additions_of(pool, {"x.jpg": 0}, {"x.jpg": Outcome.EMBEDDED}, ()))
    with opened(tmp_path / "filled", tmp_path / "s") as other:
        filled = update(other, first_run(other))
        with pytest.raises(ModelError, match="nobody says what made") as caught:
            import_embeddings(filled, older, None)
        assert "--model" in caught.value.hint


def test_dimensions_have_to_match(empty, older, tmp_path):
    pool = import_embeddings(empty, older, None)[-1]
    other = tmp_path / "other.csv"
    other.write_text("filenames,embedding_0,labels\nx.jpg,1,0\n")

    with pytest.raises(ModelError, match="1 dimensions, the datapool 4"):
        import_embeddings(pool, other, None)
    with pytest.raises(ModelError, match="4 dimensions, the model 5"):
        import_embeddings(pool, older, dataclasses.replace(MODEL, dimensions=5))


@pytest.mark.parametrize(
    ("latest", "problem"),
    [
        ("filenames,embedding_0,labels\ne.jpg,1,0\n", "1.csv has 4 and .*_latest.csv has 1 dim"),
        (f"{HEADER}\ne.jpg,1,2,3,cat,0\n", "_latest.csv: row 2, column `embedding_3`"),
    ],
)
def test_a_mistake_in_the_last_file_shows_before_the_first_is_there(empty, older, latest, problem):
    (older / LATEST).write_text(latest)

    with pytest.raises(ModelError, match=problem):
        import_embeddings(empty, older, None)

    assert empty.store.newest().number == 0


def test_marks_are_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "filenames,embedding_0,masked,selected,labels\na,1,0,1,0\nb,2,1,1,0\nc,3,0,0,0\n"
    )

    found = read_embeddings(path)

    assert found.filenames.to_pylist() == ["a", "c"]
    assert found.vectors.tolist() == [[1], [3]]
    assert found.selected.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("names,embedding_0,labels\nx,1,0\n", "first column must be `filenames`, not `names`"),
        ("filenames,embedding_1,labels\nx,1,0\n", "without a gap"),
        ("filenames,embedding_0,what,labels\nx,1,1,0\n", "column `what` is unknown"),
        ("filenames,embedding_0,labels\nx,1,0\nx,2,0\n", "one row for `x`: 2 and 3"),
        ("filenames,embedding_0,labels\nx,cat,0\n", "row 2, column `embedding_0`: `cat`"),
        ("filenames,embedding_0,video\nx.png,1,v.mp4\n", "`x.png` is no name of a frame"),
        ("filenames,embedding_0,video\nv-1-mp4.png,1,w.mp4\n", "no name of a frame of `w.mp4`"),
        ("", "first column"),
    ],
)
def test_files_that_break_the_format(empty, tmp_path, text, problem):
    path = tmp_path / "x.csv"
    path.write_text(text)

    with pytest.raises(ModelError, match=problem) as caught:
        import_embeddings(empty, path, None)

    assert caught.value.hint == (
        "columns: first `filenames`, then `embedding_0`, `embedding_1`, …; "
        "may be missing: `labels`, `masked`, `selected`, `video`"
    )
    assert empty.store.numbers() == []


def test_a_folder_without_a_pool(empty, tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no datapool_latest\.csv"):
        import_embeddings(empty, tmp_path, None)


def test_what_is_exported_can_be_imported(empty, tmp_path):
    pool = update(empty, first_run(empty))
    path = tmp_path / "out.csv"

    assert export_pool(pool, path, "csv", selected_only=False) == 5

    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert list(rows[0])[-3:] == ["selected", "labels", "video"]
    assert {row["filenames"]: row["selected"] for row in rows} == {
        "a.jpg": "1",
        "b.jpg": "0",
        "c.jpg": "1",
        "v-0-mp4.png": "0",
        "v-1-mp4.png": "1",
    }
    with opened(tmp_path / "other", tmp_path / "s") as other:
        copy = import_embeddings(other, path, MODEL)[-1]
        assert copy.selected().table.filenames == pool.selected().table.filenames
        assert np.array_equal(copy.samples().table.vectors, pool.samples().table.vectors)
        columns = ["video", "frame_index"]
        assert copy.rows(columns).to_pylist() == pool.rows(columns).to_pylist()
        # The next run on the same bucket has nothing to do.
        known = copy.split(inventory_of(FIRST))
        assert (known.to_process.tolist(), known.deleted) == ([], [])
        assert copy.state.counts.files == 4


def test_frames_are_known_by_their_names_where_no_column_tells(empty, tmp_path):
    path = written(tmp_path, "a.jpg", "d/v-007-mp4.png", "d/v-008-MP4.png")

    pool = import_embeddings(empty, path, MODEL)[-1]

    assert pool.files["filename"].to_pylist() == ["a.jpg", "d/v.mp4", "d/v.MP4"]
    assert pool.rows(["video", "frame_index"]).to_pylist() == [
        {"video": None, "frame_index": None},
        {"video": "d/v.mp4", "frame_index": 7},
        {"video": "d/v.MP4", "frame_index": 8},
    ]


def test_images_may_be_called_as_frames_are(empty, tmp_path):
    names = ["v-1-mp4.png", "w-1-mp4.png"]
    path = written(tmp_path, *names)
    pool = import_embeddings(empty, path, MODEL, images=True)[-1]

    assert pool.split(inventory_of(dict.fromkeys(names, 0))).known.tolist() == [0, 1]
    # What is exported tells which are frames, so that nobody has to say so again.
    export_pool(pool, tmp_path / "out.csv", "csv", selected_only=False)
    with opened(tmp_path / "other", tmp_path / "s") as other:
        copy = import_embeddings(other, tmp_path / "out.csv", MODEL)[-1]
    assert copy.files["filename"].to_pylist() == names
    assert copy.rows(["video"])["video"].null_count == 2


def test_a_frame_has_one_row_whatever_it_is_called(empty, tmp_path):
    path = written(tmp_path, "v-1-mp4.png", "v-01-mp4.jpg")
    with pytest.raises(ModelError, match=r"`v-1-mp4\.png` and `v-01-mp4\.jpg` are the same frame"):
        import_embeddings(empty, path, MODEL)

    pool = import_embeddings(empty, written(tmp_path, "v-1-mp4.png"), MODEL)[-1]
    assert import_embeddings(pool, written(tmp_path, "v-001-mp4.png"), MODEL) == []
    # As an image it is known, too: it would have the same name twice.
    assert import_embeddings(pool, written(tmp_path, "v-1-mp4.png"), MODEL, images=True) == []


def test_further_frames_of_an_imported_video_join_it(empty, tmp_path):
    folder = tmp_path / "older"
    (folder / "history").mkdir(parents=True)
    written(tmp_path, "v-1-mp4.png", "a.jpg").rename(folder / "history/1.csv")
    names = ["v-1-mp4.png", "v-5-mp4.png", "b.jpg", "a.jpg"]
    written(tmp_path, *names).rename(folder / LATEST)

    _, second = import_embeddings(empty, folder, MODEL)

    assert sorted(second.selected().table.filenames) == sorted(names)
    counts = second.state.counts
    assert (counts.files, counts.samples, counts.selected) == (3, 4, 4)
    assert (counts.added_files, counts.changed_files) == (1, 1)


def test_frames_of_a_video_that_a_run_saw_are_not_added(empty, tmp_path):
    pool = update(empty, first_run(empty))

    assert import_embeddings(pool, written(tmp_path, "v-9-mp4.png"), MODEL) == []


@pytest.mark.parametrize("selected", [True, False])
def test_other_formats(empty, tmp_path, selected):
    pool = update(empty, first_run(empty))
    names = pool.selected().table.filenames if selected else pool.samples().table.filenames

    export_pool(pool, tmp_path / "x.txt", "filenames", selected_only=selected)
    export_pool(pool, tmp_path / "x.parquet", "parquet", selected_only=selected)

    assert read_list(tmp_path / "x.txt") == names
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["filename"].to_pylist() == names
    assert {"video", "property_sharpness", "vector", "selected"} <= set(table.column_names)


@pytest.mark.parametrize("format_", ["csv", "filenames", "parquet"])
def test_an_empty_pool_is_exported_empty(empty, tmp_path, format_):
    assert export_pool(empty, tmp_path / "x", format_, selected_only=False) == 0
