"""Packs of runs that were not resumed go after a week; those in use and younger ones stay."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

from lightly_fs.datasource.process import Process
from lightly_fs.training.packs import KEPT_S, claim, sweep_packs

CLAIM = """
import sys
from pathlib import Path
from lightly_fs.training.packs import claim
claim(Path(sys.argv[1]))
"""


def left_behind(pack, *, days: float) -> None:
    """Make a pack of a process that is dead, last used so long ago."""
    subprocess.run([sys.executable, "-c", CLAIM, str(pack)], check=True)
    (pack / "64" / "00000").mkdir(parents=True)
    (pack / "64" / "00000" / "pixels.u8").write_bytes(bytes(10))
    age(pack, days)


def age(pack, days: float) -> None:
    then = time.time() - days * 24 * 3600
    for path in (pack / "64", pack / "owner.json", pack):
        if path.exists():
            os.utime(path, (then, then))


def test_a_week_old_pack_of_a_dead_process_goes(tmp_path):
    left_behind(tmp_path / "old", days=8)
    left_behind(tmp_path / "young", days=6)

    assert sweep_packs(tmp_path) == [tmp_path / "old"]
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


def test_resuming_makes_a_pack_young_again(tmp_path):
    left_behind(tmp_path / "old", days=8)
    claim(tmp_path / "old")

    assert sweep_packs(tmp_path) == []
    assert (tmp_path / "old" / "64" / "00000" / "pixels.u8").exists()


def test_the_pack_of_a_living_process_stays_however_old_it_is(tmp_path):
    claim(tmp_path / "mine")
    age(tmp_path / "mine", days=100)

    assert sweep_packs(tmp_path) == []
    assert (tmp_path / "mine").exists()


def test_what_another_container_claimed_goes_by_its_age(tmp_path):
    elsewhere = replace(Process.current(), pid_namespace="pid:[1]", boot_id="another")
    for name, days in (("old", 8), ("young", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner.json").write_text(json.dumps(asdict(elsewhere)))
        age(tmp_path / name, days)

    assert sweep_packs(tmp_path) == [tmp_path / "old"]


def test_a_pack_without_an_owner_goes_by_its_age(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    age(tmp_path / "old", days=KEPT_S / 86400 + 1)

    assert sweep_packs(tmp_path) == [tmp_path / "old"]
    assert (tmp_path / "new").exists()


def test_a_removal_that_was_killed_is_finished(tmp_path):
    (tmp_path / "x.gone" / "64").mkdir(parents=True)

    sweep_packs(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_folder_at_all_is_no_error(tmp_path):
    assert sweep_packs(tmp_path / "none") == []
    (tmp_path / "file").write_text("in the way")
    claim(tmp_path / "file" / "pack")
