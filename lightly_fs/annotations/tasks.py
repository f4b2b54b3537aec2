"""Which prediction tasks a bucket has: `tasks.json`, and what each predicts: `schema.json`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from lightly_fs.annotations.files import FOLDER, AnnotationFiles
from lightly_fs.annotations.reading import read_one
from lightly_fs.errors import DatasourceError

PREDICTIONS = FOLDER + "predictions/"
TASKS = PREDICTIONS + "tasks.json"


class TaskType(StrEnum):
    CLASSIFICATION = "classification"
    OBJECT_DETECTION = "object-detection"
    SEMANTIC_SEGMENTATION = "semantic-segmentation"
    INSTANCE_SEGMENTATION = "instance-segmentation"
    KEYPOINT_DETECTION = "keypoint-detection"


MASKED = frozenset({TaskType.SEMANTIC_SEGMENTATION, TaskType.INSTANCE_SEGMENTATION})
"""Their objects have masks."""


@dataclass(frozen=True, slots=True)
class Category:
    """One class of a task.

    Attributes:
        keypoint_names: Of a keypoint task, in the order of the keypoints; empty when not given.
        skeleton: Pairs of keypoints to join by a line, counted from 1; empty when not given.
    """

    id: int
    name: str
    keypoint_names: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskSchema:
    """What a task predicts.

    Attributes:
        categories: By ascending id, the order of every class vector; ids may have gaps.
    """

    name: str
    task_type: TaskType
    categories: tuple[Category, ...]

    @property
    def category_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)


_Text = Annotated[str, Meta(min_length=1)]
_Number = Annotated[int, Meta(ge=1)]


class _Category(Struct):
    id: Annotated[int, Meta(ge=0, lt=2**53)]
    name: _Text
    keypoint_names: list[_Text] | None = None
    keypointNames: list[_Text] | None = None  # noqa: N815 - as the platform's API spells it
    keypoints: list[_Text] | None = None
    skeleton: list[tuple[_Number, _Number]] | None = None


class _Schema(Struct):
    task_type: TaskType
    categories: Annotated[list[_Category], Meta(min_length=1)]


_TASKS = msgspec.json.Decoder(list[str])
_SCHEMA = msgspec.json.Decoder(_Schema)
# As the platform's API restricts them, and nothing that leads out of the folder.
_TASK_NAME = re.compile(r"(?!.*(^|/)\.{0,2}(/|$))[a-zA-Z0-9_+=,.@:/-]+")
_FIXES = {
    "$": "write an object with `task_type` and `categories`",
    "task_type": "write one of " + ", ".join(TaskType),
    "categories": 'write a list like [{"id": 0, "name": "car"}]',
    "id": "write a whole number from 0, the `category_id` of predictions",
    "name": "write the category's name",
    "skeleton": "write pairs of numbers of keypoints, counted from 1",
}


def read_tasks(files: AnnotationFiles) -> Sequence[str]:
    """Return the names in `tasks.json`; only these tasks are read.

    Raises:
        DatasourceError: There is no such file, or it is invalid.
    """
    fix = {"$": 'write a list of task names like ["my_detector"]'}
    names = read_one(files, TASKS, _TASKS, fix)
    if names is None:
        raise DatasourceError(
            f"{TASKS} is not there, so the bucket has no prediction tasks",
            hint='Write the names of the folders beside it as a list, like ["my_detector"].',
        )
    for index, name in enumerate(names):
        if not _TASK_NAME.fullmatch(name):
            raise DatasourceError(
                f"{TASKS} is invalid: $[{index}]: {name!r} cannot be a task's folder; "
                "use letters, digits and _ - + = , . @ : /"
            )
    return list(dict.fromkeys(names))


def read_schema(files: AnnotationFiles, task: str) -> TaskSchema:
    """Return what a task predicts.

    Raises:
        DatasourceError: The task is not listed, or its `schema.json` is missing or invalid.
    """
    tasks = read_tasks(files)
    if task not in tasks:
        raise DatasourceError(
            f"{TASKS} does not list the task `{task}`, only {_shown(tasks)}",
            hint=f"Add it to {TASKS}, or use one of these.",
        )
    path = f"{PREDICTIONS}{task}/schema.json"
    schema = read_one(files, path, _SCHEMA, _FIXES)
    if schema is None:
        raise DatasourceError(
            f"{path} is not there, but {TASKS} lists the task `{task}`",
            hint=f"Write the schema, or take `{task}` out of the list.",
        )
    _check_unique(path, schema.categories)
    _check_skeletons(path, schema.categories)
    ordered = sorted(schema.categories, key=lambda one: one.id)
    return TaskSchema(task, schema.task_type, tuple(map(_category, ordered)))


def missing_keypoint(names: Sequence[str], skeleton: Sequence[tuple[int, int]]) -> str | None:
    """Say which keypoint a skeleton joins that a category does not have, where it names them."""
    highest = max((number for pair in skeleton for number in pair), default=0)
    if names and highest > len(names):
        return f"keypoint {highest}, but the category names {len(names)}"
    return None


def _category(given: _Category) -> Category:
    return Category(given.id, given.name, tuple(_keypoints(given)), tuple(given.skeleton or ()))


def _keypoints(given: _Category) -> list[str]:
    return given.keypoint_names or given.keypointNames or given.keypoints or []


def _check_skeletons(path: str, categories: Sequence[_Category]) -> None:
    for index, one in enumerate(categories):
        if wrong := missing_keypoint(_keypoints(one), one.skeleton or ()):
            raise DatasourceError(
                f"{path} is invalid: $.categories[{index}].skeleton: {wrong}; {_FIXES['skeleton']}"
            )


def _check_unique(path: str, categories: Sequence[_Category]) -> None:
    seen: dict[int | str, int] = {}
    for index, one in enumerate(categories):
        for key, value in (("id", one.id), ("name", one.name)):
            first = seen.setdefault(value, index)
            if first != index:
                raise DatasourceError(
                    f"{path} is invalid: $.categories[{index}].{key}: {value!r} is that of "
                    f"$.categories[{first}] too; give each category its own"
                )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none at all"
