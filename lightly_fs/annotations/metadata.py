"""Custom metadata of images, videos and frames: `schema.json` and one JSON file per sample."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from lightly_fs.annotations.files import FOLDER, AnnotationFiles, InvalidFile
from lightly_fs.annotations.predictions import is_about
from lightly_fs.annotations.reading import InvalidContentError, decode, read_one
from lightly_fs.datasource.reader import Buffer
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, frame_of

METADATA = FOLDER + "metadata/"
SCHEMA = METADATA + "schema.json"
RESERVED = "lightly"
"""Paths of this start are measured properties (`lightly.sharpness`), not custom metadata."""


class ValueType(StrEnum):
    NUMERIC_INT = "NUMERIC_INT"
    NUMERIC_FLOAT = "NUMERIC_FLOAT"
    CATEGORICAL_INT = "CATEGORICAL_INT"
    CATEGORICAL_STRING = "CATEGORICAL_STRING"
    CATEGORICAL_BOOLEAN = "CATEGORICAL_BOOLEAN"
    CATEGORICAL_DATETIME = "CATEGORICAL_DATETIME"
    CATEGORICAL_TIMESTAMP = "CATEGORICAL_TIMESTAMP"
    OTHER_STRING = "OTHER_STRING"


# Some pages of the documentation say NUMERICAL where the API says NUMERIC.
_ALIASES = {"NUMERICAL_INT": ValueType.NUMERIC_INT, "NUMERICAL_FLOAT": ValueType.NUMERIC_FLOAT}
_NUMERIC = frozenset({ValueType.NUMERIC_INT, ValueType.NUMERIC_FLOAT})
_ACCEPTED: dict[ValueType, tuple[tuple[type, ...], str]] = {
    ValueType.NUMERIC_INT: ((int,), "a whole number"),
    ValueType.NUMERIC_FLOAT: ((int, float), "a number"),
    ValueType.CATEGORICAL_INT: ((int,), "a whole number"),
    ValueType.CATEGORICAL_STRING: ((str,), "a text"),
    ValueType.CATEGORICAL_BOOLEAN: ((bool,), "true or false"),
    ValueType.CATEGORICAL_DATETIME: ((str, int), "a text or a whole number"),
    ValueType.CATEGORICAL_TIMESTAMP: ((str, int), "a text or a whole number"),
    ValueType.OTHER_STRING: ((str,), "a text"),
}


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """One line of the schema.

    Attributes:
        name: For people.
        path: Where the value is in a metadata file, names joined by dots.
        default: For samples that have no value: float or label; NaN and "null" for a null.
    """

    name: str
    path: str
    value_type: ValueType
    default: float | str

    @property
    def numeric(self) -> bool:
        return self.value_type in _NUMERIC


@dataclass(frozen=True, eq=False)
class NumericColumn:
    """Attributes: `values` (N,) float64; NaN only where the schema's default is null."""

    entry: MetadataEntry
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CategoricalColumn:
    """Values as texts: numbers in decimal, booleans `true` and `false`.

    Attributes:
        codes: (N,) int32 places in `labels`.
        labels: Every text that occurs, sorted.
    """

    entry: MetadataEntry
    codes: NDArray[np.int32]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Metadata:
    """The metadata of N samples.

    Attributes:
        columns: By path.
        described: (N,) bool; the sample has a valid file, its own or its video's.
        invalid: Files that were left out; their samples have the defaults.
        unmatched: Number of files that belong to no sample.
    """

    filenames: Sequence[str]
    columns: Mapping[str, NumericColumn | CategoricalColumn]
    described: NDArray[np.bool_]
    invalid: Sequence[InvalidFile] = ()
    unmatched: int = 0


class _Entry(Struct):
    name: Annotated[str, Meta(min_length=1)]
    path: Annotated[str, Meta(min_length=1)]
    defaultValue: bool | int | float | str | None  # noqa: N815 - as it is documented
    valueDataType: str  # noqa: N815


class _File(Struct):
    metadata: dict[str, Any]
    type: Literal["image", "video", "frame"] | None = None
    file_name: str | None = None


_SCHEMA = msgspec.json.Decoder(list[_Entry])
_FILE = msgspec.json.Decoder(_File)
_SCHEMA_FIXES = {
    "$": "write a list of objects with name, path, defaultValue and valueDataType",
    "name": "write what people call it",
    "path": "write the names that lead to the value, joined by dots",
    "defaultValue": "write the value of samples without metadata, or null",
    "valueDataType": "write one of " + ", ".join(ValueType),
}
_FIXES = {
    "$": "write an object with file_name, type and metadata",
    "metadata": "write an object with the values",
    "type": "write image, video or frame",
    "file_name": "write the sample's path below the input, or leave it out",
}


def read_metadata(files: AnnotationFiles, filenames: Sequence[str]) -> Metadata:
    """Read the custom metadata of samples.

    The file of `a/b.jpg` is `.lightly/metadata/a/b.json`. A frame `a/v-007-mp4.png` has its own,
    `…/a/v-007-mp4.json`, or else that of its video, `…/a/v.json`. Samples without a file, or with
    an invalid one, have the schema's defaults.

    Raises:
        DatasourceError: `schema.json` is missing or invalid, or every file is invalid.
    """
    entries = read_metadata_schema(files)
    listed = set(files.list(METADATA)) - {SCHEMA}
    claims = _claims(filenames, listed)
    columns = [_Column(entry, len(filenames)) for entry in entries]
    described = np.zeros(len(filenames), np.bool_)
    invalid: list[InvalidFile] = []
    for claim, data in zip(claims.values(), files.read(list(claims)), strict=True):
        try:
            content = _parsed(data)
            rows = claim.rows_of(content, filenames)
            values = [_value(entry, content.metadata) for entry in entries]
        except InvalidContentError as error:
            invalid.append(InvalidFile(claim.path, str(error)))
            continue
        described[rows] = True
        for column, value in zip(columns, values, strict=True):
            column.set(rows, value)
    if invalid and not described.any():
        raise DatasourceError(
            f"not one of {len(invalid)} metadata files is valid, the first is "
            f"{invalid[0].path}: {invalid[0].reason}"
        )
    built = {column.entry.path: column.build() for column in columns}
    return Metadata(filenames, built, described, tuple(invalid), len(listed - claims.keys()))


def read_metadata_schema(files: AnnotationFiles) -> Sequence[MetadataEntry]:
    """Return which values the metadata has.

    Raises:
        DatasourceError: `schema.json` is missing or invalid.
    """
    given = read_one(files, SCHEMA, _SCHEMA, _SCHEMA_FIXES)
    if given is None:
        raise DatasourceError(
            f"{SCHEMA} is not there, so the bucket has no custom metadata",
            hint="Write a list of objects with name, path, defaultValue and valueDataType.",
        )
    entries: dict[str, MetadataEntry] = {}
    for index, one in enumerate(given):
        try:
            _check_path(one.path, entries, f"$[{index}].path")
            entries[one.path] = _entry(one, f"$[{index}]")
        except InvalidContentError as error:
            raise DatasourceError(f"{SCHEMA} is invalid: {error}") from error
    return list(entries.values())


def _check_path(path: str, others: Collection[str], place: str) -> None:
    if path in others:
        raise InvalidContentError(place, f"`{path}` is there twice", "take one out")
    if path.startswith(RESERVED):
        raise InvalidContentError(
            place,
            f"`{path}` starts with `{RESERVED}`, which is kept for measured properties",
            "use another name",
        )


def _entry(given: _Entry, place: str) -> MetadataEntry:
    name = _ALIASES.get(given.valueDataType, given.valueDataType)
    if name not in ValueType.__members__:
        raise InvalidContentError(
            f"{place}.valueDataType", f"`{name}` is no type", _SCHEMA_FIXES["valueDataType"]
        )
    value_type = ValueType(name)
    default: float | str = float("nan") if value_type in _NUMERIC else "null"
    if given.defaultValue is not None:
        default = _converted(given.defaultValue, value_type, f"{place}.defaultValue")
    return MetadataEntry(given.name, given.path, value_type, default)


def _value(entry: MetadataEntry, metadata: Mapping[str, Any]) -> float | str:
    """Return the value at an entry's path, or its default when there is none."""
    found: Any = metadata
    for name in entry.path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return entry.default
    return _converted(found, entry.value_type, f"$.metadata.{entry.path}")


def _converted(value: object, value_type: ValueType, place: str) -> float | str:
    kinds, expected = _ACCEPTED[value_type]
    whole = isinstance(value, float) and value.is_integer() and float not in kinds
    if type(value) in kinds or (whole and int in kinds):
        if value_type not in _NUMERIC:
            return _label(value)
        try:
            return float(value)  # type: ignore[arg-type] # int or float, see _ACCEPTED
        except OverflowError:
            expected += " below 1e308"
    shown = msgspec.json.encode(value).decode()
    raise InvalidContentError(
        place,
        f"{shown[:40]} is not {expected}",
        f"write {expected}, or change valueDataType in {SCHEMA}",
    )


def _label(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) else str(value)


def _parsed(data: Buffer | Failure) -> _File:
    if isinstance(data, Failure):
        raise InvalidContentError("$", f"cannot be read, {data.reason}")
    return decode(_FILE, data, _FIXES)


@dataclass(slots=True)
class _Claim:
    """Who a file may be about: samples of its name, and frames of videos of its name."""

    path: str
    own: list[int]
    frames: list[int]

    def rows_of(self, content: _File, filenames: Sequence[str]) -> list[int]:
        """Return the samples that a file is about.

        Raises:
            InvalidContentError: It is about none of those that have its name, or cannot tell.
        """
        if content.type == "video" and not self.frames:
            raise InvalidContentError(
                "$.type",
                f"video, but the file is that of `{filenames[self.own[0]]}`",
                "write image",
            )
        if content.type == "video" or (content.type is None and not self.own):
            return self._frames_of(content.file_name, filenames)
        shared = len(self.own) > 1
        return [
            row for row in self.own if is_about(content.file_name, filenames[row], shared=shared)
        ]

    def _frames_of(self, file_name: str | None, filenames: Sequence[str]) -> list[int]:
        videos = [video_of(filenames[row]) for row in self.frames]
        named = {video for video in videos if video is not None}
        if file_name is None and len(named) == 1:
            return self.frames
        if file_name not in named:
            shown = " and ".join(f"`{video}`" for video in sorted(named))
            wrong = "missing" if file_name is None else f"`{file_name}`"
            raise InvalidContentError(
                "$.file_name", f"{wrong}, but the file is that of {shown}", "write the video's path"
            )
        return [row for row, video in zip(self.frames, videos, strict=True) if video == file_name]


def video_of(filename: str) -> str | None:
    """Return the video that a frame's filename names, or None when it is no frame."""
    found = frame_of(filename)
    return found[0] if found else None


def _claims(filenames: Sequence[str], listed: set[str]) -> dict[str, _Claim]:
    claims: dict[str, _Claim] = {}
    for row, filename in enumerate(filenames):
        own = _path(filename)
        if own in listed:
            claims.setdefault(own, _Claim(own, [], [])).own.append(row)
        elif (video := video_of(filename)) is not None and (path := _path(video)) in listed:
            claims.setdefault(path, _Claim(path, [], [])).frames.append(row)
    return claims


def _path(filename: str) -> str:
    return f"{METADATA}{posixpath.splitext(filename)[0]}.json"


class _Column:
    """A column while it is filled; texts are kept once."""

    def __init__(self, entry: MetadataEntry, n: int) -> None:
        self.entry = entry
        self._numbers = np.full(n if entry.numeric else 0, entry.default if entry.numeric else 0.0)
        self._codes = np.zeros(0 if entry.numeric else n, np.int32)
        self._texts = {str(entry.default): 0}

    def set(self, rows: Sequence[int], value: float | str) -> None:
        if isinstance(value, str):
            self._codes[rows] = self._texts.setdefault(value, len(self._texts))
        else:
            self._numbers[rows] = value

    def build(self) -> NumericColumn | CategoricalColumn:
        if self.entry.numeric:
            return NumericColumn(self.entry, self._numbers)
        texts = list(self._texts)
        used = sorted(np.unique(self._codes).tolist(), key=texts.__getitem__)
        places = np.zeros(len(texts), np.int32)
        places[used] = np.arange(len(used), dtype=np.int32)
        return CategoricalColumn(
            self.entry, places[self._codes], tuple(texts[code] for code in used)
        )
