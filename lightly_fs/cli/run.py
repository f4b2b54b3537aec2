"""`lightly-fs run`: from a bucket to a report."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lightly_fs.cli.console import counted
from lightly_fs.cli.options import config_options, read_config
from lightly_fs.cli.progress import StageLines
from lightly_fs.errors import EXIT_PARTIAL
from lightly_fs.types import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightly_fs.config import RunConfig
    from lightly_fs.pipeline import RunResult


@click.command()
@config_options
@click.option("--dry-run", is_flag=True, help="List and estimate: objects, bytes, requests, time.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--help-keys", is_flag=True, help="List every key with default and meaning.")
def run(
    words: tuple[str, ...],
    config_file: Path | None,
    flags: dict[str, str],
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    help_keys: bool,
) -> int:
    """Select the images worth labelling, from bucket to report.

    Writes lists, embeddings and a report to the output. Takes the container's KEY=VALUE words, e.g.

    \b
        lightly-fs run input_dir=/s3-mount output_dir=/s3-out \\
            stopping_condition.n_samples=0.1

    The same command with the same run_directory resumes an interrupted run.
    """  # noqa: D301 - click takes the control character, not the two letters
    if help_keys:
        return _print_keys()
    if _asks_for_sanity_check(words):
        from lightly_fs.cli.sanity import check_and_print

        return check_and_print(as_json=as_json, input_uri="")
    config = read_config(words, config_file, flags)
    if dry_run:
        return _print_estimate(config, as_json=as_json)
    return execute(config, Stage.REPORT, as_json=as_json, quiet=quiet)


def execute(
    config: RunConfig, until: Stage, *, as_json: bool, quiet: bool, explain: Sequence[str] = ()
) -> int:
    """Run up to a stage, print what it left, and return the exit code.

    Args:
        explain: Samples to tell of what became of them and why, instead of naming the selected.
    """
    from lightly_fs import pipeline

    overrides = sys.argv[2:]
    with StageLines(quiet=quiet) as progress:
        result = pipeline.run(
            config, os.environ, until=until, progress=progress, overrides=overrides
        )
    if explain:
        from lightly_fs.cli.explaining import print_reasons

        print_reasons(result, explain, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        _print_result(result, until)
    return EXIT_PARTIAL if result.partial else 0


def _print_result(result: RunResult, until: Stage) -> None:
    if result.nothing_new and result.datapool is not None:
        click.echo(result.datapool.told_nothing_new(), err=True)
        return
    if result.was_complete:
        click.echo("this run was complete already; nothing to do", err=True)
    if result.partial and result.counts is not None:
        missing = result.counts.failed + result.counts.unreadable
        click.echo(
            f"warning: {counted(missing, 'sample')} could not be read; the run is partial "
            f"(exit 9), see {result.place}/data/failures.csv",
            err=True,
        )
    if until is Stage.SELECT:
        for filename in result.selected:
            click.echo(filename)
    elif until is Stage.REPORT:
        click.echo(f"{result.place}/report.pdf")
    else:
        click.echo(result.place)


def _asks_for_sanity_check(words: tuple[str, ...]) -> bool:
    from lightly_fs.config.parse import split_word

    checks = (word for word in words if word.lstrip("+").startswith("sanity_check="))
    return any(split_word(word)[1] is True for word in checks)


def _print_estimate(config: RunConfig, *, as_json: bool) -> int:
    from lightly_fs import pipeline

    found = pipeline.estimate(config, os.environ)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return 0
    requests = (
        f"{found.list_requests:,} LIST, {found.get_requests:,} GET, {found.put_requests:,} PUT"
    )
    videos = f", {found.videos:,} of them videos" if found.videos else ""
    click.echo(f"objects    {found.objects:,}{videos}")
    click.echo(f"bytes      {found.bytes:,} ({found.bytes / 2**30:.2f} GiB)")
    click.echo(f"requests   {requests}")
    rate = f" at {found.samples_per_second:,.0f} images/s" if found.samples_per_second else ""
    click.echo(
        f"reading    {found.seconds:,.0f} s{rate} ({found.reader}, measured on {found.probed}); "
        "the model and the report take their time on top"
    )
    return 0


def _print_keys() -> int:
    from lightly_fs.config.parse import describe_keys

    rows = list(describe_keys())
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    indent = " " * (wide[0] + wide[1] + 4)
    columns = shutil.get_terminal_size().columns - len(indent)
    for key, default, text in rows:
        # A program, or `grep`, gets one line a key.
        lines = textwrap.wrap(text, max(columns, 24)) if sys.stdout.isatty() else [text]
        meaning = f"\n{indent}".join(lines)
        click.echo(f"{key:<{wide[0]}}  {default:<{wide[1]}}  {meaning}".rstrip())
    return 0
