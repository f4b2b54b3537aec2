"""Options that several commands share: `key=value` words, a file, and flags for common keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig

F = TypeVar("F", bound=Callable[..., Any])

FLAGS: dict[str, tuple[str, str, str]] = {
    "input_dir": ("--input", "DIR|s3://…", "Where the images are."),
    "output_dir": ("--output", "DIR|s3://…", "Where results go."),
    "run_directory": ("--run-directory", "NAME", "Sub-folder of the output; the same resumes."),
    "stopping_condition.n_samples": ("--n-samples", "N", "A count (100) or a fraction (0.1)."),
    "stopping_condition.min_distance": ("--min-distance", "X", "Smallest distance of two picks."),
    "method": ("--method", "NAME", "coreset or random."),
    "model": ("--model", "NAME", "bundled, or a timm or torchvision name."),
    "weights": ("--weights", "FILE|URL", "Weights for the model."),
    "read_through": ("--read-through", "HOW", "auto, object or mount."),
    "properties": ("--properties", "HOW", "scaled, full or off."),
    "s3.url": ("--url", "URL", "Endpoint of s3:// buckets that are not on AWS."),
    "s3.region": ("--region", "NAME", "Region of s3:// buckets."),
    "s3.aws_profile": ("--aws-profile", "NAME", "Profile of ~/.aws/credentials."),
}
"""Flags by the key they set."""


DIRECTORIES = ("input_dir", "output_dir", "shared_dir", "cache_dir")
FILES = (
    *("checkpoint", "embeddings", "pretagging_config", "relevant_filenames_file"),
    *("selection_config", "weights", "s3.passwd_file"),
)
"""Keys whose values are paths."""


def complete_key(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete `key=value` words: keys first, then the values of keys that have few, and paths."""
    from lightly_fs.config.parse import known_keys, known_values

    key, equals, start = incomplete.partition("=")
    if not equals:
        found = [f"{name}=" for name in known_keys() if name.startswith(incomplete)]
    elif key in DIRECTORIES or key in FILES:
        return [CompletionItem(start, type="dir" if key in DIRECTORIES else "file")]
    else:
        found = [f"{key}={value}" for value in known_values(key) if value.startswith(start)]
    return [CompletionItem(text) for text in found]


def config_options(command: F) -> F:
    """Add words, `--config` and the flags; the command gets `words`, `config_file`, `flags`."""

    @functools.wraps(command)
    def gather(**values: Any) -> Any:  # noqa: ANN401 - click hands over whatever was declared
        flags = {key: values.pop(_parameter(key)) for key in FLAGS}
        return command(
            flags={key: text for key, text in flags.items() if text is not None}, **values
        )

    wrapped: Any = gather
    for key, (flag, metavar, text) in reversed(FLAGS.items()):
        wrapped = click.option(flag, _parameter(key), metavar=metavar, help=f"{text}  [{key}]")(
            wrapped
        )
    wrapped = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML file of keys; words and flags override it.",
    )(wrapped)
    wrapped = click.argument(
        "words", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_key
    )(wrapped)
    result: F = wrapped
    return result


def _parameter(key: str) -> str:
    return "flag_" + key.replace(".", "_")


def read_config(
    words: tuple[str, ...], config_file: Path | None, flags: Mapping[str, str]
) -> RunConfig:
    """Return the run's configuration: file, then words, then flags."""
    from lightly_fs.config import load_config

    return load_config(
        [*words, *(f"{key}={text}" for key, text in flags.items())], file=config_file
    )
