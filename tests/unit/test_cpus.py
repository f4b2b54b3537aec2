import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightly_fs.cpus import usable_cpus
from tests.conftest import need

PRINT = "from lightly_fs.cpus import usable_cpus; print(usable_cpus())"
SETS = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
HERE = len(os.sched_getaffinity(0))
DOCKER = "/docker/0f3a"


@pytest.fixture(autouse=True)
def _two_cpus():
    need("cpus", missing=None if HERE > 1 else "this machine has one CPU, which nothing limits")


def python(*words: str) -> int:
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def cgroups(folder: Path, line: str, **files: str) -> tuple[Path, Path]:
    """Write a tree of control groups, `a__b` for `a/b`, and what a process is in."""
    membership = folder / "membership"
    membership.write_text(line)
    for name, content in files.items():
        path = folder / "cgroup" / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder / "cgroup", membership


def version_1(folder: Path, quota: str, period: str = "100000") -> None:
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_an_affinity_limits():
    assert python(sys.executable, "-c", SETS + PRINT) == 1


def test_taskset_limits():
    need("taskset", missing=None if shutil.which("taskset") else "taskset is not installed")
    first = str(min(os.sched_getaffinity(0)))
    assert python("taskset", "-c", first, sys.executable, "-c", PRINT) == 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", HERE),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("110000 100000", 2),
        ("9900000 100000", HERE),
        ("nonsense", HERE),
    ],
)
def test_a_quota_of_version_2_limits(tmp_path, quota, expected):
    assert usable_cpus(*cgroups(tmp_path, "0::/\n", cpu_max=quota)) == expected


def test_the_narrowest_of_the_groups_above_counts(tmp_path):
    places = cgroups(
        tmp_path,
        "0::/pod/container\n",
        pod__cpu_max="100000 100000",
        pod__container__cpu_max="max 100000",
    )
    assert usable_cpus(*places) == 1


def test_a_group_beside_does_not_count(tmp_path):
    places = cgroups(tmp_path, "0::/mine\n", other__cpu_max="100000 100000")
    assert usable_cpus(*places) == HERE


@pytest.mark.parametrize("shown_as", [DOCKER.strip("/"), ""])
@pytest.mark.parametrize("root", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1_limits(tmp_path, root, shown_as):
    """In a container the own group is the root, though its path is the host's."""
    places = cgroups(tmp_path, f"5:memory:/x\n4:cpu,cpuacct:{DOCKER}\n0::/\n")
    version_1(places[0] / root / shown_as, "100000")
    assert usable_cpus(*places) == 1


def test_no_quota_of_version_1(tmp_path):
    places = cgroups(tmp_path, "4:cpu,cpuacct:/\n")
    version_1(places[0] / "cpu,cpuacct", "-1")
    assert usable_cpus(*places) == HERE


def test_without_control_groups_the_affinity_alone_counts(tmp_path):
    assert usable_cpus(tmp_path / "none", tmp_path / "none either") == HERE
