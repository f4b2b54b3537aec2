"""Copies of the selected images in the output, `data/sampled/…`."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lightly_fs.artifacts.run_dir import ELSEWHERE, RunDir
from lightly_fs.errors import DatasourceError
from lightly_fs.types import Failure

FOLDER = "data/sampled"
Buffer = bytes | memoryview
_THREADS = 4


def dump_names(filenames: Sequence[str], suffix: str) -> list[str]:
    """Return the name of each image's copy; they are unique and do not depend on the order.

    The extension is replaced (`a/b.jpg` → `a/b.png`). Where two images would get the same name,
    both keep their extension and get the new one behind it (`a/b.jpg.png`).

    Args:
        filenames: Of the images.
        suffix: `.png`; "" keeps every name as it is.
    """
    if not suffix:
        return list(filenames)
    replaced = {name: posixpath.splitext(name)[0] + suffix for name in filenames}
    claims = Counter(replaced.values())
    names = {name: new for name, new in replaced.items() if claims[new] == 1}
    taken = set(names.values())
    for name in sorted(replaced.keys() - names.keys()):
        new = name + suffix
        while new in taken:
            new += suffix
        taken.add(new)
        names[name] = new
    return [names[name] for name in filenames]


def dump_images(
    run_dir: RunDir,
    filenames: Sequence[str],
    read: Callable[[str], Buffer | Failure],
    convert: Callable[[Buffer], bytes],
    suffix: str,
) -> list[Failure]:
    """Write a copy of each image, one by one; copies that are there already are kept.

    Args:
        run_dir: Where the copies go.
        filenames: The images to copy.
        read: Returns an image's bytes.
        convert: Returns the copy's bytes, see `decoding.export`.
        suffix: Extension of the copies, "" for the originals'.

    Returns:
        What could not be read any more; everything else was written.
    """

    def dump(filename: str, name: str) -> Failure | None:
        data = read(filename)
        if isinstance(data, Failure):
            return data
        run_dir.publish_bytes(f"{FOLDER}/{name}", convert(data))
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            outcomes = list(pool.map(dump, filenames, dump_names(filenames, suffix)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [outcome for outcome in outcomes if outcome is not None]


def require_all(failures: Sequence[Failure], what: str, otherwise: str) -> None:
    """Refuse to go on when something selected could not be read any more.

    Args:
        failures: What could not be read.
        what: What is missing therefore, for people.
        otherwise: How to do without it.

    Raises:
        DatasourceError: Something is missing. Another try of the same run may help, unless the
            input is not what was listed any more.
    """
    if not failures:
        return
    first = next((one for one in failures if one.is_outdated), failures[0])
    message = f"{what}; `{first.filename}`: {first.reason}"
    if first.is_outdated:
        raise DatasourceError(
            f"{message}. The input is not what this run listed any more, so that it cannot be "
            "resumed; a new run lists and embeds it as it is now",
            hint=ELSEWHERE,
        )
    raise DatasourceError(message, hint=f"run the same command again: it resumes; or {otherwise}")
