"""The packs of all runs in one cache directory: whose they are, and when they go.

A run that fails or is killed leaves its pack, so that resuming it reads no image again. The next
training removes those that no living process uses and that were last used a week ago.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lightly_fs.datasource.process import Process

KEPT_S = 7 * 24 * 3600.0
"""How long a pack stays that nobody uses: for so long its run is resumed without reading again."""
_OWNER = "owner.json"
_GONE = ".gone"
_logger = logging.getLogger(__name__)


def claim(pack: Path) -> None:
    """Tell other trainings that this process uses a run's pack; call it again from time to time.

    Args:
        pack: The folder of the run, below the folder of all packs.
    """
    # Where nothing can be written, the pack itself says so.
    with contextlib.suppress(OSError):
        pack.mkdir(parents=True, exist_ok=True)
        with _locked(pack.parent):
            pack.mkdir(exist_ok=True)
            (pack / _OWNER).write_text(json.dumps(asdict(Process.current()), indent=1) + "\n")


def sweep_packs(folder: Path) -> list[Path]:
    """Remove the packs that nobody has used for a week; return those that are gone.

    A pack of a living process of this host stays however old it is.
    """
    gone: list[Path] = []
    with contextlib.suppress(OSError), _locked(folder):
        for pack in sorted(folder.iterdir()):
            if pack.is_dir() and not pack.is_symlink() and _is_forgotten(pack):
                # Under the lock it changes its name alone: deleting takes long.
                pack.rename(pack.with_name(f"{pack.name}{_GONE}"))
                gone.append(pack)
    for pack in folder.glob(f"*{_GONE}"):
        shutil.rmtree(pack, ignore_errors=True)
    for pack in gone:
        _logger.info("removed %s: its run was not resumed for a week", pack)
    return gone


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_forgotten(pack: Path) -> bool:
    if pack.name.endswith(_GONE):
        return False  # another process deletes it, or was killed while it did
    places = [pack, pack / _OWNER, *pack.iterdir()]
    last = max(path.lstat().st_mtime for path in places if path.exists())
    if time.time() - last < KEPT_S:
        return False
    try:
        owner = Process(**json.loads((pack / _OWNER).read_text()))
    except (OSError, ValueError, TypeError):
        return True  # killed before it could tell
    # The pid counts here alone: a process that runs elsewhere has renewed its claim.
    here = Process.current()
    is_here = (owner.boot_id, owner.pid_namespace) == (here.boot_id, here.pid_namespace)
    return owner.is_dead() or not is_here
