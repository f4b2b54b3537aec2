"""The parts of an unfinished run directory: which shards are embedded, and how far others are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightly_fs.artifacts import parts
from lightly_fs.artifacts.parts import Piece
from lightly_fs.datasource.output import WRITERS, Output
from lightly_fs.datasource.shards import Shard, Shards
from lightly_fs.errors import ArtifactError
from lightly_fs.types import EmbeddedSamples

logger = logging.getLogger(__name__)

PARTS = "parts"


@dataclass(frozen=True, slots=True)
class Begun:
    """How far a shard of videos is.

    Attributes:
        names: Its pieces, in order.
        ended: Videos of which nothing is to be done any more.
        resume: Where the decoder goes on in the next video, as JSON values; None: at its start.
        n_frames: Frames in its pieces.
    """

    names: tuple[str, ...] = ()
    ended: frozenset[str] = frozenset()
    resume: Mapping[str, Any] | None = None
    n_frames: int = 0


class CommittedParts:
    """Parts of a run, with verified local copies to read them from."""

    def __init__(self, files: Output, local: Path, shards: Shards) -> None:
        """Fetch what is there; torn parts are deleted, and pieces behind a gap.

        Args:
            files: The run directory.
            local: Directory for the copies.
            shards: Those of the inventory.
        """
        self._files, self._local, self._shards = files, local, shards
        self._images: dict[int, str] = {}
        self._begun: dict[int, Begun] = {}
        names = files.names(PARTS)
        intact: dict[tuple[int, int | None], str] = {}
        with ThreadPoolExecutor(WRITERS) as pool:
            for name, whole in zip(names, pool.map(self._fetch, names), strict=True):
                place = parts.place_of(name)
                if place is None or not whole or place in intact or not self._fits(*place):
                    self._delete(name, "torn or double")
                else:
                    intact[place] = name
        for number, piece in sorted(intact, key=lambda place: (place[0], place[1] or 0)):
            name = intact[number, piece]
            if piece is None:
                self._images[number] = name
            elif piece == len(self.begun(number).names):
                self._go_on(number, name)
            else:
                self._delete(name, "unreachable")

    @property
    def done(self) -> dict[int, Sequence[str]]:
        """The parts of every shard that is embedded."""
        done: dict[int, Sequence[str]] = {n: (name,) for n, name in self._images.items()}
        for number, begun in self._begun.items():
            if begun.ended.issuperset(self._shards[number].filenames):
                done[number] = begun.names
        return done

    def begun(self, number: int) -> Begun:
        """Return how far a shard of videos is."""
        return self._begun.get(number, Begun())

    def write(
        self, shard: Shard, embedded: EmbeddedSamples, piece: Piece | None = None
    ) -> tuple[str, Path]:
        """Make a part in the local directory; return its name in the run directory, and the copy.

        Raises:
            ArtifactError: Its samples are not the shard's.
        """
        wrong = _foreign(shard, embedded) if piece else _other(shard, embedded)
        if wrong:
            raise ArtifactError(f"shard {shard.number} {wrong}")
        local = parts.write_part(self._local, shard.number, embedded, piece)
        return f"{PARTS}/{local.name}", local

    def add(self, shard: Shard, local: Path) -> None:
        """Note that a part is in the run directory now."""
        if shard.videos:
            self._go_on(shard.number, local.name)
        else:
            self._images[shard.number] = local.name

    def paths(self) -> list[Path]:
        """Return the copies of all parts in the order of shards and pieces.

        Raises:
            ArtifactError: A shard is missing.
        """
        done, expected = self.done, len(self._shards)
        missing = [number for number in range(expected) if number not in done]
        if missing:
            raise ArtifactError(
                f"{len(missing)} of {expected} shards of {self._files.uri} are not embedded yet, "
                f"the first is {missing[0]}",
                hint="run `lightly-fs embed` or the whole run with the same run_directory",
            )
        return [self._local / name for number in sorted(done) for name in done[number]]

    def _go_on(self, number: int, name: str) -> None:
        begun, found = self.begun(number), parts.read_piece(self._local / name)
        names = (*begun.names, name)
        frames = begun.n_frames + found.n_frames
        self._begun[number] = Begun(names, begun.ended | found.ended, found.resume, frames)

    def _fits(self, number: int, piece: int | None) -> bool:
        return number < len(self._shards) and self._shards.holds_videos(number) == (
            piece is not None
        )

    def _fetch(self, name: str) -> bool:
        data = self._files.read(f"{PARTS}/{name}")
        if data is None or not parts.is_intact(name, data):
            return False
        local = self._local / name
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(data)
        return True

    def _delete(self, name: str, why: str) -> None:
        logger.warning("deleting the %s part %s", why, name)
        self._files.delete(f"{PARTS}/{name}")


def _other(shard: Shard, embedded: EmbeddedSamples) -> str | None:
    """Return how the samples that ended are not exactly those of a shard, or None."""
    ended = [record.filename for record in embedded.records]
    ended += [failure.filename for failure in embedded.failures]
    if sorted(ended) == sorted(shard.filenames):
        return None
    return f"has {len(shard.filenames)} samples, but {len(ended)} others ended in it"


def _foreign(shard: Shard, embedded: EmbeddedSamples) -> str | None:
    """Return which frame or video is not of a shard, or None."""
    videos = set(shard.filenames)
    ended = [(record.filename, record.frame) for record in embedded.records]
    ended += [(failure.filename, failure.frame) for failure in embedded.failures]
    for name, frame in ended:
        video = name if frame is None else frame.video
        if video not in videos:
            return f"does not hold `{video}`, but a sample of it ended in it"
    return None
