"""One writer per run directory: a leased lock object, renewed while its owner lives.

Whoever is killed leaves the lock behind. On the same host the next run sees that the process is
gone and takes over at once; elsewhere it is free when it was not renewed for the lease's length.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta

from lightly_fs.datasource.exclusion import LOCK_NAME
from lightly_fs.datasource.lock_slot import FileSlot, ObjectSlot, Seen, Slot
from lightly_fs.datasource.output import Output
from lightly_fs.datasource.process import Process
from lightly_fs.errors import LightlyFSError, RunLockedError

logger = logging.getLogger(__name__)

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as written into the lock file.

    Attributes:
        lease_id: Unique per acquisition; tells one's own lock from anybody else's.
        pid_started: When the process started, in clock ticks since boot; tells reused pids apart.
        generation: Counts take-overs.
        lease_s: Seconds without renewal after which anybody may take over.
    """

    lease_id: str
    owner: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    pid_started: int
    generation: int
    lease_s: float
    started_at: str
    expires_at: str

    def renewed(self) -> Holder:
        return replace(self, expires_at=_stamp(self.lease_s))

    def encode(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> Holder | None:
        """Return the holder, or None when the lock is damaged."""
        try:
            values = json.loads(data)
            holder = cls(**{field.name: values[field.name] for field in fields(cls)})
            return replace(holder, lease_s=float(holder.lease_s), pid=int(holder.pid))
        except (ValueError, KeyError, TypeError):
            return None

    def is_dead(self) -> bool:
        """Tell whether the process is certainly gone."""
        place = (self.host, self.boot_id, self.pid_namespace)
        return Process(*place, self.pid, self.pid_started).is_dead()


class Lease:
    """A held lock. A background thread renews it; `check` tells whether it still holds."""

    def __init__(self, slot: Slot, holder: Holder, where: str, begun: float) -> None:
        self.holder = holder
        self._slot = slot
        self._where = where
        self._valid_until = begun + holder.lease_s
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lightly-fs-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise when this process may not write any more.

        Raises:
            RunLockedError: Somebody else took over, or the lock expired and cannot be renewed.
        """
        if _uptime() >= self._valid_until:
            self._renew()
        if _uptime() < self._valid_until:
            return
        seen = _quietly(self._slot)
        holder = Holder.decode(seen.data) if seen is not None else None
        taken = holder is not None and holder.lease_id != self.holder.lease_id
        by = f": {_who(holder)} took over" if taken and holder else ""
        raise RunLockedError(
            f"lost the lock of `{self._where}`{by}",
            hint="run the same command again when nobody writes there: the run resumes",
        )

    def release(self) -> None:
        """Stop renewing, and delete the lock if it is still ours."""
        self._stop.set()
        self._thread.join(self.holder.lease_s / 3)
        try:
            seen = self._slot.read()
            if seen is not None and self._is_ours(seen) and _uptime() < self._valid_until:
                self._slot.delete()
        except (OSError, LightlyFSError) as error:
            logger.warning("the lock of %s could not be released: %s", self._where, error)

    def _keep(self) -> None:
        while not self._stop.wait(self.holder.lease_s / 3):
            self._renew()

    def _renew(self) -> None:
        with self._renewing:
            begun = _uptime()
            try:
                seen = self._slot.read()
                if seen is None or not self._is_ours(seen):
                    self._valid_until = -1.0
                    self._stop.set()
                elif self._slot.replace(self.holder.renewed().encode(), seen):
                    self._valid_until = begun + self.holder.lease_s
            except (OSError, LightlyFSError) as error:
                logger.warning("the lock of %s could not be renewed: %s", self._where, error)

    def _is_ours(self, seen: Seen) -> bool:
        holder = Holder.decode(seen.data)
        return holder is not None and holder.lease_id == self.holder.lease_id


@contextmanager
def locked(
    output: Output, folder: str = "", *, owner: str = "lightly-fs run", lease_s: float = 60
) -> Iterator[Lease]:
    """Hold the lock of a run directory.

    Args:
        output: Where the run directory lies.
        folder: The run directory; "" when `output` is that already.
        owner: Who writes, for people: a run id or a command.
        lease_s: After how long without renewal others may take over.

    Raises:
        RunLockedError: Somebody else holds it; says who.
    """
    output = output.below(folder)
    slot: Slot = FileSlot(output, LOCK_NAME)
    if output.objects is not None:
        slot = ObjectSlot(output.objects, output.path(LOCK_NAME))
    begun = _uptime()
    holder = _acquire(slot, owner, lease_s, output.uri)
    if not slot.is_exclusive(holder.encode()):
        logger.warning(
            "the lock of %s is advisory: this storage cannot write on a condition, so two runs "
            "that start within the same second may both get it",
            output.uri,
        )
    lease = Lease(slot, holder, output.uri, begun)
    try:
        yield lease
    finally:
        lease.release()
        _remove_if_empty(output)


def _remove_if_empty(output: Output) -> None:
    """Remove the folder that the lock made when nothing else came to lie there, nor beside it."""
    try:
        output.anchor.call(lambda: output.anchor.remove_empty(output.folder))
    except (OSError, LightlyFSError) as error:
        logger.debug("%s stays: %s", output.uri, error)


def _acquire(slot: Slot, owner: str, lease_s: float, where: str) -> Holder:
    mine = _me(owner, lease_s)
    for _ in range(_TRIES):
        seen = slot.read()
        if seen is None:
            if slot.create(mine.encode()):
                return mine
            continue
        holder = Holder.decode(seen.data)
        if holder is not None and holder.lease_id == mine.lease_id:
            return holder  # a write that was answered by silence, and repeated in vain
        if not _is_free(slot, seen, holder, lease_s):
            raise _refused(where, holder)
        successor = replace(mine, generation=holder.generation + 1 if holder else 1)
        if slot.replace(successor.encode(), seen):
            logger.warning("took over %s from %s", where, _who(holder))
            return successor
    raise RunLockedError(
        f"`{where}` is being locked by several processes at once", hint="try again in a minute"
    )


def _is_free(slot: Slot, seen: Seen, holder: Holder | None, lease_s: float) -> bool:
    if holder is not None and holder.is_dead():
        return True
    # One second more: bucket times have no fractions.
    return slot.age_s(seen) > (holder.lease_s if holder else lease_s) + 1


def _refused(where: str, holder: Holder | None) -> RunLockedError:
    since = f" since {holder.started_at}, locked until {holder.expires_at}" if holder else ""
    return RunLockedError(
        f"`{where}` is being written by {_who(holder)}{since}",
        hint="wait for it, choose another `run_directory`, or, if that process is gone, "
        f"delete {where.rstrip('/')}/{LOCK_NAME}",
    )


def _who(holder: Holder | None) -> str:
    if holder is None:
        return "an unknown process (its lock is damaged)"
    return f"{holder.owner} on {holder.host}, pid {holder.pid}"


def _me(owner: str, lease_s: float) -> Holder:
    return Holder(
        lease_id=uuid.uuid4().hex,
        owner=owner,
        **asdict(Process.current()),
        generation=1,
        lease_s=lease_s,
        started_at=_stamp(0),
        expires_at=_stamp(lease_s),
    )


def _quietly(slot: Slot) -> Seen | None:
    try:
        return slot.read()
    except (OSError, LightlyFSError):
        return None


def _stamp(later_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat(timespec="seconds")


def _uptime() -> float:
    """Return seconds that go on while the machine is suspended, as the lease does elsewhere."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
