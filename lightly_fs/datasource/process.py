"""Which process that was, and whether it is gone: a pid alone is soon another one's."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process of some host at some time.

    Attributes:
        boot_id: Of the kernel that ran it.
        pid_namespace: In which the pid counts; containers have their own.
        pid_started: When it started, in clock ticks since boot; tells reused pids apart.
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_started: int

    @classmethod
    def current(cls) -> Process:
        pid = os.getpid()
        return cls(socket.gethostname(), _boot_id(), _pid_namespace(), pid, _started(pid) or 0)

    def is_dead(self) -> bool:
        """Tell whether the process is certainly gone: it ran here, and does not run any more."""
        return (
            self.boot_id == _boot_id()
            and self.pid_namespace == _pid_namespace()
            and _started(self.pid) != self.pid_started
        )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat; None when there is no such process, or only its corpse."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything.
    values = stat.rpartition(")")[2].split()
    return None if values[0] in "ZX" else int(values[19])
