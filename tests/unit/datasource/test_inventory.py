from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.datasource.inventory import SCHEMA, Inventory, freeze
from lightly_fs.datasource.source import Source
from lightly_fs.errors import ArtifactError, DatasourceError
from lightly_fs.types import Stage

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
ROWS = st.dictionaries(
    NAMES,
    st.tuples(
        st.integers(0, 2**40),
        st.none() | st.text("0123456789abcdef-", min_size=1),
        st.integers(0, 2**62),
    ),
    max_size=20,
)


def inventory_of(rows: dict[str, tuple[int, str | None, int]]) -> Inventory:
    columns = [[name, *row] for name, row in rows.items()]
    values = [pa.array([row[i] for row in columns], SCHEMA.field(i).type) for i in range(4)]
    return Inventory(pa.Table.from_arrays(values, schema=SCHEMA))


@given(ROWS)
def test_rows_are_sorted_by_utf8_bytes(rows):
    inventory = inventory_of(rows)
    assert [s.filename for s in inventory.samples()] == sorted(rows, key=lambda name: name.encode())


@given(ROWS)
def test_the_digest_depends_on_content_alone(rows):
    backwards = dict(reversed(rows.items()))
    assert inventory_of(rows).digest == inventory_of(backwards).digest


@given(ROWS, ROWS)
def test_different_inventories_have_different_digests(one, other):
    assert (inventory_of(one).digest == inventory_of(other).digest) == (one == other)


@given(ROWS)
def test_the_digest_is_that_of_run_directories_that_are_there(rows):
    samples = inventory_of(rows).samples()
    expected = hashlib.sha256(b"lightly-fs inventory 1\n")

    def add_texts(texts: list[str | None]) -> None:
        encoded = [None if text is None else text.encode() for text in texts]
        lengths = [-1 if text is None else len(text) for text in encoded]
        expected.update(struct.pack(f"<{len(lengths)}i", *lengths))
        expected.update(b"".join(filter(None, encoded)))

    add_texts([one.filename for one in samples])
    expected.update(struct.pack(f"<{len(samples)}q", *(one.size for one in samples)))
    add_texts([one.etag for one in samples])
    expected.update(struct.pack(f"<{len(samples)}q", *(one.mtime_ns for one in samples)))
    assert inventory_of(rows).digest == expected.hexdigest()


def test_a_null_etag_is_not_an_empty_one():
    assert inventory_of({"a": (1, None, 1)}).digest != inventory_of({"a": (1, "", 1)}).digest


def test_text_moved_between_rows_changes_the_digest():
    one, other = {"ab": (1, None, 1), "c": (1, None, 1)}, {"a": (1, None, 1), "bc": (1, None, 1)}
    assert inventory_of(one).digest != inventory_of(other).digest


def test_parquet_round_trip_is_exact_and_deterministic(tmp_path: Path):
    inventory = inventory_of({"b\nü.jpg": (5, "e", 2), "a.jpg": (3, None, 1)})
    inventory.write(tmp_path / "one.parquet")
    inventory.write(tmp_path / "two.parquet")
    again = Inventory.read(tmp_path / "one.parquet")
    assert again.samples() == inventory.samples()
    assert again.digest == inventory.digest
    again.write(tmp_path / "three.parquet")
    written = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(written) == 1


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "inventory.parquet"
    path.write_bytes(b"PAR1nonsense")
    with pytest.raises(ArtifactError, match="no inventory"):
        Inventory.read(path)


def test_altered_rows_are_refused(tmp_path: Path):
    import pyarrow.parquet as pq

    path = tmp_path / "inventory.parquet"
    inventory_of({"a.jpg": (3, None, 1)}).write(path)
    table = pq.read_table(path)
    sizes = pa.array([4], pa.int64())
    pq.write_table(table.set_column(1, table.schema.field(1), sizes), path)
    with pytest.raises(ArtifactError, match="damaged"):
        Inventory.read(path)


def test_shards_cover_everything_once():
    inventory = inventory_of({f"{n:03d}": (1, None, 1) for n in range(25)})
    assert len(inventory.shards(10)) == 3
    shards = [inventory.shards(10)[number].samples for number in range(3)]
    assert [len(shard) for shard in shards] == [10, 10, 5]
    assert [sample for shard in shards for sample in shard] == inventory.samples()


def test_freezing_a_directory(images: Path):
    told = []
    inventory = freeze(Source(str(images), images), progress=lambda *args, **_: told.append(args))
    assert len(inventory) == 29
    assert inventory.other_files == 1
    assert inventory.total_bytes == sum(
        p.stat().st_size for p in images.rglob("*") if p.suffix not in (".txt", "")
    )
    assert told[-1] == (Stage.LIST, 29, 29, "")


@pytest.mark.parametrize(
    "name", ["a.PNG", "a.JpEg", "a.jpg", "a.bmp", "a.gif", "a.tif", "a.tiff", "a.WEBP", "x/.jpg"]
)
def test_what_is_an_image(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    assert [s.filename for s in freeze(Source("", tmp_path)).samples()] == [name]


@pytest.mark.parametrize("name", ["a.jpg.txt", "ajpg", "jpg", "a.jpg~", "a.mp4.part"])
def test_what_is_no_image(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DatasourceError, match="holds no image and no video, only 1 other file"):
        freeze(Source("", tmp_path))


def test_a_folder_that_is_called_as_a_video_is_named(tmp_path: Path):
    (tmp_path / "x.mp4").mkdir()
    expected = "holds no image and no video, nor any other file; `x.mp4` is a folder"
    with pytest.raises(DatasourceError, match=expected):
        freeze(Source("", tmp_path))


def test_the_output_below_the_input_is_left_out(tmp_path: Path):
    for name in ("a.jpg", "out/b.jpg", "output/c.jpg", ".lightly/d.jpg", "x/.lightly/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = freeze(Source("", tmp_path), output=tmp_path / "out").samples()
    assert [s.filename for s in found] == ["a.jpg", "output/c.jpg"]


def test_an_output_that_is_the_input_hides_only_what_runs_wrote(tmp_path: Path):
    for name in ("a.jpg", "2026/run/lightly-fs.lock.json", "2026/run/plots/x.png", "2026/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = freeze(Source("", tmp_path), output=tmp_path)
    assert [s.filename for s in found.samples()] == ["2026/b.jpg", "a.jpg"]
    assert found.other_files == 0


def test_a_foreign_manifest_hides_nothing(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/manifest.json").write_text('{"name": "lightly-fs"}')
    (tmp_path / "set/a.jpg").write_bytes(b"x")
    assert len(freeze(Source("", tmp_path))) == 1


def test_only_relevant_files_are_kept(images: Path):
    found = freeze(Source("", images), relevant=["folder_1/", "zz_copy_of_000.jpg"])
    assert len(found) == 9
