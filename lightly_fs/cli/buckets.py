"""Options of commands that open buckets without a run's configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {
    "url": "Endpoint of s3:// buckets that are not on AWS. Also AWS_ENDPOINT_URL.",
    "region": "Region of s3:// buckets. Also AWS_REGION.",
    "aws_profile": "Profile of ~/.aws/credentials.",
    "passwd_file": "s3fs password file, mode 0600.",
    "iam_role": "Role of this instance, or `auto`.",
}


def bucket_options(command: F) -> F:
    """Add the options that say how buckets are reached; the command gets them as `s3`."""

    @functools.wraps(command)
    def gather(**values: Any) -> Any:  # noqa: ANN401 - click hands over whatever was declared
        from lightly_fs.config import load_config

        given = {name: values.pop(name) for name in _OPTIONS}
        words = [f"s3.{name}={text}" for name, text in given.items() if text]
        return command(s3=load_config(words).s3, **values)

    wrapped: Any = gather
    for name, text in reversed(_OPTIONS.items()):
        wrapped = click.option(f"--{name.replace('_', '-')}", name, help=text)(wrapped)
    result: F = wrapped
    return result
