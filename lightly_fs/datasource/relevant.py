"""The `relevant_filenames_file`: which of the listed files a run is about."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

import pathspec
import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.errors import DatasourceError
from lightly_fs.escaping import unescape

logger = logging.getLogger(__name__)

_PATTERN = frozenset("*?[!\\")
_HALF = re.compile(r"[\ud800-\udfff]")
_SHOWN = 5


def parse_lines(text: str) -> list[str]:
    """Return a file's entries: no blank lines, no comments (`#`), each once."""
    lines = (line.strip("\r") for line in text.split("\n"))
    return list(dict.fromkeys(line for line in lines if line.strip() and not line.startswith("#")))


def keep_relevant(filenames: pa.ChunkedArray, entries: Sequence[str]) -> pa.BooleanArray:
    """Tell which filenames an entry names.

    An entry is a filename (`a/b.jpg`); a prefix, which ends in a slash or in the line's only star
    (`a/`, `a/im*`); or a gitignore pattern (`**/cam_?/*.jpg`), where `!` takes matches out again.
    A prefix may be followed, after a space, by gitignore patterns for the files below it:
    `a/* a/img_4* !a/img_41.png`.

    What is a filename goes before everything else, and a filename as `escape` writes it before one
    as it stands: a list that was written by a run names the same files again, and nothing else.

    Args:
        filenames: What was listed.
        entries: Lines of the file, see `parse_lines`.

    Returns:
        A mask as long as `filenames`.

    Raises:
        DatasourceError: Not one filename is named.
    """
    listed = filenames.combine_chunks() if isinstance(filenames, pa.ChunkedArray) else filenames
    names, others = _named(listed, entries)
    keep = pc.is_in(listed, value_set=pa.array(sorted(names), pa.string()))
    unmatched: list[str] = []
    gitignore: list[str] = []
    for entry in others:
        found = _below_prefix(listed, entry)
        if found is None and _PATTERN & set(entry):
            gitignore.append(entry)
        elif found is not None and pc.any(found).as_py():
            keep = pc.or_(keep, found)
        else:
            unmatched.append(entry)
    if gitignore:
        found, useless = _patterns(listed, gitignore)
        keep = pc.or_(keep, found)
        unmatched += useless
    if not pc.any(keep).as_py():
        raise DatasourceError(
            f"none of the {len(entries)} entries of relevant_filenames_file names an image of "
            f"the {len(listed)} in the input, for example {_shown(entries)}",
            hint="Entries are relative to input_dir: no leading `/`, no bucket, no `./`.",
        )
    if unmatched:
        logger.warning(
            "%d entries of relevant_filenames_file name no image: %s",
            len(unmatched),
            _shown(unmatched),
        )
    return keep


def _named(listed: pa.Array, entries: Sequence[str]) -> tuple[set[str], list[str]]:
    """Return the filenames that entries are, and the entries that are none."""
    read = {entry: (unescape(entry), entry) for entry in entries}
    # Half of a surrogate pair is no text, but can be written as an escape.
    candidates = {name for both in read.values() for name in both if not _HALF.search(name)}
    found = pc.is_in(listed, value_set=pa.array(sorted(candidates), pa.string()))
    present = set(listed.filter(found).to_pylist())
    names: set[str] = set()
    others: list[str] = []
    for entry, both in read.items():
        name = next((name for name in both if name in present), None)
        if name is None:
            others.append(entry)
        else:
            names.add(name)
    return names, others


def _shown(entries: Sequence[str]) -> str:
    more = f" … and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(f"`{entry}`" for entry in entries[:_SHOWN]) + more


def _below_prefix(listed: pa.Array, entry: str) -> pa.BooleanArray | None:
    """Return which names are below the prefix that `entry` is, or None when it is none."""
    prefix, star, patterns = entry.partition("* ")
    if star and not _PATTERN & set(prefix):
        below = pc.starts_with(listed, prefix)
        found, _ = _patterns(listed.filter(below), patterns.split())
        rows = pc.indices_nonzero(below).take(pc.indices_nonzero(found))
        return pc.is_in(pa.array(range(len(listed)), pa.uint64()), value_set=rows)
    if _PATTERN & set(entry.removesuffix("*")) or not entry.endswith(("/", "*")):
        return None
    if entry.endswith("**"):
        return None
    return pc.starts_with(listed, entry.removesuffix("*"))


def _patterns(listed: pa.Array, patterns: Iterable[str]) -> tuple[pa.BooleanArray, list[str]]:
    """Match gitignore patterns, the last one that applies deciding; tell which apply nowhere."""
    lines = list(patterns)
    try:
        rules = [pathspec.GitIgnoreSpec.from_lines([line.removeprefix("!")]) for line in lines]
        whole = pathspec.GitIgnoreSpec.from_lines(lines)
    except ValueError as error:  # `!` or `\\` alone
        raise DatasourceError(f"relevant_filenames_file holds no pattern: {error}") from error
    names = listed.to_pylist()
    found = [whole.match_file(name) for name in names]
    useless = [
        line
        for line, rule in zip(lines, rules, strict=True)
        if next(iter(rule.match_files(names)), None) is None
    ]
    return pa.array(found, pa.bool_()), useless
