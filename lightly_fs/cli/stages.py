"""`lightly-fs list | embed | select | report`: a run up to one stage, in the same run directory."""

from __future__ import annotations

from pathlib import Path

import click

from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.run import execute
from lightly_fs.types import Stage

_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")


@click.command("list")
@config_options
@_json
@_quiet
def list_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: dict[str, str],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Freeze the inventory of a run."""
    return execute(read_config(words, config_file, flags), Stage.LIST, as_json=as_json, quiet=quiet)


@click.command("embed")
@config_options
@_json
@_quiet
def embed_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: dict[str, str],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """List and embed; whatever shards are there already are kept."""
    return execute(
        read_config(words, config_file, flags), Stage.EMBED, as_json=as_json, quiet=quiet
    )


@click.command("select")
@config_options
@_json
@_quiet
def select_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: dict[str, str],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """List, embed and select; prints the selected filenames, best first."""
    return execute(
        read_config(words, config_file, flags), Stage.SELECT, as_json=as_json, quiet=quiet
    )


@click.command("report")
@config_options
@_json
@_quiet
def report_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: dict[str, str],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Finish a run: whatever is missing, then the report and the manifest."""
    return execute(
        read_config(words, config_file, flags), Stage.REPORT, as_json=as_json, quiet=quiet
    )
