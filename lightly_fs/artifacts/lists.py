"""Lists of filenames: one per line, one list per way a sample can end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.escaping import escape, unescape
from lightly_fs.types import Outcome

FOLDER = "filenames"
EMBEDDED = "embedded_filenames.txt"
DUPLICATE = "duplicate_filenames.txt"
REMOVED = "removed_filenames.txt"
SELECTED = "sampled_filenames_excluding_datapool.txt"
NOT_EMBEDDED = {
    outcome: f"{outcome.value}_filenames.txt" for outcome in Outcome if outcome != Outcome.EMBEDDED
}


def write_list(path: Path, filenames: Iterable[str]) -> None:
    """Write one filename per line, in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{escape(filename)}\n" for filename in filenames)


def read_list(path: Path) -> list[str]:
    """Return the filenames that `write_list` wrote."""
    return parse_list(path.read_text(encoding="utf-8"))


def parse_list(text: str) -> list[str]:
    """Return the filenames of a list's text."""
    return [unescape(line) for line in text.split("\n")[:-1]]


def check_lists(
    directory: Path,
    inventory: pa.ChunkedArray,
    frames: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str | None:
    """Return what does not add up in the written lists, or None.

    Every filename of the inventory, in place of a video those of its frames, has to be in exactly
    one list of those that say how a sample ended, and every embedded one in exactly one of
    duplicate, selected and removed.

    Args:
        directory: The folder of the lists.
        inventory: All filenames.
        frames: By video, the names of the frames that were taken.
    """
    ended = [EMBEDDED, *NOT_EMBEDDED.values()]
    if frames:
        videos = pc.is_in(inventory, value_set=pa.array(list(frames), pa.string()))
        names = pa.array([name for one in frames.values() for name in one], pa.string())
        inventory = pa.chunked_array([*inventory.filter(pc.invert(videos)).chunks, names])
    return _differ(directory, ended, inventory, "the inventory") or _differ(
        directory,
        [DUPLICATE, SELECTED, REMOVED],
        pa.chunked_array([pa.array(read_list(directory / EMBEDDED), pa.string())]),
        EMBEDDED,
    )


def _differ(directory: Path, lists: list[str], whole: pa.ChunkedArray, name: str) -> str | None:
    parts = [pa.array(read_list(directory / one), pa.string()) for one in lists]
    # Sorted, the lists together must be the whole: nothing is missing, twice or made up.
    found, expected = _sorted(pa.chunked_array(parts, pa.string())), _sorted(whole)
    if found.equals(expected):
        return None
    lost = pc.filter(expected, pc.invert(pc.is_in(expected, value_set=found)))
    more = pc.filter(found, pc.invert(pc.is_in(found, value_set=expected)))
    counts = pc.value_counts(found)
    twice = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    for kind, names in (("in no list", lost), ("unknown", more), ("in two lists", twice)):
        if len(names):
            return f"{len(names)} filenames of {name} are {kind}, the first is `{names[0]}`"
    return f"{name} names a file twice"


def _sorted(names: pa.ChunkedArray) -> pa.Array:
    whole = names.cast(pa.string()).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    return whole.take(pc.sort_indices(whole))
