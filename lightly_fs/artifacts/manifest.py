"""The manifest: written last, it makes a run complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import lightly_fs
from lightly_fs.datasource.output import Written
from lightly_fs.types import Counts, ModelInfo

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What a finished run holds.

    Attributes:
        created: When the run was finished, ISO 8601, UTC.
        entries: Every other file of the run directory, sorted by name.
    """

    run_id: str
    created: str
    config_digest: str
    inventory_digest: str
    counts: Counts
    model: ModelInfo
    entries: Sequence[Written]
    package_version: str = field(default=lightly_fs.__version__)

    def encode(self) -> bytes:
        values = {"format_version": FORMAT_VERSION, "made_by": "lightly-fs", **asdict(self)}
        return (json.dumps(values, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes | None) -> Manifest | None:
        """Return the manifest, or None when there is none or it is torn."""
        try:
            values = json.loads(data or b"")
            if values.pop("format_version") != FORMAT_VERSION:
                return None
            values.pop("made_by")
            values["counts"] = Counts(**values["counts"])
            values["model"] = ModelInfo(**values["model"])
            values["entries"] = tuple(Written(**entry) for entry in values["entries"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
