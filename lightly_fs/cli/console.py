"""What a person sees: errors with hints, logging. stdout is data, stderr is for people."""

from __future__ import annotations

import json
import logging
import sys

import click

from lightly_fs.errors import LightlyFSError


def counted(number: int, thing: str) -> str:
    """Return `1 image` or `2,000 images`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def print_error(error: LightlyFSError, *, as_json: bool = False) -> None:
    """Print an error for a person on stderr, or for a program on stdout."""
    hints = [hint for hint in (error.hint, *_notes(error)) if hint]
    if as_json:
        body = {
            "error": type(error).__name__,
            "message": error.message,
            "reason": getattr(error, "reason", None),
            "hint": "; ".join(hints) or None,
            "exit_code": error.exit_code,
        }
        click.echo(json.dumps(body))
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    _print_hints(hints)


def print_interrupted(
    interruption: BaseException, code: int | str | None, *, as_json: bool
) -> None:
    """Print that a signal ended the command, and how to go on."""
    hints = _notes(interruption)
    if as_json:
        body = {"error": "Interrupted", "message": "interrupted", "reason": None}
        click.echo(json.dumps({**body, "hint": "; ".join(hints) or None, "exit_code": code}))
        return
    click.echo("interrupted", err=True)
    _print_hints(hints)


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _print_hints(hints: list[str]) -> None:
    if hints:
        title = click.style("hint:", fg="cyan", bold=True)
        click.echo(f"\n{title} " + "\n      ".join(hints), err=True)


def configure_logging(*, verbose: bool) -> None:
    """Send warnings, and with `verbose` everything of ours, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("lightly_fs")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
