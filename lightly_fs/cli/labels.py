"""`lightly-fs import-labels`: labels of other tools as predictions in the input's `.lightly/`."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightly_fs.cli.buckets import bucket_options
from lightly_fs.cli.console import counted
from lightly_fs.errors import ConfigError

if TYPE_CHECKING:
    from lightly_fs.annotations.files import InvalidFile
    from lightly_fs.pipeline.labelling import Imported

FORMATS = (
    *("coco", "coco-keypoints", "coco-masks", "cvat", "cvat-masks", "label-studio", "pascal-voc"),
    *("yolo", "yolo-masks"),
)
_SHOWN = 3


@click.command("import-labels")
@click.argument("format_", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--task", required=True, metavar="NAME", help="What the task is to be called.")
@click.option("--input-dir", required=True, metavar="DIR|s3://…", help="Where the images are.")
@click.option(
    "--out",
    default="",
    metavar="DIR|s3://…",
    help="Where .lightly/ is written.  [default: the input]",
)
@click.option("--below", default="", metavar="FOLDER", help="Folder that the names start from.")
@click.option("--predicted", is_flag=True, help="Label Studio: what models predicted, not people.")
@click.option("--replace", is_flag=True, help="Replace the task when it is there.")
@click.option(
    "--invalid",
    "invalid_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what was left out, and why, to a CSV file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON on stdout.")
@bucket_options
def import_labels(
    format_: str,
    path: Path,
    as_json: bool,
    invalid_file: Path | None,
    **given: Any,  # noqa: ANN401 - the options, as `ImportRequest` names them
) -> None:
    """Turn labels into a prediction task of the input.

    FORMAT is coco, cvat, label-studio, pascal-voc or yolo for boxes, coco-masks, cvat-masks,
    yolo-masks or coco-keypoints; PATH is on a local disk.

    \b
        lightly-fs import-labels yolo dataset/data.yaml --task labels --input-dir /s3-mount
        lightly-fs import-labels coco instances.json --task coco --below images/train2017 \\
            --input-dir s3://bucket/photos --out /s3-rw
    """  # noqa: D301 - click takes the control character, not the two letters
    from lightly_fs.annotations.labels import NothingValidError
    from lightly_fs.pipeline.labelling import ImportRequest, import_task

    request = ImportRequest(format=format_, path=path, **given)
    if invalid_file is not None:
        _write_invalid(invalid_file, ())  # what cannot be written is said before the import
    try:
        done = import_task(request, os.environ)
    except NothingValidError as error:
        if invalid_file is not None:
            _write_invalid(invalid_file, error.invalid)
        raise
    if invalid_file is not None:
        _write_invalid(invalid_file, done.invalid)
    if as_json:
        click.echo(json.dumps(done.as_json()))
        return
    click.echo(_summary(done), err=True)
    _show("labels of no image", done.others, "--json names all")
    left_out = [f"{one.path}: {one.reason}" for one in done.invalid]
    _show("left out", left_out, f"{invalid_file or '--invalid FILE'} lists all")
    click.echo(done.place)


def _show(title: str, lines: Sequence[str], rest: str) -> None:
    if lines:
        shown = "".join(f"\n  {line}" for line in lines[:_SHOWN])
        more = f"\n  and {len(lines) - _SHOWN:,} more; {rest}" if len(lines) > _SHOWN else ""
        click.echo(f"{title}:{shown}{more}", err=True)


def _write_invalid(file: Path, invalid: Sequence[InvalidFile]) -> None:
    try:
        with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as opened:
            lines = csv.writer(opened)
            lines.writerow(("path", "reason"))
            lines.writerows((one.path, one.reason) for one in invalid)
    except OSError as error:
        raise ConfigError(
            f"`{file}` cannot be written: {error.strerror}", hint="--invalid FILE, in a folder"
        ) from error


def _summary(done: Imported) -> str:
    categories = "1 category" if done.n_categories == 1 else f"{done.n_categories:,} categories"
    left_out = f", {len(done.invalid):,} left out" if done.invalid else ""
    labelled = []
    if done.n_images or not done.n_frames:
        n = done.n_labelled - done.n_frames
        labelled.append(f"{n:,} of {counted(done.n_images, 'image')}")
    if done.n_frames:
        labelled.append(counted(done.n_frames, "frame"))
    return (
        f"{' and '.join(labelled)} labelled, {counted(done.n_objects, 'object')} of {categories}; "
        f"{counted(len(done.others), 'name')} in the labels without an image{left_out}"
    )
