"""A file where a folder of the output belongs, or the other way round: named, with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from lightly_fs.errors import ArtifactError

OBSTRUCTED = (NotADirectoryError, IsADirectoryError)
"""What the system says when something of the wrong kind lies on the way."""


@contextmanager
def reaching(root: Path, path: PurePosixPath) -> Iterator[None]:
    """Turn what a block meets on the way to `path` below `root` into an error that names it."""
    try:
        yield
    except OBSTRUCTED as problem:
        raise obstacle(root, path, problem) from problem


def obstacle(root: Path, path: PurePosixPath, problem: OSError) -> ArtifactError:
    """Return the error that names what keeps `path` below `root` from being reached.

    Args:
        root: The output directory.
        path: What was to be read or written, relative to it.
        problem: One of `OBSTRUCTED`.
    """
    steps = [*reversed(path.parents[:-1]), path]
    files = (step for step in steps if (root / step).exists() and not (root / step).is_dir())
    wrong, belongs = path, "a folder where a file belongs"
    if isinstance(problem, NotADirectoryError):
        wrong, belongs = next(files, path), "a file where a folder belongs"
    return ArtifactError(
        f"`{root / wrong}` is {belongs}",
        hint="move it away (the same command then goes on), or choose another run_directory",
    )
