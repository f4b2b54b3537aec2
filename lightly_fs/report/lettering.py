"""Names of files and other foreign text: nothing invisible, no boxes, no overflow."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from pathlib import Path

FONTS = Path(__file__).with_name("fonts")
"""Inter, for everything that we write ourselves."""


def mono_font(*, bold: bool = False) -> Path:
    """Return DejaVu Sans Mono, the font of foreign text, as matplotlib brings it."""
    import matplotlib as mpl

    name = "DejaVuSansMono-Bold.ttf" if bold else "DejaVuSansMono.ttf"
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / name


@lru_cache(maxsize=1)
def mono_letters() -> frozenset[int]:
    """Return the code points that DejaVu Sans Mono can show, regular and bold."""
    from matplotlib.ft2font import FT2Font

    regular, bold = (FT2Font(str(mono_font(bold=bold))).get_charmap() for bold in (False, True))
    return frozenset(regular) & frozenset(bold)


def tokens(text: str, letters: Container[int] | None = None) -> list[str]:
    r"""Return `text` character by character, what cannot be seen as an escape like `\u{202e}`.

    Args:
        text: Any text.
        letters: Code points that the font can show; None when any font may be used (a browser).
    """
    return [
        f"\\u{{{ord(character):x}}}"
        if not character.isprintable() or (letters is not None and ord(character) not in letters)
        else character
        for character in text
    ]


def shown(text: str, width: int, letters: Container[int] | None = None) -> str:
    """Return `text` in at most `width` columns; a longer one loses its middle."""
    made = tokens(text, letters)
    if sum(map(len, made)) <= width:
        return "".join(made)
    head = _fitting(made, (width - 1) // 2)
    # A long escape may leave room before the middle: the end, which tells names apart, gets it.
    tail = _fitting(made[::-1], width - 1 - sum(map(len, head)))
    return "".join(head) + "…" + "".join(reversed(tail))


def _fitting(made: list[str], width: int) -> list[str]:
    taken, used = 0, 0
    while taken < len(made) and used + len(made[taken]) <= width:
        used += len(made[taken])
        taken += 1
    return made[:taken]


def without_secrets(text: str) -> str:
    """Return `text` without the keys that URLs may carry: `user:key@`, and all behind a `?`."""
    return re.sub(r"(://[^\s?]+)\?\S+", r"\1?…", re.sub(r"(://)[^/@\s]+@", r"\1…@", text))


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 image`, `12,345 images`; `plural` where an s is wrong."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: `< 0.1 s`, `0.8 s`, `41 s`, `2 min 33 s`, `3 h 05 min`."""
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float) -> str:
    """Return bytes with a decimal unit: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def percent(part: float, whole: float) -> str:
    """Return a share: `12 %`, one decimal below 10 %, `< 0.1 %` instead of a rounded zero."""
    if not whole or not part:
        return "0 %"
    share = 100 * part / whole
    if share < 0.1:
        return "< 0.1 %"
    if share < 10 or 99 < share < 100:
        return f"{min(share, 99.9) if part != whole else share:.1f} %"
    return f"{share:.0f} %"


def dollars(value: float) -> str:
    """Return US dollars without false precision."""
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def kilograms(value: float) -> str:
    """Return a mass of CO2 in grams, kilograms or tonnes."""
    if value < 1:
        return f"{value * 1000:.0f} g"
    return f"{value:,.1f} kg" if value < 1000 else f"{value / 1000:,.1f} t"
