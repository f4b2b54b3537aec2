import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from lightly_fs.artifacts import Results, RunDir, lists, read_list, results, write_results
from lightly_fs.artifacts.tables import write_embeddings_csv
from lightly_fs.types import Counts, Selection
from tests.unit.artifacts.conftest import COPY, CORRUPT, MODEL, embed, results_of

CANDIDATES = ["d/0.jpg", "d/1.jpg", "d/3.jpg", "d/4.jpg", "d/7.jpg", "e/x\ny.webp", "e/ü, 猫.png"]
SELECTED = ["d/4.jpg", "d/0.jpg", "d/7.jpg"]
REMOVED = ["d/1.jpg", "d/3.jpg", "e/x\ny.webp", "e/ü, 猫.png"]


@pytest.fixture
def table(tmp_path, output, config, inventory):
    run_dir = RunDir.open(output, config, tmp_path / "staging")
    run_dir.freeze(inventory)
    run_dir.set_model(MODEL)
    for number in range(3):
        run_dir.write_part(number, embed(inventory.shards(4)[number].samples))
    return run_dir.read_parts()


def read_csv(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_counts_add_up(table):
    counts = results_of(table).counts(10)

    assert counts == Counts(10, 8, 1, 0, 1, 0, 1, 3, 4)
    assert counts.check() is None


def test_embeddings_are_those_of_the_candidates_in_inventory_order(tmp_path, table, config):
    write_results(results_of(table), tmp_path, config)

    header, *rows = read_csv(tmp_path / "data/embeddings.csv")
    assert header == ["filenames", "embedding_0", "embedding_1", "embedding_2", "labels"]
    assert [row[0] for row in rows] == CANDIDATES
    assert {row[-1] for row in rows} == {"0"}
    values = np.array([row[1:-1] for row in rows]).astype(np.float32)
    assert np.array_equal(values, table.vectors[table.without(results_of(table).duplicates)])
    parquet = pq.read_table(tmp_path / "data/embeddings.parquet")
    assert parquet["filename"].to_pylist() == CANDIDATES
    assert np.array_equal(np.array(parquet["embedding"].to_pylist(), np.float32), values)
    assert parquet["sharpness"].to_pylist() == [len(name) / 3 for name in CANDIDATES]


def test_selected_embeddings_are_in_the_order_of_selection(tmp_path, table, config):
    write_results(results_of(table), tmp_path, config)

    _, *rows = read_csv(tmp_path / "data/selected_embeddings.csv")
    assert [row[0] for row in rows] == SELECTED


def test_each_list_names_its_samples(tmp_path, table, config):
    write_results(results_of(table), tmp_path, config)

    found = {path.name: read_list(path) for path in (tmp_path / "filenames").iterdir()}
    assert found == {
        "embedded_filenames.txt": sorted([*CANDIDATES, COPY]),
        "corrupt_filenames.txt": [CORRUPT],
        "gone_filenames.txt": [],
        "failed_filenames.txt": ["d/5.jpg"],
        "unreadable_filenames.txt": [],
        "duplicate_filenames.txt": [COPY],
        "sampled_filenames_excluding_datapool.txt": SELECTED,
        "removed_filenames.txt": REMOVED,
    }


def test_written_lists_add_up(tmp_path, table, config, inventory):
    write_results(results_of(table), tmp_path, config)

    assert lists.check_lists(tmp_path / "filenames", inventory.table["filename"]) is None


def test_reasons_are_kept(tmp_path, table, config):
    write_results(results_of(table), tmp_path, config)

    assert read_csv(tmp_path / "data/failures.csv") == [
        ["filename", "outcome", "reason"],
        [CORRUPT, "corrupt", 'truncated, "really"'],
        ["d/5.jpg", "failed", "timed out"],
    ]
    assert read_csv(tmp_path / "data/duplicates.csv") == [
        ["filename", "original", "reason"],
        [COPY, "d/0.jpg", "content"],
    ]
    assert json.loads((tmp_path / "corruptness_check_information.json").read_text()) == {
        "corrupt_samples": {CORRUPT: 'truncated, "really"'},
        "corrupt_videos": {},
    }
    assert not (tmp_path / "data/removed_samples.csv").exists()


def test_removed_samples_name_their_nearest_selected_sample(tmp_path, table, config):
    given = results_of(table)
    nearest = (np.array([0, 0, 2, 1]), np.array([0.5, 0.25, 1, 0.1], np.float32))
    write_results(Results(table, given.duplicates, given.selection, nearest), tmp_path, config)

    assert read_csv(tmp_path / "data/removed_samples.csv")[1:] == [
        ["d/1.jpg", "d/4.jpg", "0.5"],
        ["d/3.jpg", "d/4.jpg", "0.25"],
        ["e/x\ny.webp", "d/7.jpg", "1"],
        ["e/ü, 猫.png", "d/0.jpg", "0.1"],
    ]


@pytest.mark.parametrize(
    ("wanted", "limit", "written"),
    [("auto", 21, True), ("auto", 20, False), ("always", 20, True), ("never", 21, False)],
)
def test_csv_is_written_up_to_a_size(tmp_path, table, config, monkeypatch, wanted, limit, written):
    monkeypatch.setattr(results, "CSV_VALUES", limit)

    write_results(results_of(table), tmp_path, config.model_copy(update={"embeddings_csv": wanted}))

    assert (tmp_path / "data/embeddings.csv").exists() == written
    assert (tmp_path / "data/embeddings.parquet").exists()


def test_nothing_usable_is_written_too(tmp_path, table, config):
    empty = type(table)(
        [], table.vectors[:0], *[table.widths[:0]] * 2, *[table.content_hashes[:0]] * 2
    )
    nothing = Selection(np.array([], np.int64), np.array([], np.float32), "all")

    write_results(Results(empty, [], nothing), tmp_path, config)

    assert (tmp_path / "data/embeddings.csv").read_text().count("\n") == 1
    assert (tmp_path / "filenames/removed_filenames.txt").read_text() == ""


def test_every_float_survives_the_csv(tmp_path, table):
    rng = np.random.default_rng(5)
    numbers = rng.integers(0, 2**32, (len(table), 300), dtype=np.uint32).view(np.float32)
    numbers[~np.isfinite(numbers)] = 0
    odd = type(table)(
        [f"{row}.jpg" for row in range(len(table))],
        numbers,
        table.widths,
        table.heights,
        table.content_hashes,
        table.pixel_hashes,
    )

    write_embeddings_csv(tmp_path / "x.csv", odd, np.arange(len(table)))

    assert '"' not in (tmp_path / "x.csv").read_text()
    _, *rows = read_csv(tmp_path / "x.csv")
    assert np.array_equal(np.array([row[1:-1] for row in rows]).astype(np.float32), numbers)


def test_records_are_read_back_as_they_were(table):
    from tests.unit.artifacts.conftest import record_of

    assert list(table.records) == [record_of(name) for name in table.filenames]
    assert table.records[1:3] == [record_of(name) for name in table.filenames[1:3]]
