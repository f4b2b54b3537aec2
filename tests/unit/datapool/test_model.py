"""Any sequence of runs, rollbacks and resets leaves what a plain dict would hold."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightly_fs.datapool import merging
from lightly_fs.datapool.update import reset, rollback, update
from lightly_fs.types import Outcome, is_video
from tests.unit.datapool.made import (
    additions_of,
    inventory_of,
    opened,
    samples_of,
    vector_of,
)

NAMES = ["a.jpg", "b/ü 猫.jpg", "b/c\nd.png", "e.webp", "v.mp4", "w/x.mp4"]
AGAIN = {Outcome.FAILED, Outcome.GONE, Outcome.UNREADABLE}

outcomes = st.sampled_from([Outcome.EMBEDDED] * 4 + [Outcome.CORRUPT, Outcome.FAILED, Outcome.GONE])
buckets = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), min_size=1)
runs = st.tuples(
    st.sampled_from(["run", "run", "run", "all", "fresh"]),
    buckets,
    st.fixed_dictionaries(dict.fromkeys(NAMES, outcomes)),
    st.integers(0, 2**30),
    st.booleans(),
)
steps = st.one_of(
    runs, runs, runs, st.tuples(st.just("rollback"), st.integers(0, 9)), st.tuples(st.just("reset"))
)


@dataclass
class Remembered:
    version: int
    outcome: Outcome
    selected: dict[str, bool]
    """By sample."""


@dataclass
class Model:
    """What a pool should hold: files by name, and the states that can be gone back to."""

    files: dict[str, Remembered] = field(default_factory=dict)
    states: dict[int, dict[str, Remembered]] = field(default_factory=dict)

    def split(self, bucket):
        changed = {
            name
            for name, version in bucket.items()
            if name in self.files
            and (self.files[name].version != version or self.files[name].outcome in AGAIN)
        }
        new = bucket.keys() - self.files.keys()
        return new, changed, bucket.keys() - new - changed, self.files.keys() - bucket.keys()

    def take(self, bucket, ended, chosen, *, fresh):
        old = {} if fresh else self.files
        self.files = dict(old)
        for name, outcome in ended.items():
            samples = samples_of(name, bucket[name])
            if outcome is not Outcome.EMBEDDED:
                samples = samples[1:] if is_video(name) else []
            there = old.get(name)
            kept = there.selected if there and there.version == bucket[name] else {}
            if samples or outcome is Outcome.CORRUPT:
                selected = {one: one in chosen or kept.get(one, False) for one in samples}
                is_good = samples and outcome is Outcome.CORRUPT  # of its other frames
                self.files[name] = Remembered(
                    bucket[name], Outcome.EMBEDDED if is_good else outcome, selected
                )


def check(pool, model, bucket):
    known = pool.split(inventory_of(bucket))
    names = known.inventory.table["filename"].to_pylist()
    found = [{names[row] for row in rows} for rows in (known.new, known.changed, known.known)]
    assert (*found, set(known.deleted)) == model.split(bucket)
    assert known.to_process.tolist() == sorted([*known.new, *known.changed])

    rows = pool.samples()
    expected = {
        sample: (name, remembered.version, selected)
        for name, remembered in model.files.items()
        for sample, selected in remembered.selected.items()
    }
    assert sorted(rows.table.filenames) == sorted(expected)
    for row, sample in enumerate(rows.table.filenames):
        name, version, selected = expected[sample]
        assert rows.table.vectors[row].tolist() == vector_of(sample, version).tolist()
        assert rows.selected[row] == selected
        assert rows.frames["video"][row].as_py() == (name if is_video(name) else None)
    check_selected(pool, model, known)

    counts, values = pool.state.counts, model.files.values()
    assert counts.files == len(model.files)
    assert counts.corrupt == sum(one.outcome is Outcome.CORRUPT for one in values)
    assert counts.unfinished == sum(one.outcome in AGAIN for one in values)
    assert counts.samples == len(expected)
    assert counts.selected == sum(selected for _, _, selected in expected.values())


def check_selected(pool, model, known):
    changed = set(known.changed_files.to_pylist())
    chosen = sorted(
        (sample, remembered.version, name in changed)
        for name, remembered in model.files.items()
        for sample, selected in remembered.selected.items()
        if selected
    )
    every = [vector_of(sample, version).tolist() for sample, version, _ in chosen]
    kept = [vector_of(sample, version).tolist() for sample, version, out in chosen if not out]
    assert sorted(pool.selected_vectors()[1].tolist()) == sorted(every)
    assert sorted(pool.selected_vectors(known)[1].tolist()) == sorted(kept)
    without = pool.selected(known)
    names, vectors = pool.selected_vectors(known)
    assert names == without.table.filenames
    assert np.array_equal(without.table.vectors, vectors)
    assert without.selected.all()


@pytest.mark.parametrize("many", [merging._MANY, 2])
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(sequence=st.lists(steps, min_size=1, max_size=8))
def test_any_sequence_of_steps_leaves_what_a_dict_would_hold(many, sequence):
    model, listed = Model(), {NAMES[0]: 0}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_MANY", many)
        for number, step in enumerate(sequence):
            # Every step opens anew: what counts is on the disk.
            if step[0] not in ("reset", "rollback"):
                listed = step[1]
            with opened(Path(folder, "pool"), Path(folder, f"{number}")) as before:
                check(apply(before, model, step, number), model, listed)
            with opened(Path(folder, "pool"), Path(folder, f"{number} again")) as pool:
                assert pool.store.numbers() == sorted(model.states)
                check(pool, model, listed)
                assert pool.store.first_broken(pool.state) is None


def apply(pool, model, step, number):
    """Do a step to the pool and to the model."""
    before, keep_history = pool.state.number, True
    if step[0] == "reset":
        pool = reset(pool.store)
        model.files = {}
    elif step[0] == "rollback":
        past = sorted(model.states.keys() - {before})
        if past:
            target = past[step[1] % len(past)]
            pool = rollback(pool.store, target)
            model.files = dict(model.states[target])
    else:
        keep_history = step[4]
        pool = run(pool, model, step, f"run {number}")
    if pool.state.number != before:
        if not keep_history:
            model.states.clear()
        model.states[pool.state.number] = dict(model.files)
    return pool


def run(pool, model, step, run_id):
    kind, bucket, outcomes_of, choice, keep_history = step
    known = pool.split(inventory_of(bucket))
    names = known.inventory.table["filename"].to_pylist()
    rows = known.to_process if kind == "run" else range(len(names))
    ended = {names[row]: outcomes_of[names[row]] for row in rows}
    every = [one for name in ended for one in samples_of(name, bucket[name])]
    chosen = {one for place, one in enumerate(sorted(every)) if choice >> place & 1}
    model.take(bucket, ended, chosen, fresh=kind == "fresh")
    found = additions_of(pool, bucket, ended, chosen, run_id=run_id)
    return update(pool, found, fresh=kind == "fresh", keep_history=keep_history)
