"""The files of a datapool: written once and whole, verified when read, states last."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightly_fs.datapool.state import (
    FILES,
    SAMPLES,
    STATES,
    Part,
    State,
    file_name,
    is_intact,
    number_of,
)
from lightly_fs.datapool.vectors import COLUMN, packed, unpacked
from lightly_fs.datasource.output import WRITERS, Output, describe
from lightly_fs.errors import ArtifactError

logger = logging.getLogger(__name__)

_ROW_GROUP = 65_536
_BEGUN = re.compile(r"(\d{6,})\.begun")
"""A mark: lies there from before a state's first part is written until the state is."""


class Store:
    """Reads and writes the files of one datapool.

    Attributes:
        check: Called before every write; raises when the lock was lost.
    """

    def __init__(self, output: Output, staging: Path, check: Callable[[], None]) -> None:
        """Prepare; nothing is read yet.

        Args:
            output: The pool's folder.
            staging: Empty local directory for drafts, and for copies of what lies in a bucket.
        """
        self.check = check
        self._output = output
        self._staging = staging
        self._verified: dict[str, Path] = {}

    @property
    def uri(self) -> str:
        return self._output.uri.rstrip("/")

    def numbers(self) -> list[int]:
        """Return the numbers of the states that are named here, intact or not, ascending."""
        return sorted(self._states())

    def taken(self) -> set[int]:
        """Return the numbers that a next state cannot have.

        Those of states, and of parts whose state is gone; what a killed process wrote does not
        count.
        """
        names = self._output.names(STATES)
        return {*_by_number(names)} | (self._parts() - _begun(names))

    def newest(self) -> State:
        """Return the newest intact state; an empty one when none was ever committed.

        Raises:
            ArtifactError: There were states, but none of them is intact any more; or two processes
                wrote a state each at the same time.
        """
        names = self._output.names(STATES)
        found = self._newest(names)
        if found is not None:
            return found
        torn = [f"{STATES}/{name}" for name in names if number_of(name) >= 0]
        lost = ({*_by_number(names)} | self._parts()) - _begun(names)
        if lost:
            what = f"{torn[-1]} is not as it was written" if torn else f"there is none in {STATES}/"
            others = ", and none of the others is" if len(torn) > 1 else ""
            raise ArtifactError(
                f"no state of the datapool `{self.uri}` can be read: {what}{others}",
                hint="put one back from a copy of the datapool, or an earlier version of the "
                f"object; or begin again: lightly-fs datapool reset {self.uri}",
            )
        if torn:
            logger.warning("the first update of %s was killed: it holds nothing yet", self.uri)
        return State()

    def newest_intact(self) -> State | None:
        """Return the newest state that can be read, or None.

        Raises:
            ArtifactError: Two processes wrote a state each at the same time.
        """
        return self._newest(self._output.names(STATES))

    def torn(self) -> list[str]:
        """Return the names of states later than the newest intact one, the latest first.

        An update was killed while it wrote them, or they were damaged since.
        """
        names, found = self._output.names(STATES), self.newest_intact()
        newest = 0 if found is None else found.number
        return [f"{STATES}/{name}" for name in reversed(names) if number_of(name) > newest]

    def gone(self) -> list[int]:
        """Return the numbers of states of which parts are there, but no state any more."""
        names, found = self._output.names(STATES), self.newest_intact()
        after = 0 if found is None else found.number
        lost = self._parts() - _begun(names) - {*_by_number(names)}
        return sorted(number for number in lost if number > after)

    def missing(self, number: int) -> ArtifactError:
        """Return the error for a state that cannot be read: there is none, or it is torn."""
        intact = ", ".join(str(state.number) for state in self.states()) or "none"
        torn = self._states().get(number)
        if torn:
            return ArtifactError(
                f"state {number} of {self.uri} cannot be read: {torn[0]} is not as it was written",
                hint=f"put it back from a copy of the datapool; whole states: {intact}",
            )
        return ArtifactError(
            f"{self.uri} has no state {number}; there is {intact}",
            hint=f"lightly-fs datapool history {self.uri}",
        )

    def state(self, number: int) -> State | None:
        """Return the state of a number; None when there is none, or a killed process left it torn.

        Raises:
            ArtifactError: There are two of this number, or it is of a newer version.
        """
        return self._intact(self._states().get(number, ()))

    def states(self) -> list[State]:
        """Return every intact state, the oldest first."""
        named = self._states()
        with ThreadPoolExecutor(WRITERS) as pool:
            found = pool.map(self._intact, (named[number] for number in sorted(named)))
            return [state for state in found if state is not None]

    def fetch(self, parts: Sequence[Part]) -> None:
        """Verify parts, and copy those of a bucket or mount to a local disk, several at once.

        Raises:
            ArtifactError: One is gone or damaged; the hint tells how to go on without it.
        """
        missing = [part for part in parts if part.name not in self._verified]
        with ThreadPoolExecutor(WRITERS) as pool:
            for part, path in zip(missing, pool.map(self._fetched, missing), strict=True):
                self._verified[part.name] = path

    def read(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a part's rows, from a verified file that is mapped into memory.

        Args:
            columns: Those to read, as far as the part has them; None for all.
        """
        self.fetch([part])
        file = pq.ParquetFile(self._verified[part.name], memory_map=True)
        there = file.schema_arrow.names
        wanted = there if columns is None else [name for name in columns if name in there]
        return unpacked(file.read(columns=wanted))

    def columns(self, part: Part) -> list[str]:
        """Return the names of a part's columns."""
        self.fetch([part])
        names: list[str] = pq.read_schema(self._verified[part.name]).names
        return names

    def write_part(self, folder: str, number: int, table: pa.Table) -> Part:
        """Write rows as a part of a state; the same rows are the same file."""
        local, table = self._staging / secrets.token_hex(8), packed(table)
        # Vectors are as good as random: compressing them costs much time for a tenth of the space.
        compression = dict.fromkeys(table.column_names, "zstd") | {COLUMN: "none"}
        pq.write_table(
            table,
            local,
            compression=compression,
            use_dictionary=False,
            write_statistics=False,
            row_group_size=_ROW_GROUP,
        )
        name = file_name(folder, number, describe(local, "").sha256)
        self.check()
        written = self._output.put(name, local)
        local.unlink()
        return Part(name, table.num_rows, written.size, written.sha256, written.md5)

    def begin(self, number: int) -> None:
        """Say that a state is being written; delete what a killed process wrote of it.

        By the mark, its parts are told from those of a state that is lost.
        """
        if number not in _begun(self._output.names(STATES)):
            self._put(f"{STATES}/{number:06d}.begun", b"this state is being written\n")
            return
        for folder in (SAMPLES, FILES):
            for name in self._output.names(folder):
                if number_of(name) == number:
                    logger.info("deleting the leftover part %s/%s", folder, name)
                    self._delete(f"{folder}/{name}")

    def commit(self, state: State) -> None:
        """Write a state: from now on it is the newest."""
        self._put(_state_name(state), state.encode())
        for number in sorted(_begun(self._output.names(STATES))):
            self._delete(f"{STATES}/{number:06d}.begun")

    def drop_others(self, state: State) -> None:
        """Delete every other state, then the parts that this one does not need."""
        keep = _state_name(state)
        for name in self._output.names(STATES):
            if f"{STATES}/{name}" != keep and number_of(name) >= 0:
                self._delete(f"{STATES}/{name}")
        needed = {part.name for part in state.parts}
        for folder in (SAMPLES, FILES):
            for name in self._output.names(folder):
                if f"{folder}/{name}" not in needed and number_of(name) >= 0:
                    self._delete(f"{folder}/{name}")

    def first_broken(self, state: State) -> str | None:
        """Return the name of the first part that is not there as it was written, or None."""
        return self._output.first_broken(part.written for part in state.parts)

    def _newest(self, names: Sequence[str]) -> State | None:
        named = _by_number(names)
        found = (self._intact(named[number]) for number in sorted(named, reverse=True))
        return next((state for state in found if state is not None), None)

    def _parts(self) -> set[int]:
        """Return the numbers of the states that parts were written for."""
        folders = (SAMPLES, FILES)
        found = {number_of(name) for folder in folders for name in self._output.names(folder)}
        return found - {-1}

    def _states(self) -> dict[int, list[str]]:
        return _by_number(self._output.names(STATES))

    def _intact(self, names: Sequence[str]) -> State | None:
        read = [(name, self._output.read(name) or b"") for name in names]
        intact = [(name, data) for name, data in read if is_intact(name, data)]
        for name in set(names) - {name for name, _ in intact}:
            logger.warning("%s/%s is torn and ignored", self.uri, name)
        if len(intact) > 1:
            raise ArtifactError(
                f"{self.uri} holds two states {number_of(intact[0][0])}: two processes wrote at "
                "the same time",
                hint=f"delete {intact[0][0]} or {intact[1][0]}",
            )
        return State.decode(*intact[0]) if intact else None

    def _put(self, name: str, data: bytes) -> None:
        local = self._staging / secrets.token_hex(8)
        local.write_bytes(data)
        self.check()
        self._output.put(name, local)
        local.unlink()

    def _delete(self, name: str) -> None:
        self.check()
        self._output.delete(name)

    def _fetched(self, part: Part) -> Path:
        if self._output.is_mount:
            data = self._output.read(part.name)
            if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
                raise self._damaged(part, gone=data is None)
            path = self._staging / secrets.token_hex(8)
            path.write_bytes(data)
            return path
        path = self._output.root / part.name
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256:
                    return path
        except FileNotFoundError as error:
            raise self._damaged(part, gone=True) from error
        raise self._damaged(part, gone=False)

    def _damaged(self, part: Part, *, gone: bool) -> ArtifactError:
        without = [one.number for one in self.states() if part not in one.parts]
        return ArtifactError(
            f"{self.uri}/{part.name} is {'gone' if gone else 'damaged'}",
            hint=f"lightly-fs datapool rollback {self.uri} {without[-1]} goes back to the last "
            "state without it"
            if without
            else f"put it back, or begin again: lightly-fs datapool reset {self.uri}",
        )


def _begun(names: Sequence[str]) -> set[int]:
    """Return the numbers of states that a process began to write and has not finished."""
    found = (_BEGUN.fullmatch(name) for name in names)
    return {int(one[1]) for one in found if one}


def _by_number(names: Sequence[str]) -> dict[int, list[str]]:
    """Return the names of states by their number; it is one each but by accident."""
    found: dict[int, list[str]] = {}
    for name in names:
        if number_of(name) >= 0:
            found.setdefault(number_of(name), []).append(f"{STATES}/{name}")
    return found


def _state_name(state: State) -> str:
    return file_name(STATES, state.number, hashlib.sha256(state.encode()).hexdigest())
