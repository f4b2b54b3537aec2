"""The selection of a finished run, written in the format of a labelling tool or training code."""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lightly_fs.annotations.exported import Export, ExportedImage, selected
from lightly_fs.annotations.files import SourceFiles
from lightly_fs.annotations.objects import Predictions
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.config import S3Config
from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.exclusion import lies_in
from lightly_fs.datasource.output import Written
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.read_urls import LONGEST, prefixed_url, read_urls
from lightly_fs.datasource.reader import Buffer, Reader
from lightly_fs.datasource.source import Source
from lightly_fs.datasource.unmounted import open_images, open_stored
from lightly_fs.errors import ConfigError, DatasourceError
from lightly_fs.pipeline.export_formats import FORMATS, Format, Material, Use
from lightly_fs.pipeline.finished import FinishedRun
from lightly_fs.pipeline.publishing import open_target, write_files
from lightly_fs.types import Failure, Sample

logger = logging.getLogger(__name__)

FOLDER = "exports"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        run: The run directory: a directory, mounted or not, or `s3://…`.
        format: One of `export_formats.FORMATS`.
        out: A directory or `s3://…`, or the file of a format that is one; "" is
            `exports/FORMAT` below the run.
        task: Prediction task whose objects are exported; "" for none.
        input_dir: Where the images are now; "" is where the run read them.
        predictions: Where the folder `.lightly/` lies; "" is in the input.
        read_urls: Sign read URLs for a format that can do without.
        expires: How long they hold.
        url_prefix: Instead of signed URLs: what goes before the quoted filename.
        replace: Write over other content.
        s3: How buckets are reached; what is not given is as in the run, or the environment.
    """

    run: str
    format: str
    out: str = ""
    task: str = ""
    input_dir: str = ""
    predictions: str = ""
    read_urls: bool = False
    expires: timedelta = LONGEST
    url_prefix: str = ""
    replace: bool = False
    s3: S3Config = field(default_factory=S3Config)

    @property
    def kind(self) -> Format:
        return FORMATS[self.format]

    @property
    def wants_urls(self) -> bool:
        return self.kind.urls is Use.MUST or self.read_urls or bool(self.url_prefix)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        place: The file, or the directory of the files.
        files: Names below the directory, sizes and hashes.
        n_images: Selected images.
        n_predicted: Those with predictions of the task.
        n_masks_left_out: Objects whose masks the format does not hold.
        urls_until: When the read URLs end; None when there are none that do.
    """

    place: str
    files: list[Written]
    n_images: int
    n_predicted: int
    n_masks_left_out: int
    urls_until: datetime | None

    def as_json(self) -> dict[str, Any]:
        until = self.urls_until
        return {
            "place": self.place,
            "images": self.n_images,
            "predicted": self.n_predicted,
            "masks_left_out": self.n_masks_left_out,
            "urls_until": None if until is None else until.isoformat(timespec="seconds"),
            "files": [
                {"name": one.name, "size": one.size, "sha256": one.sha256} for one in self.files
            ],
        }


def export_selection(request: ExportRequest, environ: Mapping[str, str]) -> Exported:
    """Write the selection of a finished run in another format.

    Raises:
        ConfigError: The format cannot hold what is asked for, or lacks what it needs.
        ArtifactError: The run is not finished, or other content is in the way.
        DatasourceError: The predictions or an image cannot be read.
    """
    signed = datetime.now(UTC)
    with ExitStack() as stack:
        staging = stack.enter_context(private_directory("export"))
        made = stack.enter_context(_material(request, staging, environ))
        folder, name = _split(request.out, request.kind)
        s3 = _joined(made.run.s3, request.s3)
        copied_from = made.source if folder and request.kind.images else None
        if not folder.startswith("s3://"):
            _check_outside(folder, copied_from, Path(folder))  # before anything is created there
        place, called = (folder, "--out") if folder else (made.run.uri, "the run directory")
        try:
            output = stack.enter_context(open_target(place, s3, environ, called))
        except DatasourceError as error:
            error.add_note("--out DIR exports to another place")
            raise
        if not folder:
            output = output.below(f"{FOLDER}/{request.format}")
        _check_outside(folder, copied_from, output.location)
        main = request.kind.main
        files = (
            (name or main if one == main else one, data) for one, data in request.kind.make(made)
        )
        written = write_files(output, files, staging, replace=request.replace)
        in_bucket = (folder or made.run.uri).startswith("s3://")
        place = output.uri if in_bucket else str(output.root)
    return Exported(
        place=posixpath.join(place, name or main) if main else place,
        files=written,
        n_images=len(made.export.images),
        n_predicted=sum(image.objects is not None for image in made.export.images),
        n_masks_left_out=_masks_left_out(made.export, request.format),
        urls_until=signed + request.expires if made.signs else None,
    )


def _check_outside(folder: str, source: Source | None, place: Path | Bucket) -> None:
    """Refuse a place in the input; `source` is None when no images are copied."""
    if source is not None and lies_in(source, place):
        raise ConfigError(
            f"`{folder}` lies in the input: images that are copied there are samples next time",
            hint="--out DIR, outside of the input",
        )


def exported_bytes(request: ExportRequest, environ: Mapping[str, str]) -> bytes:
    """Return the one file of a format that is one; nothing is written.

    Raises:
        ConfigError: The format is more than one file; else as `export_selection`.
    """
    if not request.kind.main:
        raise ConfigError(
            f"`{request.format}` is more than one file, which stdout cannot hold", hint="--out DIR"
        )
    with (
        private_directory("export") as staging,
        _material(request, staging, environ) as made,
    ):
        return next(data for name, data in request.kind.make(made) if name == request.kind.main)


@contextmanager
def _material(
    request: ExportRequest, staging: Path, environ: Mapping[str, str]
) -> Iterator[Material]:
    _check(request)
    with ExitStack() as stack:
        uri = request.run.removesuffix("/report.pdf").rstrip("/") or "/"
        stored = stack.enter_context(open_stored(uri, request.s3, environ))
        run = FinishedRun(uri, stored, staging)
        s3 = _joined(run.s3, request.s3)
        place = request.input_dir or run.input_dir
        signs = request.wants_urls and not request.url_prefix
        source, reader, written = None, None, None
        if signs and run.frames:
            _check_copies(run)
            written = stack.enter_context(open_images(run.uri, s3, environ))[0]
        if request.kind.images or (signs and len(run.frames) < len(run.selected)):
            source, reader = _opened(stack, place, s3, environ)
        predictions = None
        if request.task:
            labelled = _opened(stack, request.predictions or place, s3, environ)
            predictions = _predicted(run, SourceFiles(*labelled), request.task)
        urls = _urls(request, run, source, written)
        moved = bool(request.input_dir)

        def contents() -> Iterator[Buffer]:
            return iter(()) if reader is None else _contents(run, reader, moved=moved)

        export = _export(run, predictions, urls, sizes=request.kind.sizes)
        if n := _masks_left_out(export, request.format):
            logger.warning(
                "masks left out: %d, because `%s` holds none; these formats do: %s",
                *(n, request.format, ", ".join(one for one, kind in FORMATS.items() if kind.masks)),
            )
        yield Material(run, export, contents, source, signs)


def _check(request: ExportRequest) -> None:
    kind, name = request.kind, request.format
    if request.task and kind.task is Use.NEVER:
        holders = [one for one, other in FORMATS.items() if other.task is not Use.NEVER]
        raise ConfigError(
            f"`{name}` has no place for predictions", hint="these have: " + ", ".join(holders)
        )
    if not request.task and kind.task is Use.MUST:
        raise ConfigError(
            f"`{name}` holds predictions, and no task is named",
            hint="--task NAME, one of those in .lightly/predictions/tasks.json of the input",
        )
    if request.read_urls and request.url_prefix:
        raise ConfigError("URLs are signed or made with a prefix, not both", hint="keep one")
    if request.wants_urls and kind.urls is Use.NEVER:
        holders = [one for one, other in FORMATS.items() if other.urls is not Use.NEVER]
        raise ConfigError(
            f"`{name}` has no place for read URLs", hint="these have: " + ", ".join(holders)
        )


def _opened(
    stack: ExitStack, place: str, s3: S3Config, environ: Mapping[str, str]
) -> tuple[Source, Reader]:
    try:
        return stack.enter_context(open_images(place, s3, environ))
    except DatasourceError as error:
        error.add_note("--input-dir says where the images are now")
        raise


def _check_copies(run: FinishedRun) -> None:
    """Refuse to sign URLs of frames that are nowhere as images of their size."""
    lacking = next((name for name in run.frames if name not in run.copies), None)
    if lacking is None and not run.copies_are_scaled:
        return
    wrong = "the run wrote no image of it"
    if lacking is None:
        lacking, wrong = next(iter(run.frames)), "`output_image_size` has scaled its copy"
    raise ConfigError(
        f"no read URLs: `{lacking}` is a frame of a video, not a file, and {wrong}",
        hint="run with dump_dataset=True and no output_image_size: it writes the selected frames "
        "to data/sampled of its run directory; or --url-prefix URL, where they are served",
    )


def _urls(
    request: ExportRequest, run: FinishedRun, source: Source | None, written: Source | None
) -> Sequence[str | None]:
    """Return the address of each selected image; frames have that of their copy in the run."""
    filenames, frames = run.selected, run.frames
    if not request.wants_urls:
        return [None] * len(filenames)
    if request.url_prefix:
        return [prefixed_url(request.url_prefix, name) for name in filenames]
    images = _signed(source, [one for one in filenames if one not in frames], request, _NO_BUCKET)
    copies = [run.copies[one] for one in filenames if one in frames]
    of_frames = _signed(written, copies, request, _NO_BUCKET_OF_RUN)
    return [next(of_frames if one in frames else images) for one in filenames]


_NO_BUCKET = (
    "--input-dir s3://bucket/prefix names it; --url-prefix https://host/folder/ if another server "
    "shows these images"
)
_NO_BUCKET_OF_RUN = (
    "name the run as s3://bucket/prefix: its data/sampled holds the frames; --url-prefix "
    "https://host/folder/ if another server shows them"
)


def _signed(
    source: Source | None, names: Sequence[str], request: ExportRequest, hint: str
) -> Iterator[str]:
    if not names:
        return iter(())
    if source is None or source.bucket is None:
        where = "the input" if source is None else source.uri
        raise ConfigError(
            f"no read URLs: the bucket behind {where} is not known, or does not open directly",
            hint=hint,
        )
    return read_urls(source.bucket, names, expires=request.expires)


def _predicted(run: FinishedRun, files: SourceFiles, task: str) -> Predictions:
    """Read the predictions of the selected images: the first rows of the result."""
    # Those that share a file with a selected one (`a.jpg`, `a.png`) have to be told from it.
    chosen = set(run.selected)
    stems = {posixpath.splitext(name)[0] for name in chosen}
    alike = [
        name
        for name in run.inventory.table["filename"].to_pylist()
        if name not in chosen and posixpath.splitext(name)[0] in stems
    ]
    predictions = read_predictions(files, task, [*run.selected, *alike])
    if predictions.invalid:
        first = predictions.invalid[0]
        logger.warning(
            "%d files of predictions are invalid and left out, the first is %s: %s",
            *(len(predictions.invalid), first.path, first.reason),
        )
    return predictions


def _export(
    run: FinishedRun,
    predictions: Predictions | None,
    urls: Sequence[str | None],
    *,
    sizes: bool,
) -> Export:
    known = run.sizes if sizes else np.zeros((len(run.selected), 2), np.int64)
    if predictions is None:
        each = zip(run.selected, known.tolist(), urls, strict=True)
        return Export([ExportedImage(name, size[0], size[1], url) for name, size, url in each])
    by_name = dict(zip(run.selected, urls, strict=True))
    return selected(predictions, range(len(run.selected)), known, url_of=by_name.get)


def _masks_left_out(export: Export, name: str) -> int:
    if FORMATS[name].masks:
        return 0
    return sum(bool(one.mask) for image in export.images for one in image.objects or ())


def _contents(run: FinishedRun, reader: Reader, *, moved: bool) -> Iterator[Buffer]:
    """Yield the bytes of the selected images, which must be those that the run saw.

    A frame comes as PNG. It is that frame of the same video: of one that has moved nobody knows.
    """

    def known(sample: Sample) -> Sample:
        # Another copy has other times and ETags; of images the hash decides.
        return replace(sample, etag="") if moved else sample

    samples, files = run.samples(), reader
    if run.frames:
        from lightly_fs.pipeline.frame_files import FrameFiles

        files = FrameFiles(
            reader, lambda name: known(run.video(name)), run.frames.get, run.max_image_pixels
        )
    stream = files.stream([known(sample) for sample in samples])
    for sample, expected, data in zip(samples, run.content_hashes(), stream, strict=True):
        wrong = data.reason if isinstance(data, Failure) else ""
        if not isinstance(data, Failure):
            if sample.filename in run.frames:
                yield _png(data)
                continue
            if hashlib.sha256(data).digest() == expected:
                yield data
                continue
            wrong = "its bytes are not those that the run saw"
        raise DatasourceError(
            f"the selected image `{sample.filename}` cannot be exported: {wrong}",
            hint="put it back, or run again on what is there now; --input-dir names another copy",
        )


def _png(data: Buffer) -> bytes:
    from lightly_fs.pipeline.frame_files import as_png

    return as_png(data)


def _joined(first: S3Config, second: S3Config) -> S3Config:
    """Return how buckets are reached, the second's values where it has any."""
    return first.model_copy(update=second.model_dump(exclude_defaults=True))


def _split(out: str, kind: Format) -> tuple[str, str]:
    """Return the directory to write to, and the name of the file when `out` names one."""
    folder, _, name = out.rpartition("/")
    is_file = kind.main and posixpath.splitext(name)[1] == posixpath.splitext(kind.main)[1]
    if is_file and not Path(out).is_dir():
        return folder or ("/" if out.startswith("/") else "."), name
    return out, ""
