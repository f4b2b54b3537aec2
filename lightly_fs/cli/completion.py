"""`lightly-fs completion`: the line that turns on tab completion."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
%(complete_func)s() {
    local line="${COMP_LINE:0:$COMP_POINT}" response type value words
    read -r -a words <<< "$line"
    local last="${words[${#words[@]}-1]}" at=$((${#words[@]} - 1))
    if [[ $line == *[[:space:]] ]]; then last=""; at=$((at + 1)); fi
    # bash ends words at = and : too, and replaces only what follows the last of them.
    local before="${last%%"${last##*[=:]}"}"
    response=$(env COMP_WORDS="$line" COMP_CWORD=$at %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("${value#"$before"}")
            [[ $value == *= ]] && compopt -o nospace
        fi
    done <<< "$response"
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _WholeWords(BashComplete):
    """Completes `key=value` as the one word that it is."""

    source_template = _BASH


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL.

    For bash: eval "$(lightly-fs completion bash)"
    """
    from lightly_fs.cli import cli

    factory = _WholeWords if shell == "bash" else get_completion_class(shell)
    if factory is None:  # pragma: no cover - click knows the three shells above
        raise click.UsageError(f"no completion for {shell}")
    click.echo(factory(cli, {}, "lightly-fs", "_LIGHTLY_FS_COMPLETE").source())
