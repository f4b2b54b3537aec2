"""Annotation files that belong to nothing: a misspelt name would otherwise vanish unseen."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator, Mapping, Sequence

from lightly_fs.annotations.files import AnnotationFiles
from lightly_fs.annotations.metadata import METADATA, SCHEMA, Metadata
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.predictions import prediction_path
from lightly_fs.artifacts import EmbeddedTable
from lightly_fs.datasource.reader import Buffer
from lightly_fs.pipeline.context import RunContext
from lightly_fs.types import Failure, frame_name, frame_of

logger = logging.getLogger(__name__)

_EXTENSION = ".json"


class ListedOnce:
    """Annotation files of which each folder is listed once: that costs requests."""

    def __init__(self, files: AnnotationFiles) -> None:
        self._files = files
        self._listed: dict[str, Sequence[str]] = {}

    def list(self, prefix: str) -> Sequence[str]:
        """Return the paths that start with `prefix`, as they were when first asked for."""
        if prefix not in self._listed:
            self._listed[prefix] = self._files.list(prefix)
        return self._listed[prefix]

    def read(self, paths: Sequence[str]) -> Iterator[Buffer | Failure]:
        """Yield the files' bytes in their order."""
        return self._files.read(paths)


def tell_unmatched(
    this: RunContext,
    table: EmbeddedTable,
    files: AnnotationFiles,
    metadata: Metadata | None,
    predictions: Mapping[str, Predictions],
) -> None:
    """Log, by task, how many files name nothing that was listed, and the first of them.

    A file of a duplicate, of a corrupt image, of a frame that was not taken, or of a file that the
    datapool knows already names something. Of videos that the run did not decode nobody knows how
    many frames they have: there any frame will do.
    """
    folders = {
        f"prediction files of `{task}`": prediction_path(task, "")[: -len(_EXTENSION)]
        for task, found in predictions.items()
        if found.unmatched
    }
    if metadata is not None and metadata.unmatched:
        folders["metadata files"] = METADATA
    # Whoever names the relevant files leaves others out on purpose, and their annotations stay.
    level = logging.INFO if this.config.relevant_filenames_file else logging.WARNING
    for what, folder in folders.items():
        paths = [
            path for path in files.list(folder) if path not in (SCHEMA, f"{folder}schema.json")
        ]
        unknown = _unknown({path[len(folder) : -len(_EXTENSION)] for path in paths}, this, table)
        # A file of another kind has no sample, whatever it is called.
        lost = [p for p in paths if p[len(folder) : -len(_EXTENSION)] in unknown or _other(p)]
        if lost:
            logger.log(
                level,
                "%s of %s %s %s no image or frame of this run, the first is `%s`",
                f"{len(lost):,}",
                f"{len(paths):,}",
                what,
                "names" if len(lost) == 1 else "name",
                min(lost),
            )


def _other(path: str) -> bool:
    return not path.endswith(_EXTENSION)


def _unknown(stems: set[str], this: RunContext, table: EmbeddedTable) -> set[str]:
    """Return those of some names, without extension, that are nobody's."""
    listed = this.inventory if this.pool is None else this.pool.listed
    claimed = {stem: frame_of(f"{stem}.png") for stem in stems}
    wanted = {found[0] for found in claimed.values() if found is not None}
    videos: set[str] = set()
    unknown = set(stems)
    for batch in listed.table["filename"].chunks:
        for name in batch.to_pylist():
            unknown.discard(posixpath.splitext(name)[0])
            if name in wanted:
                videos.add(name)
    counts = {video.filename: video.n_frames for video in table.videos}
    return {stem for stem in unknown if not _is_frame(stem, claimed[stem], videos, counts)}


def _is_frame(
    stem: str, found: tuple[str, int] | None, videos: set[str], counts: Mapping[str, int]
) -> bool:
    if found is None or found[0] not in videos:
        return False
    video, index = found
    n_frames = counts.get(video)
    if n_frames is None:
        return True
    return index < n_frames and frame_name(video, index, n_frames) == f"{stem}.png"
