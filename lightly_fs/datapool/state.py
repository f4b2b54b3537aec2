"""A state of a datapool: which parts it is made of, and what they sum up to, as a JSON file."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import lightly_fs
from lightly_fs.datasource.output import Written
from lightly_fs.errors import ArtifactError
from lightly_fs.types import ModelInfo

FORMAT = "lightly-fs datapool"
VERSION = 2
"""Of the format; a reader refuses what is newer than itself. In 1 vectors were lists of numbers."""

STATES, SAMPLES, FILES = "states", "samples", "files"
_NAME = re.compile(r"(?P<number>\d{6,})-(?P<digest>[0-9a-f]{16})\.(?:json|parquet)")


class Kind(StrEnum):
    """How a state came to be."""

    EMPTY = "empty"
    UPDATE = "update"
    FRESH = "fresh"
    """By a run that began from scratch."""
    IMPORT = "import"
    ROLLBACK = "rollback"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable Parquet file.

    Attributes:
        name: Below the pool: `samples/NNNNNN-HASH.parquet`, or `files/…`.
        rows: How many it holds.
    """

    name: str
    rows: int
    size: int
    sha256: str
    md5: str

    @property
    def number(self) -> int:
        """Return the state that added it."""
        return number_of(self.name)

    @property
    def written(self) -> Written:
        return Written(self.name, self.size, self.sha256, self.md5)


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What a state holds, and what it added.

    Attributes:
        files: Remembered files; `corrupt` and `unfinished` ones, which are tried again, included.
        deleted: Remembered files that the last run did not find any more.
        samples: Images and frames with an embedding.
        duplicate: Those of them that show exactly what another one shows.
        added_files: Files that this state saw for the first time.
        changed_files: Files whose earlier content this state replaced.
        superseded_samples: Samples of these files that no longer count.
    """

    files: int = 0
    corrupt: int = 0
    unfinished: int = 0
    deleted: int = 0
    samples: int = 0
    selected: int = 0
    duplicate: int = 0
    added_files: int = 0
    changed_files: int = 0
    added_samples: int = 0
    added_selected: int = 0
    superseded_samples: int = 0


@dataclass(frozen=True)
class State:
    """What a datapool is at one time.

    Attributes:
        number: Counts up from 1; 0 is the pool that holds nothing yet.
        parent: The state that was there before.
        restored: The state whose content a rollback brought back.
        run_id: The run that made it; "" when a command did.
        model: What made the embeddings; None while there are none, or nobody knows.
        dimensions: D of the embeddings; 0 while there are none.
        samples: The parts that hold embeddings, the oldest first; `files` likewise.
    """

    number: int = 0
    kind: Kind = Kind.EMPTY
    created: str = ""
    parent: int | None = None
    restored: int | None = None
    run_id: str = ""
    model: ModelInfo | None = None
    dimensions: int = 0
    samples: tuple[Part, ...] = ()
    files: tuple[Part, ...] = ()
    counts: PoolCounts = field(default_factory=PoolCounts)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.files, *self.samples)

    @property
    def n_bytes(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def all_current(self) -> bool:
        """Whether no row of any part was superseded by a later one."""
        return sum(part.rows for part in self.files) == self.counts.files

    def following(self, number: int, kind: Kind, run_id: str = "") -> State:
        """Return a copy that a later state begins from."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(
            self,
            number=number,
            kind=kind,
            created=created,
            parent=self.number or None,
            restored=None,
            run_id=run_id,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "package_version": lightly_fs.__version__,
            **asdict(self),
        }

    def encode(self) -> bytes:
        return (json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def decode(cls, name: str, data: bytes) -> State:
        """Return the state that a file holds.

        Raises:
            ArtifactError: Another program's file, or a newer version's.
        """
        try:
            values = json.loads(data)
            if values.pop("format") != FORMAT or values["version"] > VERSION:
                raise ArtifactError(
                    f"{name} is of version {values.get('version')} of the datapool's format, "
                    f"and this program reads up to {VERSION}",
                    hint="update lightly-fs",
                )
            del values["version"], values["package_version"]
            values["kind"] = Kind(values["kind"])
            values["model"] = None if values["model"] is None else ModelInfo(**values["model"])
            for kind in ("samples", "files"):
                values[kind] = tuple(Part(**one) for one in values[kind])
            return cls(**{**values, "counts": PoolCounts(**values["counts"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{name} is no state of a datapool: {error}") from error


def file_name(folder: str, number: int, data_sha256: str) -> str:
    """Return where content belongs: its hash in the name tells a whole file from a torn one."""
    suffix = "json" if folder == STATES else "parquet"
    return f"{folder}/{number:06d}-{data_sha256[:16]}.{suffix}"


def number_of(name: str) -> int:
    """Return the state that a file's name tells; -1 when it is no name of a datapool."""
    found = _NAME.fullmatch(name.rpartition("/")[2])
    return int(found["number"]) if found else -1


def is_intact(name: str, data: bytes) -> bool:
    """Tell whether the bytes are what the name promises."""
    found = _NAME.fullmatch(name.rpartition("/")[2])
    return found is not None and hashlib.sha256(data).hexdigest().startswith(found["digest"])
