"""What a pool says to runs: what is known, what may be reused, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging

import numpy as np
import pyarrow as pa
import pytest

from lightly_fs.config.datapool import DatapoolConfig
from lightly_fs.datapool import merging
from lightly_fs.datapool.columns import FILE_ROWS
from lightly_fs.datapool.difference import difference
from lightly_fs.datapool.known import split
from lightly_fs.datapool.opening import open_pool, open_store, read_pool
from lightly_fs.datapool.update import drop_history, reset, rollback, update
from lightly_fs.datasource.exclusion import LOCK_NAME
from lightly_fs.datasource.inventory import SCHEMA, Inventory
from lightly_fs.errors import ArtifactError, DatasourceError, ModelError, RunLockedError
from lightly_fs.types import Duplicate, Outcome
from tests.unit.datapool.made import MODEL, additions_of, inventory_of, opened
from tests.unit.datapool.scenario import FIRST, SECOND, content, first_run, second_run


@pytest.fixture
def empty(tmp_path):
    with opened(tmp_path / "pool", tmp_path / "staging") as pool:
        yield pool


@pytest.fixture
def filled(empty):
    return update(empty, first_run(empty))


def images(pool, names, **given):
    return additions_of(
        pool, dict.fromkeys(names, 0), dict.fromkeys(names, Outcome.EMBEDDED), names, **given
    )


def test_an_empty_pool_knows_nothing(empty):
    known = empty.split(inventory_of(FIRST))

    assert known.new.tolist() == [0, 1, 2, 3]
    assert (known.changed.tolist(), known.known.tolist(), known.deleted) == ([], [], [])
    assert empty.selected_vectors()[1].shape == (0, 0)
    assert len(empty.samples().table) == 0
    assert empty.same_content(empty.samples().table) == []
    assert empty.state.number == 0
    empty.check_model(MODEL)


def test_only_what_an_update_brought_is_written(empty, filled, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("pool/*/*")}

    second = update(filled, second_run(filled))

    added = [path for path in tmp_path.glob("pool/*/*") if path.name not in before]
    assert sorted(path.parent.name for path in added) == ["files", "samples", "states"]
    assert all(path.name.startswith("000002-") for path in added)
    assert (
        before.items() <= {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("pool/*/*")}.items()
    )
    assert second.state.parts != filled.state.parts
    (part,) = set(second.state.samples) - set(filled.state.samples)
    assert part.rows == second.state.counts.added_samples == 4


def test_a_run_without_anything_new_writes_nothing(filled):
    nothing = additions_of(filled, FIRST, {}, (), run_id="again")

    assert update(filled, nothing) is filled
    assert filled.store.numbers() == [1]


def test_processing_everything_again_writes_only_what_it_decided_otherwise(filled):
    ended = dict.fromkeys(FIRST, Outcome.EMBEDDED)
    again = update(filled, additions_of(filled, FIRST, ended, {"b.jpg"}, run_id="all"))

    assert again.state.counts.added_samples == 1
    assert sorted(again.selected().table.filenames) == ["a.jpg", "b.jpg", "c.jpg", "v-1-mp4.png"]


@pytest.mark.parametrize(
    ("now", "then", "differs"),
    [
        ({}, {}, False),
        ({"size": 2}, {}, True),
        ({"etag": "y"}, {}, True),
        ({"mtime_ns": 5}, {}, False),  # the same bytes, copied anew
        ({"etag": None}, {"etag": None}, False),
        ({"etag": None, "mtime_ns": 1_000_000_008}, {"etag": None}, True),
        ({"etag": None, "mtime_ns": 1_000_000_008}, {}, False),  # mounts round times
        ({"etag": None, "mtime_ns": 2_000_000_007}, {}, True),
        ({}, {"size": None, "etag": None, "mtime_ns": None}, False),
        ({}, {"outcome": "corrupt"}, False),
        ({}, {"outcome": "failed"}, True),
    ],
)
def test_a_file_is_changed_when_its_etag_or_else_its_time_is_another(now, then, differs):
    facts = {"filename": "a.jpg", "size": 1, "etag": "x", "mtime_ns": 1_000_000_007}
    listed = Inventory(pa.Table.from_pylist([facts | now], SCHEMA))
    row = {**facts, "outcome": "embedded", "reason": ""} | then

    known = split(listed, pa.Table.from_pylist([row], FILE_ROWS))

    assert known.changed.tolist() == ([0] if differs else [])
    assert known.known.tolist() == ([] if differs else [0])


def test_reused_rows_are_what_was_embedded(filled):
    found = filled.reuse(["v.mp4", "a.jpg", "never-seen.jpg"])

    assert found.table.filenames == ["a.jpg", "v-0-mp4.png", "v-1-mp4.png"]
    assert found.frames["frame_index"].to_pylist() == [None, 0, 1]
    assert found.frames["pts"].to_pylist() == [None, 0, 512]
    original = first_run(filled).table
    rows = [original.rows[name] for name in found.table.filenames]
    for name in ("vectors", "widths", "heights", "content_hashes", "pixel_hashes"):
        assert np.array_equal(getattr(found.table, name), getattr(original, name)[rows])
    assert np.array_equal(
        found.table.properties["sharpness"], original.properties["sharpness"][rows]
    )


def test_properties_that_were_off_once_are_nan(filled):
    found = images(filled, ["x.jpg"])
    without = dataclasses.replace(
        found, table=dataclasses.replace(found.table, properties={"contrast": np.ones(1)})
    )

    table = update(filled, without).samples().table

    assert np.isnan(table.properties["sharpness"]).tolist() == [False] * 5 + [True]
    assert np.isnan(table.properties["contrast"]).tolist() == [True] * 5 + [False]


def test_a_copy_of_a_sample_in_the_pool_is_found_and_remembered(filled):
    found = images(filled, ["copy.jpg", "other.jpg"])
    found.table.content_hashes[0] = filled.samples().table.content_hashes[1]

    duplicates = filled.same_content(found.table)

    assert duplicates == [Duplicate("copy.jpg", "b.jpg", "content")]
    second = update(filled, dataclasses.replace(found, duplicates=duplicates))
    assert second.state.counts.duplicate == 1
    rows = second.rows(["filename", "duplicate_of"]).to_pylist()
    assert [row for row in rows if row["duplicate_of"]] == [
        {"filename": "copy.jpg", "duplicate_of": "b.jpg"}
    ]
    # Processed again, a sample is no copy of itself; of a changed file nothing counts.
    assert second.same_content(second.samples().table) == duplicates
    changed = second.split(inventory_of({"b.jpg": 9}))
    assert second.same_content(found.table, changed) == []


@pytest.mark.parametrize(
    ("fact", "value", "fits"),
    [
        ("weights_sha256", "11", False),
        ("input_size", 224, False),
        ("preprocessing", "crop", False),
        ("runtime", "openvino", True),
        ("precision", "bfloat16", True),
    ],
)
def test_another_model_is_refused_with_the_ways_out(filled, fact, value, fits):
    other = dataclasses.replace(MODEL, **{fact: value})
    found = images(filled, ["x.jpg"], model=other)
    if fits:
        assert update(filled, found).state.number == 2
        return

    with pytest.raises(ModelError, match=f"{fact} is .* there and {value!r} now") as caught:
        update(filled, found)

    for way in ("datapool.name", "datapool reset", "datapool export"):
        assert way in caught.value.hint
    assert filled.store.numbers() == [1]
    fresh = update(filled, found, fresh=True)
    assert fresh.samples().table.filenames == ["x.jpg"]
    assert fresh.state.model == other
    assert content(fresh.at(1)) == content(filled)


def test_of_vectors_from_files_the_dimensions_decide(empty):
    model = dataclasses.replace(MODEL, name="csv:a.csv", runtime="csv")
    pool = update(empty, images(empty, ["a.jpg"], model=model))

    pool.check_model(dataclasses.replace(model, name="csv:b.csv", weights_sha256="another file"))
    with pytest.raises(ModelError, match="dimensions is 4 there and 5 now"):
        pool.check_model(dataclasses.replace(model, dimensions=5))
    with pytest.raises(ModelError, match="another model"):
        pool.check_model(MODEL)


def test_a_run_that_resumes_after_its_update_adds_nothing(filled):
    found = second_run(filled)
    second = update(filled, found)

    assert update(filled, found).state == second.state
    assert filled.store.numbers() == [1, 2]


def test_a_run_does_not_update_a_pool_that_moved_on(filled):
    found = second_run(filled)
    update(filled, images(filled, ["x.jpg"], run_id="somebody else"))

    with pytest.raises(ArtifactError, match="in state 2 now, and this run began with 1"):
        update(filled, found)


def test_a_rollback_brings_a_state_back_and_can_be_undone(filled):
    second = update(filled, second_run(filled))

    third = rollback(filled.store, 1)
    assert content(third) == content(filled)
    assert (third.state.number, third.state.parent, third.state.restored) == (3, 2, 1)
    assert content(rollback(filled.store, 2)) == content(second)
    with pytest.raises(ArtifactError, match="there is 1, 2, 3, 4"):
        rollback(filled.store, 9)
    with pytest.raises(ArtifactError, match="newest state"):
        rollback(filled.store, 4)


def test_history_is_dropped_once_the_run_is_complete(filled, tmp_path):
    found = second_run(filled)
    second = update(filled, found)
    assert update(filled.at(1), found).state == second.state  # a killed run resumes

    with pytest.raises(ArtifactError, match="is not the newest: 2 is"):
        drop_history(filled)
    drop_history(second)

    assert second.store.numbers() == [2]
    with opened(tmp_path / "pool", tmp_path / "other") as pool:
        assert content(pool) == content(second)


def test_after_a_rollback_the_files_since_then_are_new_again(filled):
    update(filled, second_run(filled))
    third = rollback(filled.store, 1)

    known = third.split(inventory_of(SECOND))

    names = known.inventory.table["filename"].to_pylist()
    assert [names[row] for row in known.to_process] == ["b.jpg", "d.jpg", "v.mp4"]
    assert content(update(third, second_run(third))) == content(third.at(2))


def test_a_reset_forgets_and_without_history_deletes(filled, tmp_path):
    second = reset(filled.store)

    assert second.split(inventory_of(FIRST)).known.tolist() == []
    assert content(rollback(filled.store, 1)) == content(filled)
    reset(filled.store, keep_history=False)
    assert [path.parent.name for path in tmp_path.glob("pool/*/*")] == ["states"]


def test_the_difference_of_two_states(filled):
    second = update(filled, second_run(filled))

    found = difference(filled, second)

    assert found.added == ["d.jpg", "v-2-mp4.png"]
    assert found.removed == ["b.jpg"]
    assert found.replaced == ["v-0-mp4.png", "v-1-mp4.png"]
    assert found.selected == ["d.jpg", "v-2-mp4.png"]
    assert found.deselected == ["v-1-mp4.png"]
    back = difference(second, filled)
    assert (back.added, back.removed) == (found.removed, found.added)
    assert (back.selected, back.deselected) == (found.deselected, found.selected)
    assert not any(difference(second, second).as_json().values())


def test_a_torn_state_is_ignored_and_its_number_not_used_again(filled, tmp_path, caplog):
    update(filled, second_run(filled))
    (path,) = tmp_path.glob("pool/states/000002-*")
    path.write_bytes(path.read_bytes()[:100])

    with opened(tmp_path / "pool", tmp_path / "other") as pool, caplog.at_level(logging.WARNING):
        assert content(pool) == content(filled)
        assert f"states/{path.name} is torn" in caplog.text
        assert update(pool, second_run(pool)).state.number == 3


def tear(tmp_path, number):
    (path,) = tmp_path.glob(f"pool/states/{number:06d}-*")
    path.write_bytes(path.read_bytes()[:100])
    return f"states/{path.name}"


def test_a_pool_without_an_intact_state_is_no_empty_pool(filled, tmp_path):
    update(filled, second_run(filled))
    first, second = tear(tmp_path, 1), tear(tmp_path, 2)
    place = str(tmp_path / "pool")

    for opening in (open_pool(place, {}, owner="run 3"), read_pool(place, {})):
        with pytest.raises(ArtifactError, match=f"{second} is not .* none of the others") as caught:
            opening.__enter__()
        assert f"lightly-fs datapool reset {place}" in caught.value.hint
    with open_store(place, {}, owner="reset") as store:
        assert store.torn() == [second, first]
        state = reset(store).state
    assert (state.number, state.parent) == (3, None)
    with open_pool(place, {}, owner="run 3") as pool:
        assert update(pool, first_run(pool)).state.number == 4
        assert pool.store.torn() == []


def test_a_damaged_first_state_is_no_killed_update(filled, tmp_path):
    torn = tear(tmp_path, 1)

    with (
        pytest.raises(ArtifactError, match=f"{torn} is not as it was written"),
        read_pool(str(tmp_path / "pool"), {}),
    ):
        pass


def test_a_torn_state_is_named_when_it_is_asked_for(filled, tmp_path):
    second = update(filled, second_run(filled))
    third = rollback(second.store, 1)
    torn = tear(tmp_path, 2)

    with pytest.raises(ArtifactError, match=f"state 2 of .* cannot be read: {torn}") as caught:
        rollback(third.store, 2)
    assert caught.value.hint.endswith("whole states: 1, 3")
    with pytest.raises(ArtifactError, match="has no state 7; there is 1, 3"):
        third.at(7)
    assert third.store.torn() == []  # a later one counts


@pytest.mark.parametrize("harm", ["delete", "change"])
def test_a_damaged_part_is_named_with_the_state_to_go_back_to(filled, tmp_path, harm):
    update(filled, second_run(filled))
    (path,) = tmp_path.glob("pool/samples/000002-*")
    path.unlink() if harm == "delete" else path.write_bytes(b"x" * path.stat().st_size)

    with opened(tmp_path / "pool", tmp_path / "other") as pool:
        with pytest.raises(ArtifactError, match=f"samples/{path.name} is") as caught:
            pool.samples()
        assert "rollback" in caught.value.hint
        assert caught.value.hint.split(" goes back")[0].endswith(" 1")
        assert content(rollback(pool.store, 1)) == content(filled)
        with pytest.raises(ArtifactError, match="cannot be brought back"):
            rollback(pool.store, 2)


def test_two_states_of_one_number_are_an_error_that_names_both(filled, tmp_path):
    other = dataclasses.replace(filled.state, run_id="another")
    filled.store.commit(other)

    with (
        pytest.raises(ArtifactError, match="two states 1"),
        opened(tmp_path / "pool", tmp_path / "x"),
    ):
        pass


def test_a_newer_format_is_refused(filled, tmp_path):
    newer = {**filled.state.as_json(), "version": 3, "number": 2}
    data = json.dumps(newer).encode()
    name = f"000002-{hashlib.sha256(data).hexdigest()[:16]}.json"
    (tmp_path / "pool" / "states" / name).write_bytes(data)

    with (
        pytest.raises(ArtifactError, match="version 3") as caught,
        opened(tmp_path / "pool", tmp_path / "x"),
    ):
        pass
    assert caught.value.hint == "update lightly-fs"


def test_one_writer_at_a_time_and_readers_meanwhile(tmp_path):
    place = str(tmp_path / "pool")
    with open_pool(place, {}, owner="run 5") as pool:
        update(pool, first_run(pool))
        with (
            pytest.raises(RunLockedError, match="run 5") as caught,
            open_pool(place, {}, owner="x"),
        ):
            pass
        assert LOCK_NAME in caught.value.hint
        with read_pool(place, {}) as other:
            assert other.state.number == 1

    with open_pool(place, {}, owner="x") as pool:
        assert pool.state.number == 1


def test_where_there_is_no_pool(tmp_path):
    with (
        pytest.raises(DatasourceError, match="there is no datapool at") as caught,
        read_pool(str(tmp_path / "none"), {}),
    ):
        pass
    # This is what a run with this key says.
    assert "unless datasource.enable_datapool_update=False" in caught.value.hint
    with (
        pytest.raises(DatasourceError, match="there is no folder"),
        open_pool(str(tmp_path / "none" / "pool"), {}, owner="x"),
    ):
        pass
    with (
        pytest.raises(DatasourceError, match="there is no datapool at"),
        open_pool(str(tmp_path / "pool"), {}, owner="x", create=False),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_not_called_output_dir(tmp_path):
    (tmp_path / "pool").write_text("a file")
    with (
        pytest.raises(DatasourceError, match=r"datapool `.*/pool` cannot be created"),
        open_pool(str(tmp_path / "pool"), {}, owner="x"),
    ):
        pass


def test_a_sample_of_a_file_that_was_not_listed_is_refused(empty):
    found = images(empty, ["a.jpg", "b.jpg"])
    with pytest.raises(ArtifactError, match="not in the inventory"):
        update(empty, dataclasses.replace(found, known=empty.split(inventory_of({"a.jpg": 0}))))


def test_many_rows_become_several_parts(empty, monkeypatch):
    monkeypatch.setattr("lightly_fs.datapool.update._PART_BYTES", 2 * 4 * MODEL.dimensions)
    names = [f"{number}.jpg" for number in range(5)]

    pool = update(empty, images(empty, names))

    assert [part.rows for part in pool.state.samples] == [2, 2, 1]
    assert pool.samples().table.filenames == names


def test_many_small_updates_are_merged_by_the_next(empty, monkeypatch):
    monkeypatch.setattr(merging, "_MANY", 3)
    pools, bucket, order = [empty], {}, []
    for number in range(8):
        # Every third update replaces a file of the one before, too.
        name = f"{number}.jpg"
        bucket |= {name: 0, "v.mp4": number // 3}
        pool = pools[-1]
        known = pool.split(inventory_of(bucket))
        names = known.inventory.table["filename"].take(pa.array(known.to_process)).to_pylist()
        ended = dict.fromkeys(names, Outcome.EMBEDDED)
        found = additions_of(pool, bucket, ended, {name}, run_id=name)
        pools.append(update(pool, found))
        order = [one for one in order if "v.mp4" not in names or not one.startswith("v-")]
        order += found.table.filenames

    assert [len(one.state.samples) for one in pools] == [0, 1, 2, 3, 1, 2, 3, 1, 2]
    assert [len(one.state.files) for one in pools] == [0, 1, 2, 3, 1, 2, 3, 1, 2]
    merged = pools[7]
    # What was replaced by then is not written again.
    assert merged.state.samples[0].rows == merged.state.counts.samples == 7 + 4
    assert merged.state.all_current
    assert (merged.state.counts.added_samples, merged.state.counts.added_files) == (5, 1)
    assert pools[-1].rows(["filename"])["filename"].to_pylist() == order
    for number, pool in enumerate(pools[1:], start=1):
        assert pool.store.first_broken(pool.state) is None
        assert sorted(pool.selected().table.filenames) == [f"{n}.jpg" for n in range(number)]
    assert content(rollback(empty.store, 3)) == content(pools[3])


def test_large_updates_are_not_merged(empty, monkeypatch):
    monkeypatch.setattr(merging, "_MANY", 2)
    pool = update(empty, images(empty, ["a.jpg"]))
    monkeypatch.setattr(merging, "_SMALL_BYTES", 0)
    for number in range(3):
        pool = update(pool, images(pool, [f"{number}.jpg"], run_id=str(number)))

    assert [part.rows for part in pool.state.samples] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "location"),
    [
        ("", ""),
        ("pool", "/shared/pool"),
        ("a/b", "/shared/a/b"),
        ("/data/pool", "/data/pool"),
        ("s3://bucket/pool", "s3://bucket/pool"),
    ],
)
def test_where_the_pool_lies(name, location):
    assert DatapoolConfig(name=name).location("/shared") == location


@pytest.mark.parametrize("name", ["..", "a/../b", "gs://bucket/x", ".", "/"])
def test_names_that_are_no_place_of_a_pool(name):
    with pytest.raises(ValueError, match="folder"):
        DatapoolConfig(name=name)
