"""Labels of other tools, written as a prediction task to the input's `.lightly/` folder."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lightly_fs.annotations.export import lightly
from lightly_fs.annotations.exported import selected
from lightly_fs.annotations.files import InvalidFile, SourceFiles
from lightly_fs.annotations.importing import read_labels
from lightly_fs.annotations.in_memory import FilesInMemory
from lightly_fs.annotations.label_studio import read_label_studio
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.annotations.sample_names import SampleNames
from lightly_fs.annotations.tasks import PREDICTIONS, TASKS, read_tasks
from lightly_fs.config import S3Config
from lightly_fs.config.selection import PRETAGGING_TASK
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.inventory import Inventory, freeze
from lightly_fs.datasource.output import Output
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.reader import Reader
from lightly_fs.datasource.source import Source
from lightly_fs.datasource.unmounted import open_images
from lightly_fs.errors import ConfigError, DatasourceError
from lightly_fs.pipeline.publishing import open_target, tasks_there, write_files
from lightly_fs.pipeline.yolo_folder import YoloFolder


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """Which labels to import, and where to.

    Attributes:
        format: A format of `annotations.importing`, `label-studio`, `yolo` or `yolo-masks`.
        path: The labels, on a local disk.
        task: Name of the task.
        input_dir: The images: a directory, mounted or not, or `s3://…`.
        out: Where `.lightly/` is written, likewise; "" is the input.
        below: Folder of the input that the names of images are relative to.
        predicted: Label Studio: read what models predicted, not what people drew.
        replace: The task may be there already, and is then replaced.
        s3: How buckets are reached.
    """

    format: str
    path: Path
    task: str
    input_dir: str
    out: str = ""
    below: str = ""
    predicted: bool = False
    replace: bool = False
    s3: S3Config = field(default_factory=S3Config)


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        place: The folder of the task.
        n_images: Of the input.
        n_labelled: Of them, and of the frames of videos, with labels, maybe without an object.
        n_frames: Of those that are frames.
        others: Names in the labels that are no image's, and no frame's of a video.
        invalid: What was left out: the file, and the place in it with the reason.
    """

    place: str
    task: str
    n_images: int
    n_labelled: int
    n_frames: int
    n_objects: int
    n_categories: int
    others: Sequence[str]
    invalid: Sequence[InvalidFile]

    def as_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "task": self.task,
            "images": self.n_images,
            "labelled": self.n_labelled,
            "frames": self.n_frames,
            "objects": self.n_objects,
            "categories": self.n_categories,
            "labels_without_image": list(self.others),
            "invalid": [{"path": one.path, "reason": one.reason} for one in self.invalid],
        }


@dataclass(frozen=True)
class _Read:
    """Labels of samples; what is left is as in `Imported`.

    Attributes:
        images: The input's.
    """

    predictions: Predictions
    images: Sequence[str]
    others: Sequence[str]
    invalid: Sequence[InvalidFile] = ()


def import_task(request: ImportRequest, environ: Mapping[str, str]) -> Imported:
    """Write labels as a prediction task: first its files, then its name into `tasks.json`.

    Raises:
        NothingValidError: Not one of the labels can be used.
        DatasourceError: The labels cannot be read, or are about none of the images.
        ConfigError: The task is there already and `replace` was not asked for, or its name cannot
            be a folder's.
    """
    if not request.path.exists():
        raise DatasourceError(f"`{request.path}` is not there", hint="give a local file or folder")
    with ExitStack() as stack:
        staging = stack.enter_context(private_directory("labels"))
        # Those who have labels already have to be told before anything is read.
        place = request.out or request.input_dir
        name = "--out" if request.out else "input_dir"
        try:
            output = stack.enter_context(open_target(place, request.s3, environ, name))
        except DatasourceError as error:
            error.add_note("--out DIR writes `.lightly/` to another place")
            raise
        listed = _check_task(output, request)
        old = _old_files(output, request, listed=listed)
        source, reader = stack.enter_context(open_images(request.input_dir, request.s3, environ))
        inventory = freeze(source, output=None)
        read = _read(request, inventory, reader)
        contents, kept = _checked(read.predictions, request.task)
        stale = old - contents.keys()
        if stale and not request.replace:
            raise _there(output, request.task, old)
        write_files(output, contents.items(), staging, replace=request.replace)
        for name in stale:
            output.delete(name)
        where = output.uri if place.startswith("s3://") else str(output.root)
    n_labelled = int(kept.predicted.sum())
    return Imported(
        place=f"{where.rstrip('/')}/{PREDICTIONS}{request.task}",
        task=request.task,
        n_images=len(read.images),
        n_labelled=n_labelled,
        n_frames=n_labelled - len(set(read.images).intersection(_labelled(kept))),
        n_objects=len(kept.categories),
        n_categories=len(kept.schema.categories),
        others=read.others,
        invalid=(*read.invalid, *kept.invalid),
    )


def _check_task(output: Output, request: ImportRequest) -> bool:
    """Return whether the task is listed already; refuse a name that it cannot have."""
    task = request.task
    try:
        read_tasks(FilesInMemory({TASKS: json.dumps([task]).encode()}))
    except DatasourceError as error:
        raise ConfigError(
            f"{task!r} cannot be the name of a task",
            hint="use letters, digits and _ - + = , . @ : /",
        ) from error
    if task.partition("/")[0] in _RESERVED:
        raise ConfigError(
            f"{task!r} cannot be the name of a task: {_RESERVED[task.partition('/')[0]]}",
            hint="choose another name with --task",
        )
    listed = tasks_there(output)  # or the name could not be added in the end
    for other in listed:
        if f"{other}/".startswith(f"{task}/") != f"{task}/".startswith(f"{other}/"):
            raise ConfigError(
                f"the folders of the tasks `{task}` and `{other}` would lie in each other, "
                f"and `{other}` is there already",
                hint="choose another name with --task",
            )
    return task in listed


_RESERVED = {
    PRETAGGING_TASK: "runs with `pretagging` write that task",
    PurePosixPath(TASKS).name: "the list of tasks lies there",
}
"""First folders that no task may lie in."""


def _old_files(output: Output, request: ImportRequest, *, listed: bool) -> set[str]:
    """Return the files of the task that are there, if they may be replaced.

    Those of a task that is not listed are what an import left that did not come to its end.
    """
    folder = f"{PREDICTIONS}{request.task}"
    found = {f"{folder}/{name}" for name in output.names(folder)}
    if found and listed and not request.replace:
        raise _there(output, request.task, found)
    return found


def _there(output: Output, task: str, files: Collection[str]) -> ConfigError:
    return ConfigError(
        f"`{output.uri.rstrip('/')}/{PREDICTIONS}{task}` holds a task already "
        f"({len(files):,} files)",
        hint="--replace replaces it; or choose another name with --task",
    )


def _read(request: ImportRequest, inventory: Inventory, reader: Reader) -> _Read:
    samples = SampleNames(inventory.table["filename"].to_pylist())
    if request.format in _YOLO:
        with closing(YoloFolder(request.path, samples, below=request.below)) as folder:
            masks = _YOLO[request.format]
            found = folder.predictions(inventory, reader, task=request.task, masks=masks)
            return _Read(found, samples.images, folder.others(), found.invalid)
    if request.format == "label-studio":
        parent = request.path.absolute().parent
        with closing(DirectoryReader(parent)) as local:
            files = SourceFiles(Source(str(parent), parent), local)
            labels = read_label_studio(
                files,
                request.path.name,
                samples,
                task=request.task,
                what="predictions" if request.predicted else "annotations",
            )
    else:
        labels = read_labels(request.format, request.path, task=request.task, below=request.below)
    labels = labels.matched(samples)
    names = list(dict.fromkeys([*samples.images, *samples.frames(labels.objects)]))
    return _Read(labels.of(names), samples.images, labels.others(names), labels.invalid)


_YOLO = {"yolo": False, "yolo-masks": True}
"""Whether the polygons become masks."""


def _labelled(predictions: Predictions) -> list[str]:
    return [predictions.filenames[row] for row in np.flatnonzero(predictions.predicted).tolist()]


def _checked(predictions: Predictions, task: str) -> tuple[dict[str, bytes], Predictions]:
    """Return the files to write, and what a run will read from them.

    Files that no run could read are left out; they are the `invalid` ones.
    """
    rows = np.flatnonzero(predictions.predicted).tolist()
    sizes = np.zeros((len(predictions), 2), np.int64)
    contents = dict(lightly(selected(predictions, rows, sizes)))
    names = [predictions.filenames[row] for row in rows]
    kept = read_predictions(FilesInMemory(contents), task, names)
    for one in kept.invalid:
        del contents[one.path]
    return contents, kept
