"""`datapool.*` and `datasource.*`: what a run remembers, and what of the input it looks at."""

from __future__ import annotations

import posixpath

from pydantic import Field, field_validator

from lightly_fs.config.frozen import Frozen


class DatapoolConfig(Frozen):
    """Where runs remember what they processed and selected."""

    name: str = Field(
        "",
        description="Folder below `shared_dir`, an absolute path, or `s3://bucket/prefix`; "
        "empty: runs remember nothing.",
    )
    keep_history: bool = Field(
        default=True,
        description="Keep the earlier states of the datapool, so that it can be rolled back.",
    )

    count_selected: bool = Field(
        default=False,
        description="What the datapool has selected counts towards `n_samples`; a fraction is "
        "of all usable samples then, those of the datapool included.",
    )

    @field_validator("name")
    @classmethod
    def _folder(cls, value: str) -> str:
        if "://" in value:
            if not value.startswith("s3://"):
                raise ValueError("a folder or `s3://bucket/prefix` is expected")
        elif value.rstrip("/") in ("", ".") and value:
            raise ValueError("the name of a folder is expected")
        elif ".." in value.split("/"):
            raise ValueError("a folder below `shared_dir` or an absolute path is expected, no `..`")
        return value

    def location(self, shared_dir: str) -> str:
        """Return where the pool lies; "" when there is none."""
        if not self.name or self.name.startswith(("s3://", "/")):
            return self.name
        return posixpath.join(shared_dir, self.name)

    def check_place(self, shared_dir: str, input_dir: str, output_dir: str) -> None:
        """Refuse a pool that would be listed with the input, or lie among runs.

        Raises:
            ValueError: It lies in the input, outside of the output, or is the output.
        """
        location = self.location(shared_dir)
        if not location:
            return
        if _path(location) == _path(output_dir):
            raise ValueError(
                f"`datapool.name={self.name}` is output_dir itself; a folder in it may be one"
            )
        if _is_below(location, input_dir) and not _is_below(location, output_dir):
            raise ValueError(
                f"`datapool.name={self.name}` lies in input_dir `{input_dir}`, which is only read; "
                "choose a folder of output_dir, or another place"
            )


class DatasourceConfig(Frozen):
    """What of the input a run with a datapool looks at."""

    process_all: bool = Field(
        default=False,
        description="Process what the datapool knows already, too; embeddings are reused.",
    )
    enable_datapool_update: bool = Field(
        default=True, description="Add what was processed and selected to the datapool."
    )


def _is_below(place: str, folder: str) -> bool:
    return f"{_path(place)}/".startswith(f"{_path(folder)}/")


def _path(place: str) -> str:
    """Return what is equal for a folder however it is written; nothing is looked up."""
    scheme, separator, rest = place.rpartition("://")
    return scheme + separator + posixpath.normpath(rest).rstrip("/")
