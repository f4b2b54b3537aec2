"""How many CPUs this process may use: its affinity, and the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return how many CPUs this process can keep busy, at least 1.

    More threads than that only wait for one another: a quota (`docker run --cpus 2`) stops all of
    them for the rest of each period once it is used up. A part of a CPU counts as a whole one.

    Args:
        cgroups: Where the control groups are mounted, of version 1 or 2.
        membership: Which of them this process is in, as `/proc/self/cgroup` says it.
    """
    affinity = len(os.sched_getaffinity(0))
    quotas = (_quota(folder) for folder in _folders(cgroups, membership))
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _folders(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, and of those that these are in."""
    try:
        lines = membership.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 names no controllers; beside version 1 it lies in a folder of its own. In a
        # container the path may be the host's, which is not there: its root is the own group then.
        roots = (controllers, "cpu") if controllers else ("", "unified")
        group = Path(path.strip("/"))
        for root in roots:
            yield from (cgroups / root / part for part in (group, *group.parents))


def _quota(folder: Path) -> float | None:
    """Return the CPUs that a group is limited to; None when it is not."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        limited = quota != "max" and int(quota) > 0 and int(period) > 0
        return int(quota) / int(period) if limited else None
    except (OSError, ValueError):  # no such group, or none that limits CPUs
        return None
