"""`lightly-fs mount`, `unmount` and `mounts`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lightly_fs.datasource.survey import MountStatus
    from lightly_fs.datasource.table import Record

_MADE = "made"
"""File beside a mount's record: the directories that `mount` made, which `unmount` removes."""

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
    """Mount a bucket, or what lies below a prefix, with s3fs.

    When the command ends, the mount was proved to work. It is read-only, unless --profile output.
    Keys come from --passwd-file, --aws-profile, --iam-role, the environment, ~/.aws/credentials or
    ~/.passwd-s3fs, in this order.
    """
    from lightly_fs.datasource.endpoint import parse_uri
    from lightly_fs.datasource.mount import MountRequest
    from lightly_fs.datasource.mount import mount as mount_bucket

    name, prefix = parse_uri(bucket)
    request = MountRequest(bucket=name, prefix=prefix, directory=directory, **given)
    absent = _absent(directory)
    made = mount_bucket(request, os.environ, timeout_s=timeout)
    _remember(made.directory, absent, os.environ)
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
@click.argument("directory", metavar="[DIRECTORY]", type=Path, required=False)
@click.option("--stale", is_flag=True, help="What killed runs left mounted; no DIRECTORY.")
@click.option("--force", is_flag=True, help="Even when it is in use; unfinished writes are lost.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=10,
    show_default=True,
    help="Seconds to wait for those that use it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def unmount(
    directory: Path | None, stale: bool, force: bool, timeout: float, as_json: bool
) -> None:
    """Unmount a directory, also when the mount is dead or hangs.

    Its stripes go with it, and a directory that `mount` made, when nothing lies in it.
    """
    from lightly_fs.datasource.mount import unmount as unmount_bucket

    if stale == (directory is not None):
        raise click.UsageError("Give either DIRECTORY or --stale.")
    if directory is None:
        _sweep(as_json)
        return
    made = _made(directory, os.environ)
    given, directory = directory, directory.absolute()
    os.chdir("/")  # started from inside, this process would hold the mount itself
    unmount_bucket(directory, os.environ, timeout_s=timeout, force=force)
    for path in made:
        with contextlib.suppress(OSError):  # it holds something by now
            path.rmdir()
    if as_json:
        click.echo(json.dumps({"directory": str(directory), "mounted": False}))
    else:
        click.echo(f"{given} is unmounted")


def _sweep(as_json: bool) -> None:
    from lightly_fs.datasource.private import sweep

    gone = [str(path) for path in sweep(os.environ)]
    if as_json:
        click.echo(json.dumps(gone))
    else:
        click.echo("\n".join(f"removed {path}" for path in gone) or "killed runs left nothing")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array on stdout.")
def mounts(as_json: bool) -> None:
    """Show s3fs mounts and their health, cache use and stripes."""
    from lightly_fs.datasource.survey import survey

    found = survey(os.environ)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found]))
        return
    if not found:
        click.echo("no s3fs mounts", err=True)
        return
    rows = [_cells(one) for one in found]
    wide = {title: max(len(title), *(len(row[title]) for row in rows)) for title in rows[0]}
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if columns is None or sum(wide.values()) + 2 * (len(wide) - 1) <= columns:
        lines = [{title: title for title in wide}, *rows]
        text = "\n".join(
            "  ".join(_styled(title, row[title].ljust(wide[title])) for title in wide).rstrip()
            for row in lines
        )
    else:  # a line that the terminal breaks is still copied whole; one that we broke is not
        text = "\n\n".join(
            "\n".join(f"{title:<10} {_styled(title, row[title])}" for title in wide) for row in rows
        )
    click.echo(text)


def _cells(one: MountStatus) -> dict[str, str]:
    return {
        "BUCKET": one.uri or "unknown",
        "DIRECTORY": str(one.directory),
        "HEALTH": one.health,
        "CACHE": "-" if one.cache_bytes is None else f"{one.cache_bytes / 1e6:,.1f} MB",
        "STRIPES": f"{one.stripes_ok} of {one.stripes}" if one.stripes else "-",
    }


def _styled(title: str, cell: str) -> str:
    if title == cell.strip():
        return click.style(cell, bold=True)
    if title != "HEALTH":
        return cell
    return click.style(cell, fg="green" if cell.strip() == "ok" else "red")


def _absent(directory: Path) -> list[Path]:
    """Return the directories that a mount will make, the deepest first."""
    from lightly_fs.datasource import table

    path = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would ask a hung mount
    if table.is_s3fs(path):
        return []
    return [one for one in (path, *path.parents) if not os.path.lexists(one)]


def _record(directory: Path, environ: Mapping[str, str]) -> Record | None:
    from lightly_fs.datasource import table

    path = directory.absolute()
    path = path.parent.resolve() / path.name
    return next((one for one in table.records(environ) if one.directory == path), None)


def _remember(directory: Path, made: Sequence[Path], environ: Mapping[str, str]) -> None:
    record = _record(directory, environ)
    if record is not None and made:
        (record.state / _MADE).write_text("\0".join(map(str, made)))


def _made(directory: Path, environ: Mapping[str, str]) -> list[Path]:
    record = _record(directory, environ)
    try:
        text = (record.state / _MADE).read_text() if record else ""
    except OSError:
        return []
    return [Path(name) for name in text.split("\0") if name]
