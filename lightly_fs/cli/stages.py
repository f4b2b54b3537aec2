"""`lightly-fs list | embed | select | report`: a run up to one stage, in the same run directory."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.run import execute
from lightly_fs.errors import ModelError
from lightly_fs.types import Stage

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig

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
    ) -> int:
        config = read_config(words, config_file, flags)
        if stage is Stage.TRAIN and not config.enable_training:
            config = read_config((*words, "enable_training=True"), config_file, flags)
            click.echo("enable_training=True: give it to the stages that follow, too", err=True)
        if stage is Stage.LIST:
            _require_known_model(config)
        return execute(config, stage, as_json=as_json, quiet=quiet)

    return run_until


def _require_known_model(config: RunConfig) -> None:
    """Refuse a name before `list` freezes it: no other stage could use the run directory then.

    Raises:
        ModelError: No family has a model of that name.
    """
    if config.embeddings or config.model in ("bundled", "colour-grid"):
        return
    from lightly_fs.embedding.load import FAMILIES, Family

    prefix, slash, rest = config.model.partition("/")
    own = bool(slash) and prefix in FAMILIES
    name = rest if own else config.model
    modules = [FAMILIES[prefix]] if own else list(FAMILIES.values())
    families = [cast(Family, importlib.import_module(module)) for module in modules]
    if any(family.has_model(name) for family in families):
        return
    known = {"bundled", *(each for family in families for each in family.model_names())}
    close = difflib.get_close_matches(name, sorted(known), n=3)
    raise ModelError(
        f"there is no model `{config.model}`",
        hint=f"did you mean {' or '.join(close)}?" if close else "model=bundled needs no name",
    )


list_stage, train_stage, embed_stage, select_stage, report_stage = map(_command, Stage)
