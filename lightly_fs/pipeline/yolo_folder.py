"""A folder of YOLO labels: where the text files and the names of the classes are."""

from __future__ import annotations

import io
import posixpath
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from lightly_fs.annotations.class_names import listed_names, yaml_names
from lightly_fs.annotations.files import InvalidFile, SourceFiles
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.sample_names import SampleNames, misnumbered
from lightly_fs.annotations.yolo import exported_label_path, import_yolo, yolo_label_path
from lightly_fs.config import RunConfig
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.datasource.source import Source
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure, Frame, Sample, frame_of

_ORIENTATION = 0x0112
_CLASSES = "classes.txt"
_BROKEN = (
    *(UnidentifiedImageError, Image.DecompressionBombError, OSError, EOFError, SyntaxError),
    *(ValueError, LookupError, OverflowError, struct.error),
)
"""What Pillow says of images that are none, or too large."""


def _beside(name: str) -> str:
    return f"{posixpath.splitext(name)[0]}.txt"


_SCHEMES: tuple[Callable[[str], str], ...] = (
    yolo_label_path,
    exported_label_path,
    _beside,
)
"""Where the labels of an image may lie; that which finds most of them counts."""


class YoloFolder:
    """Finds the labels of samples in a folder, or beside a `data.yaml`."""

    def __init__(self, path: Path, samples: SampleNames, *, below: str) -> None:
        """List the folder.

        Args:
            path: The folder, or its YAML file with the names of the classes.
            samples: What labels may be of.
            below: Folder of the samples that the label files' names are relative to.

        Raises:
            DatasourceError: The names of the classes are not there, or no label is a sample's.
        """
        self._root = (path if path.is_dir() else path.parent).absolute()
        self._categories = _categories(path)
        self._reader = DirectoryReader(self._root)
        self._files = SourceFiles(Source(str(self._root), self._root), self._reader)
        texts = {name for name in self._files.list("") if name.endswith(".txt")}
        folder = str(PurePosixPath(below.strip("/")))
        start = "" if folder == "." else f"{folder}/"
        frames = samples.frames(start + name for text in texts for name in _sources(text))
        filenames = list(dict.fromkeys([*samples.images, *frames]))
        names = [name for name in filenames if name.startswith(start)]
        self._start = start
        placed = [{_path(scheme, name, start): name for name in names} for scheme in _SCHEMES]
        best = max(placed, key=lambda one: len(one.keys() & texts))
        self._scheme = _SCHEMES[placed.index(best)]
        self._named = {best[one] for one in best.keys() & texts}
        folders = {posixpath.dirname(one) for one in best}
        self._others = sorted(
            one
            for one in texts - best.keys()
            if posixpath.dirname(one) in folders and posixpath.basename(one) != _CLASSES
        )
        if not self._named:
            self.close()
            raise _no_labels(path, filenames)

    def close(self) -> None:
        self._reader.close()

    def others(self) -> list[str]:
        """Return the label files that are no image's, of those in folders of labels."""
        return self._others

    def predictions(
        self, inventory: Inventory, reader: Reader, *, task: str, masks: bool
    ) -> Predictions:
        """Return the labels; the images and videos that have some are read for their sizes.

        Args:
            inventory: Of the input.
            reader: Of the same.
            task: Name of the task.
            masks: Read masks, else boxes.
        """
        names, sizes, invalid = _sizes(inventory, self._named, reader)
        try:
            found = import_yolo(
                self._files,
                names,
                np.array(sizes, np.int64).reshape(-1, 2),
                task=task,
                categories=self._categories,
                path_of=lambda name: _path(self._scheme, name, self._start),
                masks=masks,
            )
        except NothingValidError as error:
            raise NothingValidError([*invalid, *error.invalid]) from error
        return replace(found, invalid=(*invalid, *found.invalid))


def _path(scheme: Callable[[str], str], name: str, start: str) -> str:
    return scheme(name.removeprefix(start))


def _sources(text: str) -> Iterator[str]:
    """Yield the names that a text file may be the labels of, by one scheme or another."""
    parts = PurePosixPath(text).with_suffix(".png").parts
    for place in (None, *(place for place, part in enumerate(parts) if part == "labels")):
        named = [*parts]
        if place is not None:
            named[place] = "images"
        yield "/".join(named)
        if named[0] == "images":
            yield "/".join(named[1:])


def _no_labels(path: Path, filenames: Sequence[str]) -> DatasourceError:
    if not filenames:
        return DatasourceError(
            f"{path} has labels of no frame of the input's videos, and there are no images",
            hint="name them like the frames: labels/v-007-mp4.txt for frame 7 of v.mp4",
        )
    looked = dict.fromkeys(f"`{scheme(filenames[0])}`" for scheme in _SCHEMES)
    return DatasourceError(
        f"{path} has labels of none of the {len(filenames)} images: those of "
        f"`{filenames[0]}` would be {' or '.join(looked)}",
        hint="--below FOLDER says which folder of the input its names are relative to",
    )


_Sizes = tuple[list[str], list[tuple[int, int]], list[InvalidFile]]
"""Names, the width and height of each, and what has none."""


def _sizes(inventory: Inventory, named: Collection[str], reader: Reader) -> _Sizes:
    listed = [one for one in inventory.samples() if one.filename in named]
    names, sizes, invalid = _image_sizes(listed, reader)
    frames = sorted(set(named) - {one.filename for one in listed})
    wrong = misnumbered(frames)
    invalid += [InvalidFile(name, why) for name, why in wrong.items()]
    by_video: dict[str, list[str]] = {}
    for name in frames:
        frame = frame_of(name)
        if frame is not None and name not in wrong:
            by_video.setdefault(frame[0], []).append(name)
    videos = [one for one in inventory.samples() if one.filename in by_video]
    for video, size in zip(videos, _video_sizes(videos, reader), strict=True):
        if isinstance(size, Failure):
            invalid.append(InvalidFile(video.filename, size.reason))
        else:
            names += by_video[video.filename]
            sizes += [size] * len(by_video[video.filename])
    if invalid and not names:
        raise NothingValidError(invalid, "not one of the labelled images can be read")
    return names, sizes, invalid


def _video_sizes(videos: Sequence[Sample], reader: Reader) -> Iterator[tuple[int, int] | Failure]:
    """Yield width and height of the first frame, the right way up."""
    if not videos:
        return
    from lightly_fs.decoding.video_frames import FrameExtractor

    with closing(FrameExtractor(reader.open, RunConfig().max_image_pixels)) as extractor:
        for video in videos:
            pixels = extractor.read(video, Frame(video.filename, 0, None, None))
            if isinstance(pixels, Failure):
                yield pixels
            else:
                height, width = pixels.shape[:2]
                yield width, height


def _image_sizes(samples: Sequence[Sample], reader: Reader) -> _Sizes:
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    invalid: list[InvalidFile] = []
    for sample, data in zip(samples, reader.stream(samples), strict=True):
        try:
            sizes.append(_size(data))
            names.append(sample.filename)
        except _NoSizeError as error:
            invalid.append(InvalidFile(sample.filename, str(error)))
    return names, sizes, invalid


class _NoSizeError(ValueError):
    pass


def _size(data: Buffer | Failure) -> tuple[int, int]:
    """Return width and height as the image is shown, after EXIF orientation."""
    if isinstance(data, Failure):
        raise _NoSizeError(data.reason)
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except _BROKEN as error:
        raise _NoSizeError(f"its size cannot be read: {error}") from error


def _categories(path: Path) -> list[str]:
    """Return the names of the classes in the order of their numbers."""
    if path.is_dir():
        texts = path / _CLASSES
        if texts.is_file() and not (path / "data.yaml").is_file():
            return listed_names(texts)
        candidates = [path / "data.yaml", *sorted([*path.glob("*.yaml"), *path.glob("*.yml")])]
    else:
        candidates = [path]
    for one in candidates:
        names = yaml_names(one) if one.is_file() else None
        if names is not None:
            return names
    raise DatasourceError(
        f"`{path}` has no file that names the classes",
        hint="give the YAML file with `names:` (data.yaml), or put classes.txt beside the labels",
    )
