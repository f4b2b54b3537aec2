"""Where a `relevant_filenames_file` lies: in the shared directory, or beside the images."""

from __future__ import annotations

from pathlib import Path

from lightly_fs.config import RunConfig
from lightly_fs.datasource.relevant import parse_lines
from lightly_fs.datasource.source import Source
from lightly_fs.errors import ConfigError


def relevant_entries(config: RunConfig, source: Source) -> list[str] | None:
    """Return the entries of the file that the configuration names, or None when it names none.

    A relative path is looked up in `shared_dir`, then in the input.

    Raises:
        ConfigError: No such file, or it names nothing.
    """
    name = config.relevant_filenames_file
    if not name:
        return None
    places = [Path(config.shared_dir) / name]
    if source.root is not None:
        places.append(source.root / name)
    for path in places:
        try:
            entries = parse_lines(path.read_text(encoding="utf-8-sig"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read relevant_filenames_file `{path}`: {error}") from error
        if not entries:
            raise ConfigError(f"relevant_filenames_file `{path}` names nothing")
        return entries
    looked = " or ".join(f"`{path}`" for path in places)
    raise ConfigError(
        f"relevant_filenames_file `{name}` is not there: looked for {looked}",
        hint="the path is relative to shared_dir or to the input",
    )
