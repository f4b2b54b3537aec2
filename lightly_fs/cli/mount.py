"""`lightly-fs mount`, `unmount` and `mounts`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

# A directory is a plain `Path`: `click.Path` asks the file system, and a hung mount never answers.


@click.command()
@click.argument("bucket", metavar="BUCKET[:/PREFIX]")
@click.argument("directory", metavar="DIRECTORY", type=Path)
@click.option(
    "--profile",
    type=click.Choice(["images", "videos", "output"]),
    default="images",
    show_default=True,
    help="What the mount is for; `output` can be written to.",
)
@click.option("--url", help="Endpoint; none is AWS. Also AWS_ENDPOINT_URL.")
@click.option("--region", help="Region to sign for. Also AWS_REGION.")
@click.option("--aws-profile", help="Profile of ~/.aws/credentials.")
@click.option(
    "--passwd-file", type=click.Path(path_type=Path), help="s3fs password file, mode 0600."
)
@click.option("--iam-role", help="Role of this instance, or `auto`.")
@click.option("--use-cache", type=click.Path(path_type=Path), help="Keep what was read in DIR.")
@click.option(
    "--stripes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Further mounts at DIRECTORY.stripes/1 ... K, to read in parallel.",
)
@click.option("--uid", type=click.IntRange(0), help="Owner of everything below DIRECTORY.")
@click.option("--gid", type=click.IntRange(0), help="Group of everything below DIRECTORY.")
@click.option("-o", "options", multiple=True, metavar="OPTION", help="Passed on to s3fs.")
@click.option(
    "--timeout",
    type=click.FloatRange(2),
    default=10,
    show_default=True,
    help="Seconds after which to give up.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def mount(
    bucket: str,
    directory: Path,
    timeout: float,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - the options, as `MountRequest` names them
) -> None:
    """Mount a bucket (or what lies below a prefix) with s3fs, and prove it.

    Read-only, unless --profile output. Keys come from --passwd-file, --aws-profile, --iam-role, the
    environment, ~/.aws/credentials or ~/.passwd-s3fs, in this order.
    """
    from lightly_fs.datasource.endpoint import parse_uri
    from lightly_fs.datasource.mount import MountRequest
    from lightly_fs.datasource.mount import mount as mount_bucket

    name, prefix = parse_uri(bucket)
    request = MountRequest(bucket=name, prefix=prefix, directory=directory, **given)
    made = mount_bucket(request, os.environ, timeout_s=timeout)
    for note in made.notes:
        click.echo(f"{click.style('note:', fg='yellow', bold=True)} {note}", err=True)
    if as_json:
        body = {
            "directory": str(made.directory),
            "bucket": made.bucket.name,
            "prefix": made.bucket.prefix,
            "uri": made.bucket.uri,
            "url": made.bucket.url,
            "region": made.bucket.region,
            "profile": request.profile,
            "stripes": [str(stripe) for stripe in made.stripes],
            "notes": list(made.notes),
        }
        click.echo(json.dumps(body))
        return
    stripes = f" ({len(made.stripes)} stripes)" if made.stripes else ""
    click.echo(f"{made.bucket.uri} is mounted at {made.directory}{stripes}")


@click.command()
@click.argument("directory", metavar="DIRECTORY", type=Path)
@click.option("--force", is_flag=True, help="Even when it is in use; unfinished writes are lost.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=10,
    show_default=True,
    help="Seconds to wait for those that use it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def unmount(directory: Path, force: bool, timeout: float, as_json: bool) -> None:
    """Unmount a directory and its stripes; also when the mount is dead or hangs."""
    from lightly_fs.datasource.mount import unmount as unmount_bucket

    unmount_bucket(directory, os.environ, timeout_s=timeout, force=force)
    if as_json:
        click.echo(json.dumps({"directory": str(directory.absolute()), "mounted": False}))
    else:
        click.echo(f"{directory} is unmounted")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array on stdout.")
def mounts(as_json: bool) -> None:
    """Show s3fs mounts: bucket, directory, health, cache use, stripes."""
    from lightly_fs.datasource.survey import survey

    found = survey(os.environ)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found]))
        return
    if not found:
        click.echo("no s3fs mounts", err=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("BUCKET", "DIRECTORY", "HEALTH", "CACHE", "STRIPES"):
        table.add_column(title, overflow="fold")
    for one in found:
        health = f"[green]{one.health}[/]" if one.health == "ok" else f"[red]{one.health}[/]"
        cache = "-" if one.cache_bytes is None else f"{one.cache_bytes / 1e6:,.1f} MB"
        stripes = f"{one.stripes_ok} of {one.stripes}" if one.stripes else "-"
        place = (escape(one.uri or "unknown"), escape(str(one.directory)))
        table.add_row(*place, health, cache, stripes)
    Console().print(table)
