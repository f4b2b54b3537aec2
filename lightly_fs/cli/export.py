"""`lightly-fs export`: the selection of a finished run for labelling tools and training code."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from lightly_fs.cli.buckets import bucket_options
from lightly_fs.cli.console import counted
from lightly_fs.errors import ConfigError

if TYPE_CHECKING:
    from lightly_fs.pipeline.exporting import Exported

FORMATS = (
    *("filenames", "parquet", "coco", "yolo", "label-studio", "labelbox", "sama"),
    *("cvat", "huggingface", "webdataset", "lightly"),
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STDOUT = "-"


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,7})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"`{value}` is no duration; write 90s, 30m, 12h or 7d")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


@click.command()
@click.argument("run", metavar="RUN_DIR")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), required=True, help="What to write."
)
@click.option(
    "--out",
    default="",
    metavar="PATH",
    help="Directory, file or s3://…; `-` is stdout.  [default: exports/FORMAT below RUN_DIR]",
)
@click.option("--task", default="", help="Prediction task whose objects are exported.")
@click.option("--read-urls", is_flag=True, help="Add signed URLs that anyone can read with.")
@click.option(
    "--expires",
    callback=_duration,
    metavar="TIME",
    help="How long they hold, at most 7d (default).",
)
@click.option("--url-prefix", default="", metavar="URL", help="Add URLs: this and the filename.")
@click.option("--input-dir", default="", metavar="DIR|s3://…", help="Where the images are now.")
@click.option(
    "--predictions", default="", metavar="DIR|s3://…", help="Where .lightly/ is, if elsewhere."
)
@click.option("--replace", is_flag=True, help="Write over other content.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON on stdout.")
@bucket_options
def export(
    run: str,
    format_: str,
    expires: timedelta | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - the options, as `ExportRequest` names them
) -> None:
    """Write the selection of a finished run in another format.

    RUN_DIR is a directory, mounted or not, or s3://…, for example

    \b
        lightly-fs export /s3-out/2026-11-20/14:03:22 --format coco --task my_detector
        lightly-fs export s3://results/r1 --format label-studio --expires 12h
    """  # noqa: D301 - click takes the control character, not the two letters
    from lightly_fs.pipeline.exporting import ExportRequest, export_selection, exported_bytes

    if expires is not None:
        given["expires"] = expires
        given["read_urls"] = True
    request = ExportRequest(run=run, format=format_, **given)
    if request.out == _STDOUT:
        if as_json:
            raise ConfigError("stdout holds either the export or the JSON", hint="--out PATH")
        click.echo(exported_bytes(request, os.environ), nl=False)
        return
    done = export_selection(request, os.environ)
    if as_json:
        click.echo(json.dumps({"format": format_, **done.as_json()}))
        return
    click.echo(_summary(done, request.task), err=True)
    click.echo(done.place)


def _summary(done: Exported, task: str) -> str:
    parts = [counted(done.n_images, "image")]
    if task:
        parts.append(f"{done.n_predicted:,} with predictions of `{task}`")
    parts.append(counted(len(done.files), "file"))
    if done.urls_until is not None:
        parts.append(f"read URLs hold until {done.urls_until:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)
