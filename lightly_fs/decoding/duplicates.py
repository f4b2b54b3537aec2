"""Exact duplicates: samples that show what an earlier one already shows, pixel by pixel."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lightly_fs.datasource.reader import Buffer
from lightly_fs.decoding.images import CorruptImage, decode_full
from lightly_fs.types import Duplicate, Failure, ImageRecord

_THREADS = 4


def find_duplicates(
    records: Sequence[ImageRecord],
    read: Callable[[str], Buffer | Failure],
    *,
    max_pixels: int,
) -> list[Duplicate]:
    """Find every sample that shows exactly what an earlier one shows; the first one stays.

    Same bytes need no look at the pixels. Equal size and model input only suggest equal pixels:
    such samples are read again and decoded in full. One that cannot be any more stays. Frames of
    videos have no bytes of their own: those of equal size and model input are taken for equal.

    Args:
        records: The embedded samples, in inventory order.
        read: Gives a sample's bytes again; called from several threads.
        max_pixels: As for the run.

    Returns:
        In inventory order; an `original` is never itself a duplicate.
    """
    seen: dict[object, str] = {}
    first = {r.filename: seen.setdefault(_content(r), r.filename) for r in records}
    groups: defaultdict[object, list[str]] = defaultdict(list)
    for record in records:
        if first[record.filename] == record.filename and record.frame is None:
            groups[record.width, record.height, record.pixel_hash].append(record.filename)
    candidates = [name for group in groups.values() if len(group) > 1 for name in group]
    same_pixels = _same_pixels(candidates, read, max_pixels)
    duplicates = []
    for record in records:
        same_content = first[record.filename]
        original = same_pixels.get(same_content, same_content)
        if original != record.filename:
            by_bytes = original == same_content and record.frame is None
            reason = "content" if by_bytes else "pixels"
            duplicates.append(Duplicate(record.filename, original, reason))
    return duplicates


def _content(record: ImageRecord) -> object:
    """Return what is equal for samples that show the same, as far as their records tell."""
    if record.frame is None:
        return record.content_hash
    return record.width, record.height, record.pixel_hash


def _same_pixels(
    candidates: Sequence[str], read: Callable[[str], Buffer | Failure], max_pixels: int
) -> dict[str, str]:
    """Return by filename the first candidate with the same decoded pixels, where there is one."""

    def digest(filename: str) -> object:
        data = read(filename)
        if isinstance(data, Failure):
            return object()  # equal to nothing else
        try:
            pixels = decode_full(data, max_pixels)
        except (CorruptImage, MemoryError):
            return object()
        return pixels.shape, hashlib.sha256(pixels.data).digest()

    seen: dict[object, str] = {}
    with ThreadPoolExecutor(_THREADS, "duplicates") as pool:
        digests = pool.map(digest, candidates)
        return {
            name: seen.setdefault(found, name)
            for name, found in zip(candidates, digests, strict=True)
        }
