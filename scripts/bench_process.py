"""Run a program and measure the CPU time and memory of everything it starts, daemons included.

`run_measured` runs it below `python bench_process.py COMMAND …`, a subreaper: daemons that leave
their parent (as s3fs does) become its children, so that their use is counted in the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.1


@dataclass
class Usage:
    """What a program and everything it started used.

    Attributes:
        cpu_at: (seconds since the start, CPU seconds so far, line) for each line on stderr.
    """

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    stdout: str
    code: int
    cpu_at: list[tuple[float, float, str]] = field(default_factory=list)


def run_measured(command: Sequence[str], environ: dict[str, str], log: Path) -> Usage:
    """Run a program below a process that adopts its daemons, until the last of them has ended."""
    started = time.monotonic()
    reaper = subprocess.Popen(
        [sys.executable, __file__, *command],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    tree = Tree(reaper.pid)
    lines: list[tuple[float, float, str]] = []

    def listen() -> None:
        for line in reaper.stderr or ():
            now = time.monotonic() - started
            lines.append((now, tree.cpu(), line.rstrip()))

    listener = threading.Thread(target=listen)
    listener.start()
    with tree.watched():
        output = (reaper.stdout or contextlib.nullcontext("")).read()  # type: ignore[union-attr]
        code = reaper.wait()
    listener.join()
    log.write_text("".join(f"{at:8.2f} {cpu:8.2f} {line}\n" for at, cpu, line in lines))
    *stdout, last = output.rstrip("\n").split("\n")
    end = json.loads(last)
    wall = end["program_wall_s"]
    return Usage(wall, end["cpu_s"], tree.peak / 1e6, "\n".join(stdout), code, lines)


def reap(command: Sequence[str]) -> int:
    """Run a command, wait for every descendant, and print what they used on the last line."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.monotonic()
    code = subprocess.call(command)
    wall = time.monotonic() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"program_wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime}), flush=True)
    return code


class Tree:
    """Memory and CPU time of the descendants of a process."""

    def __init__(self, pid: int) -> None:
        self.root = psutil.Process(pid)
        self.peak = 0
        self._stop = threading.Event()

    def cpu(self) -> float:
        """Return CPU seconds of living descendants and of those they have waited for."""
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note the largest sum of resident memory (pages that forks share count repeatedly)."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            total = 0
            for process in self._processes():
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total)

    def _processes(self) -> list[psutil.Process]:
        try:
            return [*self.root.children(recursive=True)]
        except psutil.Error:
            return []


if __name__ == "__main__":
    sys.exit(reap(sys.argv[1:]))
