"""Write docs/reference/{cli,configuration,errors,modules}.md from the program itself.

python scripts/reference.py            write
python scripts/reference.py --check    fail when a page is stale (the tests do this)
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from lightly_fs import errors
from lightly_fs.cli import COMMANDS, cli
from lightly_fs.config import legacy
from lightly_fs.config.parse import describe_keys, known_values

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
GENERATED = "<!-- Written by scripts/reference.py; `make docs` renews it. -->\n"


def main() -> int:
    """Write or check the pages; return 1 when one is stale."""
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """Return every generated page by file name."""
    return {
        "cli.md": "".join(_cli_page()),
        "configuration.md": "".join(_configuration_page()),
        "errors.md": "".join(_errors_page()),
        "modules.md": "".join(_modules_page()),
    }


def _cli_page() -> Iterator[str]:
    yield f"# Command line\n\n{GENERATED}"
    top = click.Context(cli, info_name="lightly-fs", max_content_width=100, terminal_width=100)
    yield f"\n```text\n{cli.get_help(top)}\n```\n"
    for name in COMMANDS:
        command = cli.get_command(top, name)
        if command is None:
            raise SystemExit(f"no command {name}")
        context = click.Context(
            command, info_name=name, parent=top, max_content_width=100, terminal_width=100
        )
        yield f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
        for sub in getattr(command, "commands", {}).values():
            inner = click.Context(
                sub, info_name=sub.name, parent=context, max_content_width=100, terminal_width=100
            )
            yield f"\n### {name} {sub.name}\n\n```text\n{sub.get_help(inner)}\n```\n"


def _configuration_page() -> Iterator[str]:
    yield f"# Configuration\n\n{GENERATED}\n"
    yield (
        "Every key is given as `key=value` on the command line or to the container, or in a YAML\n"
        "file (`--config FILE`), nested or dotted. Flags override words, words override the file.\n"
        "An unknown key is an error that names the nearest one.\n\n"
        "| key | default | meaning |\n|---|---|---|\n"
    )
    for key, default, text in describe_keys():
        values = known_values(key)
        choices = f" ({', '.join(f'`{one}`' for one in values)})" if len(values) > 2 else ""
        yield f"| `{key}` | `{default or repr('')}` | {text}{choices} |\n"
    yield (
        "\n## Keys of the container that are accepted but ask for nothing\n\n"
        "Existing commands carry them. Any other value is refused with the reason (exit 2).\n\n"
        "| key | accepted values | why no other |\n|---|---|---|\n"
    )
    for key in legacy.IGNORED:
        yield f"| `{key}` | any | accepted and ignored: nothing asks for a token |\n"
    for key, (accepted, reason) in sorted(legacy.HARMLESS.items()):
        yield f"| `{key}` | {', '.join(f'`{one!r}`' for one in accepted)} | {reason} |\n"


def _errors_page() -> Iterator[str]:
    yield f"# Errors and exit codes\n\n{GENERATED}\n```text\n"
    yield inspect.cleandoc(errors.__doc__ or "")
    yield "\n```\n\n| exit code | name | meaning |\n|---|---|---|\n"
    yield "| 0 | | complete; corrupt samples are a result, not an error |\n"
    yield "| 1 | `LightlyFSError` | anything that has no code of its own |\n"
    for error in _error_classes():
        meaning = (error.__doc__ or MEANINGS[error.__name__]).splitlines()[0]
        yield f"| {error.exit_code} | `{error.__name__}` | {meaning} |\n"
    yield f"| {errors.EXIT_PARTIAL} | | partial: samples could not be read; results written |\n"
    yield (
        "| 129, 130, 143 | | interrupted (terminal closed, Ctrl-C, SIGTERM); "
        "the same command resumes |\n"
    )
    yield (
        "\nWith `--json` an error is one JSON object on stdout: `error`, `message`, `reason`,\n"
        "`hint`, `exit_code`. Reasons of mount errors are listed in\n"
        "[mounting](../guides/mounting.md).\n"
    )


def _modules_page() -> Iterator[str]:
    yield f"# Modules\n\n{GENERATED}\nTop to bottom, imports point down only.\n"
    package = REFERENCE.parent.parent / "lightly_fs"
    for layer in LAYERS:
        yield f"\n## {layer}\n\n| module | |\n|---|---|\n"
        place = package / layer
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if text:
                name = path.relative_to(package).with_suffix("").as_posix()
                yield f"| `{name.removesuffix('/__init__')}` | {text.splitlines()[0]} |\n"


LAYERS = (
    *("cli", "pipeline", "training", "report", "selection", "annotations", "pretagging"),
    *("datapool", "embedding", "artifacts", "decoding", "properties", "datasource", "config"),
    *("errors", "types"),
)

MEANINGS = {
    "ConfigError": "a key, option or config file is wrong",
    "DatasourceError": "nothing there, or it cannot be listed or read",
    "NoUsableSampleError": "not one sample could be embedded",
    "ArtifactError": "a run directory is damaged, or holds another run",
    "RunLockedError": "another process is writing this run directory",
    "MissingExtraError": "an optional dependency is not installed",
    "ModelError": "a model, its weights or an embeddings file cannot be used",
    "TooManyFailuresError": "more samples failed than `max_failures` allows",
    "TemporarySpaceError": "the directory for temporary files is full or not usable",
}


def _error_classes() -> list[type[errors.LightlyFSError]]:
    found = [
        one
        for one in vars(errors).values()
        if inspect.isclass(one)
        and issubclass(one, errors.LightlyFSError)
        and one is not errors.LightlyFSError
    ]
    return sorted(found, key=lambda one: (one.exit_code, one.__name__))


if __name__ == "__main__":
    sys.exit(main())
