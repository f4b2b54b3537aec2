"""`lightly-fs list | embed | select | report`: a run up to one stage, in the same run directory."""

from __future__ import annotations

from pathlib import Path

import click

from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.run import execute
from lightly_fs.types import Stage

HELP = {
    Stage.LIST: "Freeze the inventory of a run.",
    Stage.EMBED: "List and embed; whatever shards are there already are kept.",
    Stage.SELECT: "List, embed and select; prints the selected filenames, best first.",
    Stage.REPORT: "Finish a run: whatever is missing, then the report and the manifest.",
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
    ) -> int:
        config = read_config(words, config_file, flags)
        return execute(config, stage, as_json=as_json, quiet=quiet)

    return run_until


list_stage, embed_stage, select_stage, report_stage = map(_command, Stage)
