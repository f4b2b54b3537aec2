"""The configuration of a run: `key=value` words and YAML files become one frozen `RunConfig`."""

from lightly_fs.config.parse import load_config
from lightly_fs.config.run import (
    CoresetMethod,
    ImageSize,
    PropertiesMode,
    ReadThrough,
    RunConfig,
    Runtime,
    S3Config,
    StoppingCondition,
)

__all__ = [
    "CoresetMethod",
    "ImageSize",
    "PropertiesMode",
    "ReadThrough",
    "RunConfig",
    "Runtime",
    "S3Config",
    "StoppingCondition",
    "load_config",
]
