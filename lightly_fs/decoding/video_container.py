"""What a container's own bytes tell of its size: FFmpeg reads it, and keeps it to itself."""

from __future__ import annotations

import io

HEAD_BYTES = 4096
"""Of a file, in which the size of what follows is told."""
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = 16
"""Boxes of an MP4 file that are looked at: the index comes first, or behind a few others."""


def told_bytes(head: bytes) -> int | None:
    """Return how many bytes a Matroska or AVI file has, by its first `HEAD_BYTES`.

    None where it does not tell: other containers, and files that were written without going back.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return 8 + size if 0 < size < 0xFFFFFFFF else None
    at = head.find(_SEGMENT)
    if head[:4] != b"\x1a\x45\xdf\xa3" or at < 0:
        return None
    at += len(_SEGMENT)
    length = 9 - head[at].bit_length() if head[at : at + 1] else 0
    value = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = (1 << 7 * length) - 1
    return at + length + value if 1 <= length <= 8 and value != unknown else None


def ends_in_index(handle: io.RawIOBase, size: int) -> bool:
    """Tell whether an MP4 or MOV file of `size` bytes ends within its index (moov)."""
    at = 0
    for _ in range(_BOXES):
        handle.seek(at)
        header = bytes(handle.read(16) or b"")
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if header[4:8] == b"moov":
            return at + length > size
        if length < 8 or at + length >= size:
            return False
        at += length
    return False
