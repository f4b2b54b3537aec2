"""The configuration that a run directory recorded, for those who only look at its run."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from pydantic import ValidationError

from lightly_fs.artifacts.record import CONFIG
from lightly_fs.config import RunConfig
from lightly_fs.datasource.output import open_output
from lightly_fs.errors import ArtifactError

PLACES = (
    *("input_dir", "output_dir", "shared_dir", "run_directory"),
    *("read_through", "cache_dir", "cache_size", "num_threads", "s3"),
)
"""Keys that say where things are and how they are read: none of them decides a run's results."""


def recorded_config(given: RunConfig, environ: Mapping[str, str]) -> RunConfig | None:
    """Return the configuration of the run that is there, with the places that were given.

    None when there is no such run, when no `run_directory` names it, and when any key was given
    that decides results: then what was given is meant, and compared with what is there.

    Raises:
        ArtifactError: What is recorded is no configuration of this version.
        MountError: The output cannot be mounted.
        DatasourceError: It cannot be opened.
    """
    keys = given.model_fields_set
    if not given.run_directory or not keys <= set(PLACES):
        return None
    with open_output(given, environ) as output:
        data = output.below(given.run_directory).read(CONFIG)
    if not data:
        return None
    where = f"{given.output_dir.rstrip('/')}/{given.run_directory}/{CONFIG}"
    try:
        values = yaml.safe_load(data)
        values |= {key: getattr(given, key) for key in keys if key != "s3"}
        values["s3"] = {**values.get("s3", {}), **given.s3.model_dump(exclude_unset=True)}
        return RunConfig.model_validate(values)
    except (yaml.YAMLError, TypeError, ValidationError) as error:
        raise ArtifactError(
            f"{where} is no configuration that this version knows: {error}",
            hint="give all keys of the run again, or the version of lightly-fs that made it",
        ) from error
