"""COCO files: every entry is read on its own, and one that is broken is left out and listed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from lightly_fs.annotations import polygons, rle
from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.labels import NO_CLASSES, Labels, NothingValidError
from lightly_fs.annotations.objects import LABEL_SCORE, PredictedObject
from lightly_fs.annotations.reading import InvalidContentError, decode, explained
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType, missing_keypoint
from lightly_fs.errors import DatasourceError

T = TypeVar("T")

_MOST_PIXELS = 1 << 28
"""Of a mask: its run lengths are turned from columns to rows with a byte for each."""

# Beyond 10 million pixels a corner is a mistake, and Pillow overflows.
_Place = Annotated[float, Meta(ge=-1e7, le=1e7)]
_Length = Annotated[float, Meta(ge=0, le=1e7)]
_Text = Annotated[str, Meta(min_length=1)]
_Number = Annotated[int, Meta(ge=1)]
_Id = int | str


class _Content(Struct):
    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]


class _Parsed(Struct):
    """The same, as Python's json module reads it."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]


class _Image(Struct, gc=False):
    id: _Id
    file_name: _Text
    width: _Length | None = None
    height: _Length | None = None


class _Category(Struct, gc=False):
    id: Annotated[int, Meta(ge=0, lt=2**53)]
    name: _Text


class _PointCategory(_Category, gc=False):
    keypoints: list[_Text] = []
    skeleton: list[tuple[_Number, _Number]] = []


class _Owner(Struct, gc=False):
    image_id: _Id


class _Boxed(Struct, gc=False):
    image_id: _Id
    category_id: _Id
    bbox: tuple[_Place, _Place, _Length, _Length]
    score: Annotated[float, Meta(ge=0, le=1)] = LABEL_SCORE


class _Runs(Struct, gc=False):
    size: tuple[int, int]
    counts: list[Annotated[int, Meta(ge=0, lt=2**40)]] | str


class _Masked(Struct, gc=False):
    image_id: _Id
    category_id: _Id
    segmentation: list[list[_Place]] | _Runs
    bbox: tuple[_Place, _Place, _Length, _Length] | None = None
    score: Annotated[float, Meta(ge=0, le=1)] = LABEL_SCORE


class _Pointed(Struct, gc=False):
    image_id: _Id
    category_id: _Id
    keypoints: Annotated[list[_Place], Meta(min_length=3)]
    bbox: tuple[_Place, _Place, _Length, _Length] | None = None
    score: Annotated[float, Meta(ge=0, le=1)] = LABEL_SCORE


_CONTENT = msgspec.json.Decoder(_Content)
_IMAGE = msgspec.json.Decoder(_Image)
_CATEGORIES: dict[bool, msgspec.json.Decoder[Any]] = {
    False: msgspec.json.Decoder(_Category),
    True: msgspec.json.Decoder(_PointCategory),
}
"""By whether they name keypoints."""
_OWNER = msgspec.json.Decoder(_Owner)
_ANNOTATIONS: dict[TaskType, msgspec.json.Decoder[Any]] = {
    TaskType.OBJECT_DETECTION: msgspec.json.Decoder(_Boxed),
    TaskType.INSTANCE_SEGMENTATION: msgspec.json.Decoder(_Masked),
    TaskType.KEYPOINT_DETECTION: msgspec.json.Decoder(_Pointed),
}
_FIXES = {
    "$": "write `images`, `annotations` and `categories`, each a list",
    "images": "write an object with `id` and `file_name`",
    "annotations": "write an object with `image_id`, `category_id` and `bbox`, `segmentation` or "
    "`keypoints`",
    "categories": "write an object with `id` and `name`",
    "id": "give it an id of its own, for a category a whole number from 0",
    "file_name": "write the image's path below the input, or below the folder of `--below`",
    "name": "write the category's name",
    "image_id": "write the id of one of `images`",
    "category_id": "write the id of one of `categories`",
    "bbox": "write [x, y, width, height] in pixels",
    "score": "write the confidence, 0 to 1, or leave it out",
    "segmentation": "write polygons [[x, y, x, y, …]], or run lengths column by column",
    "counts": "write run lengths, column by column, starting with the zeros",
    "keypoints": "write x, y, visibility of every keypoint that the category names, one after the "
    "other",
    "skeleton": "write pairs of numbers of keypoints, counted from 1",
}


def read_coco(
    path: Path, *, task: str, below: str = "", kind: TaskType = TaskType.OBJECT_DETECTION
) -> Labels:
    """Read the boxes of a COCO file, its masks (polygons or run lengths), or its keypoints.

    An image whose annotations are all broken has no labels; one without an annotation has none to
    find, which is a label too.

    Args:
        path: The file, on a local disk.
        task: Name of the task.
        below: Folder of the samples that the file's names are relative to.
        kind: Detection reads `bbox`, instance segmentation `segmentation`, and keypoint detection
            `keypoints`.

    Raises:
        NothingValidError: There are entries, but none that can be used.
        DatasourceError: It cannot be read, or is no COCO file.
    """
    try:
        content = _parsed(path.read_bytes())
    except OSError as error:
        raise DatasourceError(
            f"{path} cannot be read: {error.strerror}", hint="give the JSON file"
        ) from error
    except InvalidContentError as error:
        raise DatasourceError(f"{path} is no COCO file: {error}") from error
    reading = _Reading(str(path), below, kind)
    categories = reading.categories(content.categories)
    reading.images(content.images)
    labels = reading.annotations(content.annotations, categories)
    if reading.invalid and not any(labels.values()) and (content.annotations or not labels):
        raise NothingValidError(reading.invalid)
    if not any(labels.values()):
        kind = TaskType.OBJECT_DETECTION
    schema = TaskSchema(task, kind, tuple(categories) or NO_CLASSES)
    return Labels(schema, labels, str(path), reading.invalid)


def _parsed(data: bytes) -> _Content | _Parsed:
    try:
        return decode(_CONTENT, data, _FIXES)
    except InvalidContentError as error:
        if isinstance(error.__cause__, msgspec.ValidationError):
            raise
        # Python's json module writes NaN, which is no JSON: the entry that has it is left out.
        try:
            tree = json.loads(data, parse_constant=str)
        except (ValueError, RecursionError):
            raise error from None
    try:
        return msgspec.convert(tree, _Parsed)
    except msgspec.ValidationError as error:
        raise explained(error, _FIXES) from error


def _entry(given: object, decoder: msgspec.json.Decoder[T], at: str) -> T:
    if isinstance(given, Raw):
        return decode(decoder, given, _FIXES, at=at)
    try:
        return msgspec.convert(given, decoder.type)
    except msgspec.ValidationError as error:
        raise explained(error, _FIXES, at=at) from error


class _Places:
    """The categories' places by their ids, and how many keypoints each names."""

    def __init__(self, categories: Sequence[Category]) -> None:
        self.of: Mapping[_Id, int] = {one.id: place for place, one in enumerate(categories)}
        self.n_points = [len(one.keypoint_names) for one in categories]


@dataclass
class _Reading:
    """What of a file can be used, and what was left out."""

    path: str
    below: str
    kind: TaskType
    invalid: list[InvalidFile] = field(default_factory=list)
    _images: dict[_Id, _Image] = field(default_factory=dict)
    _names: dict[_Id, str] = field(default_factory=dict)

    def categories(self, given: Sequence[object]) -> list[Category]:
        """Return the categories by ascending id."""
        found: dict[int, Category] = {}
        names: set[str] = set()
        decoder = _CATEGORIES[self.kind is TaskType.KEYPOINT_DETECTION]
        for at, one in self._entries(given, decoder, "$.categories"):
            if one.id in found or one.name in names:
                shared = "id" if one.id in found else "name"
                self._leave_out(f"{at}.{shared}", f"{getattr(one, shared)!r:.80} is there already")
            else:
                try:
                    found[one.id] = _category(one, at)
                except InvalidContentError as error:
                    self.invalid.append(InvalidFile(self.path, str(error)))
                else:
                    names.add(one.name)
        return [found[number] for number in sorted(found)]

    def images(self, given: Sequence[object]) -> None:
        for at, one in self._entries(given, _IMAGE, "$.images"):
            if one.id in self._images:
                self._leave_out(f"{at}.id", f"{one.id!r:.80} is that of another image")
            else:
                self._images[one.id] = one
                self._names[one.id] = str(PurePosixPath(self.below, one.file_name))

    def annotations(
        self, given: Sequence[object], categories: Sequence[Category]
    ) -> dict[str, list[PredictedObject]]:
        """Return the objects by the name of their image."""
        found: dict[str, list[PredictedObject]] = {name: [] for name in self._names.values()}
        decoder, places = _ANNOTATIONS[self.kind], _Places(categories)
        broken: set[str] = set()
        for index, entry in enumerate(given):
            try:
                # The common case without a detour: there may be millions of them.
                one = decoder.decode(entry) if isinstance(entry, Raw) else _convert(entry, decoder)
                name, place = self._names[one.image_id], places.of[one.category_id]
                found[name].append(self._object(one, place, places))
            except (msgspec.MsgspecError, KeyError, ValueError, RecursionError):
                broken.update(self._explain(entry, decoder, f"$.annotations[{index}]", places))
        for name in broken:
            if not found[name]:
                del found[name]
        return found

    def _object(self, one: Any, place: int, places: _Places) -> PredictedObject:  # noqa: ANN401
        if self.kind is TaskType.INSTANCE_SEGMENTATION:
            return self._masked(one, place)
        if self.kind is TaskType.KEYPOINT_DETECTION:
            return _pointed(one, place, places.n_points[place])
        return PredictedObject(place, one.score, one.bbox)

    def _explain(
        self, entry: object, decoder: msgspec.json.Decoder[Any], at: str, places: _Places
    ) -> Iterator[str]:
        """List a broken annotation, and yield the image that it is of, if that is clear."""
        try:
            owner = self._names.get(_entry(entry, _OWNER, at).image_id)
        except InvalidContentError:
            owner = None
        if owner is not None:
            yield owner
        try:
            one = _entry(entry, decoder, at)
        except InvalidContentError as error:
            self.invalid.append(InvalidFile(self.path, str(error)))
            return
        if owner is None:
            self._leave_out(f"{at}.image_id", f"{one.image_id!r:.80} is none of `images`")
        elif one.category_id not in places.of:
            self._leave_out(f"{at}.category_id", f"{one.category_id!r:.80} is none of `categories`")
        else:
            try:
                self._object(one, places.of[one.category_id], places)
            except ValueError as error:
                masked = self.kind is TaskType.INSTANCE_SEGMENTATION
                self._leave_out(f"{at}.{'segmentation' if masked else 'keypoints'}", str(error))

    def _entries(
        self, given: Sequence[object], decoder: msgspec.json.Decoder[T], at: str
    ) -> Iterator[tuple[str, T]]:
        for index, entry in enumerate(given):
            place = f"{at}[{index}]"
            try:
                yield place, _entry(entry, decoder, place)
            except InvalidContentError as error:
                self.invalid.append(InvalidFile(self.path, str(error)))

    def _leave_out(self, place: str, wrong: str) -> None:
        reason = str(InvalidContentError(place, wrong, _FIXES[place.rpartition(".")[2]]))
        self.invalid.append(InvalidFile(self.path, reason))

    def _masked(self, one: _Masked, place: int) -> PredictedObject:
        image = self._images[one.image_id]
        height, width = int(image.height or 0), int(image.width or 0)
        if not 0 < height * width <= _MOST_PIXELS:
            raise ValueError(
                f"a mask of {width} x {height} pixels, the size that `images` gives; at least 1 "
                f"and at most {_MOST_PIXELS:,} are drawn"
            )
        if isinstance(one.segmentation, _Runs):
            counts = _row_by_row(one.segmentation, height, width)
        else:
            counts = polygons.draw(one.segmentation, height, width)
        box = one.bbox or rle.bounding_box(counts, width)
        return PredictedObject(place, one.score, box, mask=counts)


def _category(given: _Category, at: str) -> Category:
    if isinstance(given, _PointCategory):
        names = given.keypoints
        if twice := next((name for name, n in Counter(names).items() if n > 1), None):
            fix = "give each keypoint a name of its own"
            raise InvalidContentError(f"{at}.keypoints", f"{twice!r:.80} is there twice", fix)
        if wrong := missing_keypoint(names, given.skeleton):
            raise InvalidContentError(f"{at}.skeleton", wrong, _FIXES["skeleton"])
        return Category(given.id, given.name, tuple(given.keypoints), tuple(given.skeleton))
    return Category(given.id, given.name)


def _convert(entry: object, decoder: msgspec.json.Decoder[Any]) -> Any:  # noqa: ANN401
    return msgspec.convert(entry, decoder.type)


def _pointed(one: _Pointed, place: int, n_named: int) -> PredictedObject:
    values = one.keypoints
    if len(values) % 3:
        raise ValueError(f"{len(values)} numbers, not three for each keypoint")
    if n_named and len(values) != 3 * n_named:
        raise ValueError(f"{len(values) // 3} keypoints, but the category names {n_named}")
    if (least := min(values[2::3])) < 0:
        raise ValueError(f"a visibility of {least:g}")
    return PredictedObject(place, one.score, one.bbox, keypoints=values)


def _row_by_row(runs: _Runs, height: int, width: int) -> list[int]:
    """Return COCO's run lengths, which go down the columns, as ours.

    Raises:
        ValueError: They are not those of a mask of this size.
    """
    if runs.size != (height, width):
        raise ValueError(f"run lengths of size {list(runs.size)}, not [{height}, {width}]")
    counts = runs.counts
    if isinstance(counts, str):
        try:
            counts = rle.decompress(counts)
        except ValueError as error:
            raise ValueError(f"its compressed run lengths are broken: {error}") from error
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels, not {height * width}")
    turned: list[int] = rle.transposed(counts, width, height).tolist()
    return turned
