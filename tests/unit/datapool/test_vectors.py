"""Vectors are bytes in files; those of the first version, lists, are read as well."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightly_fs.datapool import state, store
from lightly_fs.datapool.update import update
from lightly_fs.datapool.vectors import packed, unpacked, vector_column, vectors_of
from tests.unit.datapool.made import opened
from tests.unit.datapool.scenario import content, first_run, second_run

ROWS = np.random.default_rng(1).normal(size=(70, 3)).astype(np.float32)


def table_of(rows):
    names = pa.array(map(str, range(len(rows))), pa.string())
    return pa.table({"filename": names}).append_column(*vector_column(rows))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:0], ROWS[::2], ROWS[:, :1]])
def test_a_table_comes_back_from_a_file_as_it_was(tmp_path, rows):
    table = table_of(rows)

    pq.write_table(packed(table), tmp_path / "x", row_group_size=16)
    stored = pq.read_table(tmp_path / "x")

    assert stored["vector"].to_pylist() == [row.astype("<f4").tobytes() for row in rows]
    assert unpacked(stored).equals(table)
    assert unpacked(stored).schema == table.schema
    np.testing.assert_array_equal(vectors_of(unpacked(stored)["vector"]), rows)


def test_pieces_of_tables_are_packed_and_unpacked_alone():
    table = pa.concat_tables([table_of(ROWS), table_of(ROWS[:5])])

    for made in (unpacked(packed(table.slice(60, 12))), unpacked(packed(table).slice(60, 12))):
        assert made.equals(table.slice(60, 12))


def test_the_lists_of_the_first_version_and_tables_without_vectors_stay_as_they_are():
    names = table_of(ROWS).select(["filename"])

    assert unpacked(table_of(ROWS)).equals(table_of(ROWS))
    assert unpacked(names) is packed(names) is names


def test_a_datapool_of_the_first_version_is_read_and_added_to(tmp_path, monkeypatch):
    with monkeypatch.context() as first:
        first.setattr(store, "packed", lambda table: table)
        first.setattr(state, "VERSION", 1)
        with opened(tmp_path / "old", tmp_path / "a") as pool:
            update(pool, first_run(pool))
    with opened(tmp_path / "new", tmp_path / "b") as pool:
        expected = update(pool, first_run(pool))
        with opened(tmp_path / "old", tmp_path / "c") as old:
            assert "element" in str(pq.read_schema(next((tmp_path / "old/samples").iterdir())))
            assert content(old) == content(expected)
            for one, other in zip(old.selected_vectors(), expected.selected_vectors(), strict=True):
                np.testing.assert_array_equal(one, other)
            both = update(old, second_run(old))
            assert content(both) == content(update(expected, second_run(expected)))
            assert both.samples().table.vectors.shape == (both.state.counts.samples, 4)
