"""Files of an export or an import, written to a directory or bucket: verified, none overwritten."""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lightly_fs.annotations.exported import File, to_json
from lightly_fs.annotations.tasks import TASKS
from lightly_fs.config import RunConfig, S3Config
from lightly_fs.datasource.obstacle import OBSTRUCTED
from lightly_fs.datasource.output import WRITERS, Output, Written, open_output
from lightly_fs.errors import ArtifactError

_LARGE = 8 << 20
"""Bytes; of files this large only one is held at a time."""


@contextmanager
def open_target(
    place: str, s3: S3Config, environ: Mapping[str, str], name: str = "--out"
) -> Iterator[Output]:
    """Open a directory or `s3://bucket/prefix` to write to; a bucket is mounted meanwhile.

    Args:
        place: The directory or URI.
        s3: How a bucket is reached.
        environ: Where credentials are found.
        name: What errors call the place.

    Raises:
        MountError: The bucket cannot be mounted, or the mount there is dead.
        DatasourceError: The directory cannot be created or written.
        ArtifactError: A file lies where a folder belongs, or the other way round.
    """
    with open_output(RunConfig(output_dir=place, s3=s3), environ, name) as output:
        try:
            yield output
        except ArtifactError as error:
            if isinstance(error.__cause__, OBSTRUCTED):  # its hint is about runs
                error.hint = "move it away, or choose another place with --out"
            raise


def write_files(
    output: Output, files: Iterable[File], staging: Path, *, replace: bool = False
) -> list[Written]:
    """Write files below an output; what is there already with the same content stays.

    A `tasks.json` keeps the tasks that it names, and is written when everything before it is there.

    Args:
        output: Where to.
        files: Names and contents; made while others are being written.
        staging: Local directory.
        replace: Write over other content.

    Raises:
        ArtifactError: There is a file with other content, and `replace` was not asked for.
    """
    written: list[Written] = []
    pending: deque[Future[Written]] = deque()
    with ThreadPoolExecutor(WRITERS, "export") as pool:
        try:
            for name, content in files:
                full = 0 if name == TASKS or len(content) > _LARGE else 2 * WRITERS
                while len(pending) > full:
                    written.append(pending.popleft().result())
                pending.append(pool.submit(_write, output, (name, content), staging, replace))
                if not full:
                    written.append(pending.popleft().result())
            written += [one.result() for one in pending]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return written


def tasks_there(output: Output) -> list[str]:
    """Return the names in the `tasks.json` of an output; none when there is no such file.

    Raises:
        ArtifactError: It is no list of names, so none can be added.
    """
    data = output.read(TASKS)
    try:
        names = [] if data is None else json.loads(data)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(
            f"`{output.uri.rstrip('/')}/{TASKS}` is no list of task names: none can be added to it",
            hint='write the names of the folders beside it, like ["my_detector"]',
        )
    return names


def _write(output: Output, file: File, staging: Path, replace: bool) -> Written:  # noqa: FBT001
    name, content = file
    if name == TASKS:
        content = to_json(list(dict.fromkeys([*tasks_there(output), *json.loads(content)])))
    elif not replace and (there := output.read(name)) is not None and there != content:
        raise ArtifactError(
            f"`{output.uri.rstrip('/')}/{name}` is there already, with other content",
            hint="choose another place with --out, or let it be written over with --replace",
        )
    local = staging / secrets.token_hex(8)
    local.write_bytes(content)
    try:
        return output.put(name, local)
    finally:
        local.unlink()
