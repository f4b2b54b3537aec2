"""`lightly-fs list | embed | select | report`: a run up to one stage, in the same run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.run import execute
from lightly_fs.types import Stage

F = TypeVar("F", bound=Callable[..., Any])


def stage_options(command: F) -> F:
    """Add what the commands of all stages take."""
    wrapped: Any = click.option("-q", "--quiet", is_flag=True, help="No progress.")(command)
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."
    )
    result: F = config_options(as_json(wrapped))
    return result


def _plain(stage: Stage, summary: str) -> click.Command:
    """Return the command of a stage that has no options of its own."""

    @click.command(stage.value, help=summary)
    @stage_options
    def command(
        words: tuple[str, ...],
        config_file: Path | None,
        flags: Mapping[str, str],
        *,
        as_json: bool,
        quiet: bool,
    ) -> int:
        config = read_config(words, config_file, flags)
        return execute(config, stage, as_json=as_json, quiet=quiet)

    return command


list_stage = _plain(Stage.LIST, "Freeze the inventory of a run.")
embed_stage = _plain(Stage.EMBED, "List and embed; shards that are there already are kept.")
report_stage = _plain(Stage.REPORT, "Finish a run: what is missing, the report, the manifest.")


@click.command("train")
@stage_options
def train_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: Mapping[str, str],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """List, and train the model on the images of the run."""
    config = read_config(words, config_file, flags)
    if not config.enable_training:
        config = read_config((*words, "enable_training=True"), config_file, flags)
        click.echo("enable_training=True: give it to the stages that follow, too", err=True)
    return execute(config, Stage.TRAIN, as_json=as_json, quiet=quiet)


@click.command("select")
@stage_options
@click.option(
    "--explain",
    multiple=True,
    metavar="FILENAME",
    help="Tell what became of this image, and why; can be given more than once.",
)
def select_stage(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: Mapping[str, str],
    *,
    as_json: bool,
    quiet: bool,
    explain: tuple[str, ...],
) -> int:
    """List, embed, select; print the selected filenames.

    With --explain, tell instead what each strategy made of a selected image, or why another one was
    not selected. Of a run that is there, its place is enough:

    \b
        lightly-fs select output_dir=/s3-out run_directory=first --explain a/1.jpg
    """  # noqa: D301 - click takes the control character, not the two letters
    config = read_config(words, config_file, flags)
    if explain:
        from lightly_fs.cli.explaining import as_recorded

        config = as_recorded(config, quiet=quiet)
    return execute(config, Stage.SELECT, as_json=as_json, quiet=quiet, explain=explain)
