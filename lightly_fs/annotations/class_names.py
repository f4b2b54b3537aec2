"""The names of YOLO's classes: `names:` of a YAML file as it is written there, or a plain list.

YAML itself would change names: `yes` is True, `2.50` is 2.5 and `~` nothing. Only the text counts
here, and no alias is followed: a few hundred bytes of them can stand for gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from lightly_fs.errors import DatasourceError

_KEY = "names"
_LARGEST = 1 << 20
_DEEPEST = 50
_NUMBER = re.compile(r"[0-9]{1,9}")
_TEXT_TAG = "tag:yaml.org,2002:str"
_FIX = "write `names: [car, cat]`, or a line `0: car` below `names:` for each class"


def listed_names(path: Path) -> list[str]:
    """Return the lines of a `classes.txt`.

    Raises:
        DatasourceError: It cannot be read, is no UTF-8, or has an empty line between two names.
    """
    lines = [line.strip() for line in _text(path).rstrip().split("\n")]
    if "" in lines:
        raise DatasourceError(
            f"`{path}` names no class in line {lines.index('') + 1}, so the numbers are not clear",
            hint="write one name in each line, that of class 0 first",
        )
    return lines


def yaml_names(path: Path) -> list[str] | None:
    """Return `names` of a YAML file in the order of the class numbers; None when it has none.

    Raises:
        DatasourceError: The file cannot be read, or `names` is no list or mapping of texts.
    """
    try:
        names = _names(yaml.parse(_text(path), Loader=yaml.BaseLoader))
    except (yaml.YAMLError, OverflowError) as error:
        raise DatasourceError(f"`{path}` is no YAML file: {error}", hint=_FIX) from error
    except ValueError as error:
        raise DatasourceError(f"`{path}` is not usable: {error}", hint=_FIX) from error
    if not isinstance(names, dict):
        return names or None
    numbers = {int(key): name for key, name in names.items() if _NUMBER.fullmatch(key)}
    if len(numbers) < len(names) or sorted(numbers) != list(range(len(names))):
        raise DatasourceError(
            f"`{_KEY}` of `{path}` are not numbered from 0 on: {', '.join(list(names)[:5])} …",
            hint="number the classes 0, 1, 2, … without gaps",
        )
    return [numbers[number] for number in range(len(names))] or None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise DatasourceError(
                f"`{path}` has more than {_LARGEST:,} bytes, too many for names of classes",
                hint="give the file that names the classes",
            )
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise DatasourceError(
            f"`{path}` cannot be read: {error.strerror}", hint="give access to it"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasourceError(
            f"`{path}` is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}",
            hint=f"save it as UTF-8: iconv -f latin1 -t utf-8 '{path}' > new",
        ) from error


def _names(events: Iterator[yaml.Event]) -> list[str] | dict[str, str] | None:
    """Return what the first document has as its key `names`.

    Raises:
        ValueError: It is neither a list nor a mapping of texts, or comes twice.
    """
    events = _shallow(events)
    found: list[str] | dict[str, str] | None = None
    seen = False
    if not any(isinstance(event, yaml.MappingStartEvent) for event in _until_content(events)):
        return None
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        wanted = isinstance(key, yaml.ScalarEvent) and key.value == _KEY
        _skip(key, events)
        value = next(events)
        if not wanted:
            _skip(value, events)
            continue
        if seen:
            raise ValueError(f"`{_KEY}` comes twice")
        found, seen = _collection(value, events), True
    for _ in events:
        pass  # what comes after it has to be YAML too
    return found


def _until_content(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            yield event
            return


def _shallow(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep{_line(event)}")
        yield event


def _skip(first: yaml.Event, events: Iterator[yaml.Event]) -> None:
    depth = int(isinstance(first, yaml.CollectionStartEvent))
    while depth:
        event = next(events)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)


def _collection(
    first: yaml.Event, events: Iterator[yaml.Event]
) -> list[str] | dict[str, str] | None:
    if isinstance(first, yaml.ScalarEvent) and not first.value:
        return None
    if not isinstance(first, yaml.CollectionStartEvent) or first.tag:
        raise ValueError(f"`{_KEY}` is neither a list nor a mapping{_line(first)}")
    texts: list[str] = []
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            break
        texts.append(_scalar(event))
    if isinstance(first, yaml.SequenceStartEvent):
        return texts
    names = dict(zip(texts[::2], texts[1::2], strict=True))
    if 2 * len(names) < len(texts):
        raise ValueError(f"a key of `{_KEY}` comes twice")
    return names


def _scalar(event: yaml.Event) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag not in (None, "!", _TEXT_TAG):
        raise ValueError(f"`{_KEY}` holds something else than texts{_line(event)}")
    text = str(event.value)
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"`{_KEY}` holds {'a broken' if text else 'an empty'} name{_line(event)}")
    return text


def _line(event: yaml.Event) -> str:
    mark = event.start_mark
    return f" (line {mark.line + 1})" if mark else ""
