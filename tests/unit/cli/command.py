"""The command line as a person starts it: a process of its own."""

import os
import subprocess
import sys

QUICK = ("model=colour-grid", "runtime=torch", "properties=off")


def lightly_fs(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightly_fs", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
