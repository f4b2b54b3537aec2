"""JSON files into typed values; what is wrong is said with its place in the file and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from lightly_fs.annotations.files import AnnotationFiles
from lightly_fs.datasource.reader import Buffer
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure

T = TypeVar("T")

_PLACED = re.compile(r"(?s)(?P<what>.*) - at `(?P<place>\$.*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_LAST_NAME = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\])*$")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class InvalidContentError(ValueError):
    """What a file says cannot be used; the message is `place: what is wrong; the fix`."""

    def __init__(self, place: str, wrong: str, fix: str = "") -> None:
        super().__init__(f"{place}: {wrong}" + (f"; {fix}" if fix else ""))


def decode(
    decoder: msgspec.json.Decoder[T],
    data: Buffer | msgspec.Raw,
    fixes: Mapping[str, str],
    *,
    at: str = "$",
) -> T:
    """Return what a JSON file, or one value in it, says.

    Args:
        decoder: For the type that the file must have.
        data: The file's bytes, UTF-8; a byte order mark is overlooked.
        fixes: By field name, what to write there.
        at: Where in the file a `Raw` value is.

    Raises:
        InvalidContentError: It is no JSON, or not of this type.
    """
    if not isinstance(data, msgspec.Raw) and bytes(data[:3]) == _BYTE_ORDER_MARK:
        data = data[3:]
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise explained(error, fixes, at=at) from error
    except msgspec.DecodeError as error:
        wrong = str(error).removeprefix("JSON is malformed: ").lower()
        # Python's json module writes NaN and Infinity, which are no JSON.
        fix = "write the file again as JSON (which has no NaN, no comments, no trailing commas)"
        raise InvalidContentError(at, f"no JSON, {wrong}", fix) from error
    except UnicodeDecodeError as error:
        raise InvalidContentError(at, "no UTF-8 text", "save the file as UTF-8") from error
    except RecursionError as error:
        raise InvalidContentError(at, "nested too deeply") from error


def explained(
    error: msgspec.ValidationError, fixes: Mapping[str, str], *, at: str = "$"
) -> InvalidContentError:
    """Return what msgspec says with the fix of the field at fault, as `decode` raises it."""
    message = str(error)
    found = _PLACED.fullmatch(message)
    what, place = (found["what"], found["place"]) if found else (message, "$")
    if missing := _MISSING.fullmatch(what):
        place, what = f"{place}.{missing['name']}", "missing"
    place = at + place[1:]
    name = _LAST_NAME.search(place)
    fix = fixes.get(name[1] if name else "$", "")
    return InvalidContentError(place, what[:1].lower() + what[1:], fix)


def read_one(
    files: AnnotationFiles, path: str, decoder: msgspec.json.Decoder[T], fixes: Mapping[str, str]
) -> T | None:
    """Return what one file says, or None when there is no such file.

    Raises:
        DatasourceError: It cannot be read, or is invalid; the message names file and place.
    """
    if path not in files.list(path):
        return None
    data = next(iter(files.read([path])))
    if isinstance(data, Failure):
        raise DatasourceError(f"{path} cannot be read: {data.reason}")
    try:
        return decode(decoder, data, fixes)
    except InvalidContentError as error:
        raise DatasourceError(f"{path} is invalid: {error}") from error
