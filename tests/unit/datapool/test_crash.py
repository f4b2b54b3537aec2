"""kill -9 at every step of an update: the pool is in the old state or the new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightly_fs.datapool import merging
from lightly_fs.datapool.update import update
from lightly_fs.errors import ArtifactError
from tests.unit.datapool.made import opened
from tests.unit.datapool.scenario import content, first_run, second_run

SCRIPT = Path(__file__).with_name("update_until.py")
FINISHED = 0


def update_until(folder, staging, allowed, mode, keep_history):
    words = [str(folder), str(staging), str(allowed), mode, str(keep_history)]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={**os.environ, "MANY": str(merging._MANY)},
        capture_output=True,
        text=True,
        check=False,
    )


def update_all(pool, keep_history):
    fresh = not keep_history  # then there is something to delete
    return update(pool, second_run(pool), fresh=fresh, keep_history=keep_history)


@pytest.fixture
def before(tmp_path):
    """A pool after its first run, and what it holds."""
    with opened(tmp_path / "before", tmp_path / "s0") as pool:
        return tmp_path / "before", content(update(pool, first_run(pool)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["before", "torn", "after"])
@pytest.mark.parametrize(
    ("keep_history", "many"), [(True, merging._MANY), (True, 1), (False, merging._MANY)]
)
def test_a_killed_update_leaves_the_old_or_the_new_state(
    tmp_path, before, mode, keep_history, many, monkeypatch
):
    monkeypatch.setattr(merging, "_MANY", many)  # with 1, the update merges what is there
    folder, old = before
    with opened(shutil.copytree(folder, tmp_path / "whole"), tmp_path / "s1") as pool:
        new = content(update_all(pool, keep_history))
    seen = []
    for allowed in range(20):
        torn = shutil.copytree(folder, tmp_path / f"torn{allowed}")
        child = update_until(torn, tmp_path / f"c{allowed}", allowed, mode, keep_history)
        if child.returncode == FINISHED:
            break
        assert child.returncode == -9, child.stderr
        with opened(torn, tmp_path / f"r{allowed}") as pool:
            found = content(pool)
            assert found in (old, new)
            assert pool.store.first_broken(pool.state) is None
            seen.append(found == new)
            begun_with = pool if found == old else pool.at(1) if keep_history else None
            if begun_with is None:
                continue
            # The run resumes, with the state that it began with.
            again = update_all(begun_with, keep_history)
            assert content(again) == new
            parts = {path.name for path in torn.glob("*/*.parquet")}
            assert parts == {part.name.partition("/")[2] for part in again.state.parts} | (
                {path.name for path in folder.glob("*/*.parquet")} if keep_history else set()
            )

    assert child.returncode == FINISHED
    assert seen == sorted(seen)  # once new, it stays new
    committed = sum(not one for one in seen)
    assert committed == (3 if mode == "after" else 4)  # the mark, samples, files, and the state
    assert len(seen) == (5 if keep_history else 8)  # without history, three files are deleted


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["before", "torn", "torn-as-a-mount", "after"])
def test_a_killed_first_update_leaves_nothing_or_its_state(tmp_path, mode):
    """A torn state 1 is what it left, and not what damage left: another run may begin."""
    with opened(tmp_path / "whole", tmp_path / "s0") as pool:
        new = content(update(pool, first_run(pool)))
    empty, seen = ([], [], []), []
    for allowed in range(20):
        folder = tmp_path / f"torn{allowed}"
        folder.mkdir()
        child = update_until(folder, tmp_path / f"c{allowed}", allowed, mode, keep_history=True)
        if child.returncode == FINISHED:
            break
        assert child.returncode == -9, child.stderr
        with opened(folder, tmp_path / f"r{allowed}") as pool:
            found = content(pool)
            assert found in (empty, new)
            seen.append(found == new)
            again = update(pool, first_run(pool))
            assert content(again) == new
        # From now on a torn state is damage, whatever was killed before.
        for path in folder.glob("states/*.json"):
            path.write_bytes(b"{")
        if found == empty:
            with pytest.raises(ArtifactError, match="no state"), opened(folder, tmp_path / "x"):
                pass

    assert child.returncode == FINISHED
    assert seen == sorted(seen)
    # The mark, samples, files, the state; and the mark is deleted.
    assert (len(seen), seen.count(False)) == (5, 3 if mode == "after" else 4)
    assert not list(folder.glob("states/*.begun"))
