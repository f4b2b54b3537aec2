"""The files below `config/`: what a run was asked to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import yaml

import lightly_fs
from lightly_fs.config.run import RunConfig

CONFIG = "config/config.yaml"
HYDRA = "config/hydra.yaml"
OVERRIDES = "config/overrides.yaml"
INVENTORY = "config/inventory.parquet"
RUN = "config/run.json"
MODEL = "config/model.json"
RESULTS = ("data", "filenames", "plots")
"""Folders of a run directory that are there once a selection is being written."""


def run_folder(config: RunConfig, at: datetime | None = None) -> str:
    """Return the run directory's name: as configured, else `YYYY-MM-DD/HH:MM:SS` in UTC."""
    return config.run_directory or (at or datetime.now(UTC)).strftime("%Y-%m-%d/%H:%M:%S")


def now() -> str:
    """Return the time as it is recorded: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def config_digests(config: RunConfig) -> Mapping[str, str]:
    """Return what must be equal for a run directory to be gone on with, and for its embeddings."""
    return {"config_digest": config.digest(), "embedding_digest": config.embedding_digest()}


def config_files(config: RunConfig, folder: str, overrides: Sequence[str]) -> Mapping[str, bytes]:
    """Return the three files that tell the exact configuration, by name.

    Args:
        config: All keys with their values.
        folder: The run directory.
        overrides: The words that the configuration was made from.
    """
    hydra = {
        "run": {"dir": folder},
        "job": {"name": "lightly-fs", "override_dirname": ",".join(overrides)},
        "runtime": {"version": lightly_fs.__version__},
    }
    return {
        CONFIG: _yaml(config.model_dump(mode="json")),
        HYDRA: _yaml(hydra),
        OVERRIDES: _yaml(list(overrides)),
    }


def as_json(values: Mapping[str, object]) -> bytes:
    """Return the content of one of the other files."""
    return (json.dumps(values, indent=1) + "\n").encode()


def _yaml(values: object) -> bytes:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
