"""`lightly-fs completion`: the line that turns on tab completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL.

    For bash: eval "$(lightly-fs completion bash)"
    """
    from lightly_fs.cli import cli

    factory = get_completion_class(shell)
    if factory is None:  # pragma: no cover - click knows the three shells above
        raise click.UsageError(f"no completion for {shell}")
    click.echo(factory(cli, {}, "lightly-fs", "_LIGHTLY_FS_COMPLETE").source())
