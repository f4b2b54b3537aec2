"""What a person sees: errors with hints, logging. stdout is data, stderr is for people."""

from __future__ import annotations

import json
import logging
import sys

import click

from lightly_fs.errors import LightlyFSError


def print_error(error: LightlyFSError, *, as_json: bool = False) -> None:
    """Print an error for a person on stderr, or for a program on stdout."""
    if as_json:
        body = {
            "error": type(error).__name__,
            "message": error.message,
            "reason": getattr(error, "reason", None),
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        click.echo(json.dumps(body))
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    if error.hint:
        click.echo(f"\n{click.style('hint:', fg='cyan', bold=True)} {error.hint}", err=True)


def configure_logging(*, verbose: bool) -> None:
    """Send warnings, and with `verbose` everything of ours, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("lightly_fs")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
