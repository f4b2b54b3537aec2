"""The command line: options → config → one library call → print. The one place that exits."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import tempfile
from contextlib import suppress
from types import FrameType
from typing import Any

import click

from lightly_fs import __version__
from lightly_fs.cli.console import print_error, print_interrupted
from lightly_fs.errors import ConfigError, LightlyFSError

EXIT_SIGINT, EXIT_SIGPIPE = (128 + number for number in (signal.SIGINT, signal.SIGPIPE))
"""What shells report of a program that such a signal ended."""

_GONE = select.POLLERR | select.POLLHUP

COMMANDS = {
    "run": "lightly_fs.cli.run:run",
    "list": "lightly_fs.cli.stages:list_stage",
    "train": "lightly_fs.cli.stages:train_stage",
    "embed": "lightly_fs.cli.stages:embed_stage",
    "select": "lightly_fs.cli.stages:select_stage",
    "report": "lightly_fs.cli.stages:report_stage",
    "export": "lightly_fs.cli.export:export",
    "import-labels": "lightly_fs.cli.labels:import_labels",
    "datapool": "lightly_fs.cli.datapool:datapool",
    "mount": "lightly_fs.cli.mount:mount",
    "unmount": "lightly_fs.cli.mount:unmount",
    "mounts": "lightly_fs.cli.mount:mounts",
    "sanity-check": "lightly_fs.cli.sanity:sanity_check",
    "completion": "lightly_fs.cli.completion:completion",
}


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", message="%(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool, debug: bool) -> None:
    """Select the images worth labelling from an S3 bucket."""
    from lightly_fs.cli.console import configure_logging

    configure_logging(verbose=verbose or debug)
    ctx.ensure_object(dict)["debug"] = debug


class _Terminated(SystemExit):
    """SIGTERM or SIGHUP: unwinds like Ctrl-C, so that nothing stays mounted."""

    code: int


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its documented code."""
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminate)
    _keep_temporary_directory_clean()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
    except (SystemExit, BrokenPipeError):  # click turns the second into the first
        closed = _closed_pipes()
        if not closed:
            raise
        _silence(closed)
        code = EXIT_SIGPIPE
    sys.exit(code)


def _run(words: list[str]) -> int:
    debug, as_json = "--debug" in words, "--json" in words
    try:
        code = cli.main(args=words, prog_name="lightly-fs", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except LightlyFSError as error:
        if debug:
            raise
        print_error(error, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        if as_json:
            print_error(ConfigError(error.format_message()), as_json=True)
        else:
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort, _Terminated) as error:
        ended = error.code if isinstance(error, _Terminated) else EXIT_SIGINT
        print_interrupted(error.__cause__ or error, ended, as_json=as_json)
        return ended
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        unexpected = LightlyFSError(f"{type(error).__name__}: {error}", hint="--debug shows where")
        # An operating system's error may be that of stdout itself.
        print_error(unexpected, as_json=as_json and not isinstance(error, OSError))
        return LightlyFSError.exit_code
    return code if isinstance(code, int) else 0


def _closed_pipes() -> list[int]:
    """Return which of stdout and stderr are pipes or terminals that nobody reads any more."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return [descriptor for descriptor, events in poll.poll(0) if events & _GONE]


def _silence(descriptors: list[int]) -> None:
    """Let what is still written, or buffered, go nowhere: nobody reads it."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _terminate(number: int, _frame: FrameType | None) -> Any:  # noqa: ANN401
    # A terminal that closes may send it twice, from the kernel and from the shell.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if number == signal.SIGHUP:
        _silence(_closed_pipes())  # a terminal that has gone refuses every line
    raise _Terminated(128 + number)


def _keep_temporary_directory_clean() -> None:
    """Keep torch from making `torchinductor_USER`: torchvision imports its compiler, unused."""
    with suppress(OSError):  # whoever needs a temporary directory says that there is none
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
