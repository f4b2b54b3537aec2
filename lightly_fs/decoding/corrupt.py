"""What is wrong with bytes that are not an image."""

from __future__ import annotations


class CorruptImage(Exception):
    """The bytes cannot be fully decoded; `reason` starts with one of a few stable phrases.

    `empty file`, `truncated`, `not an image`, `too large`, `unsupported` or `broken data`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image by its header, before memory is taken for it.

    Raises:
        CorruptImage: It has more than `max_pixels`, or none.
    """
    pixels = width * height
    if pixels > max_pixels:
        raise CorruptImage(
            f"too large: {width}x{height} = {pixels:,} pixels, "
            f"more than max_image_pixels={max_pixels:,}"
        )
    if pixels <= 0:
        raise CorruptImage(f"broken data ({width}x{height} pixels)")
