"""`lightly-fs list | embed | select | report`: a run up to one stage, in the same run directory."""

from __future__ import annotations

from pathlib import Path

import click

from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.run import execute
from lightly_fs.types import Stage

HELP = {
    Stage.LIST: "Freeze the inventory of a run.",
    Stage.TRAIN: "List, and train the model on the images of the run.",
    Stage.EMBED: "List and embed; shards that are there already are kept.",
    Stage.SELECT: "List, embed, select; print the selected filenames.",
    Stage.REPORT: "Finish a run: what is missing, the report, the manifest.",
}


def _command(stage: Stage) -> click.Command:
    @click.command(stage.value, help=HELP[stage])
    @config_options
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    def run_until(
        words: tuple[str, ...],
        config_file: Path | None,
        flags: dict[str, str],
        *,
        as_json: bool,
        quiet: bool,
        explain: tuple[str, ...] = (),
    ) -> int:
        config = read_config(words, config_file, flags)
        if stage is Stage.TRAIN and not config.enable_training:
            config = read_config((*words, "enable_training=True"), config_file, flags)
            click.echo("enable_training=True: give it to the stages that follow, too", err=True)
        return execute(config, stage, as_json=as_json, quiet=quiet, explain=explain)

    return run_until


list_stage, train_stage, embed_stage, select_stage, report_stage = map(_command, HELP)
select_stage.params.append(
    click.Option(
        ["--explain"],
        multiple=True,
        metavar="FILENAME",
        help="Show what made a selected sample win: what each strategy made of it.",
    )
)
