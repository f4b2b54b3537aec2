"""A filename as one line of text, and back."""

from __future__ import annotations

import re

# Whatever some reader takes for the end of a line, for a comment or a byte order mark at its
# start, or strips from its ends; and the backslash, so that no two names share a line.
_SPECIAL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029\ufeff\ud800-\udfff]|\A[\s#]|\s\Z",
)
_ESCAPE = re.compile(r"\\(\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {short[1]: char for char, short in _SHORT.items()}


def escape(filename: str) -> str:
    r"""Return a filename as one line of text; no two filenames give the same line.

    Control characters, line ends, white space at either end, a `#` at the start and every
    backslash become `\n`, `\r`, `\t`, `\\`, `\x1b` or `\u2028`; every other name stays as it is.
    """
    return _SPECIAL.sub(_escaped, filename)


def unescape(line: str) -> str:
    """Return the filename that `escape` made a line of; any other line is read likewise."""
    return _ESCAPE.sub(_unescaped, line)


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return _LONG[code] if code in _LONG else chr(int(code[1:], 16))
