"""The keys of `pretagging_config`: which detector, and what of its objects is kept. No torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from lightly_fs.config.frozen import Frozen
from lightly_fs.config.mistakes import lines_of
from lightly_fs.config.run import RunConfig
from lightly_fs.errors import ConfigError

_NOTHING = ("", "~", "null")


class PretaggingConfig(Frozen):
    """What a pretagging run does; every key has a default."""

    model: str = Field(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        description="A detection model of torchvision.",
    )
    weights: str = Field(
        "",
        description="Weights file (relative to `shared_dir`) or URL; "
        "none: torchvision's, trained on COCO, downloaded once.",
    )
    category_names: tuple[str, ...] = Field(
        (),
        description="What own weights detect, in the order of their labels from 1; none: COCO.",
    )
    categories: tuple[str, ...] = Field(
        (), description="Keep only objects of these categories; none: all."
    )
    min_score: float = Field(
        0.5, ge=0, le=1, description="Keep objects of at least this confidence, 0 to 1."
    )
    max_boxes: int = Field(
        100, ge=1, le=10_000, description="Objects per image at most, the most confident first."
    )
    batch_size: int = Field(8, ge=1, description="Images per forward pass.")

    @field_validator("category_names", "categories")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name, times in Counter(value).items():
            if not name.strip():
                raise ValueError("a category without a name")
            if times > 1:
                raise ValueError(f"`{name}` is there {times} times")
        return value


def read_pretagging_config(config: RunConfig, name: str) -> PretaggingConfig:
    """Return what a YAML or JSON file says; "" for no file and all defaults.

    Args:
        config: Its `shared_dir`.
        name: The file, relative to `shared_dir`.

    Raises:
        ConfigError: It cannot be read, or says something that is no key or no value of one.
    """
    if not name:
        return PretaggingConfig()
    path = Path(config.shared_dir, name)
    values = _read(path)
    try:
        return PretaggingConfig.model_validate(values)
    except ValidationError as error:
        lines = lines_of(error, PretaggingConfig, f"pretagging_config {path}: ")
        known = PretaggingConfig.model_fields.get(str(error.errors()[0]["loc"][0]))
        raise ConfigError("\n  ".join(lines), hint=known.description if known else None) from error


def _keys() -> str:
    return ", ".join(PretaggingConfig.model_fields)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = "is no file" if path.exists() else "is not there"
        raise ConfigError(
            f"pretagging_config {path} {found}",
            hint="a YAML or JSON file, relative to shared_dir; leave the key out for the defaults",
        )
    try:
        # Scalars stay text, which the keys' types convert: a category may be called `off` or `1`.
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
        if node is None:
            return {}
        content = yaml.BaseLoader("").construct_document(node)
    except OSError as error:
        raise ConfigError(f"pretagging_config {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"pretagging_config {path} is no valid YAML: {reason}") from error
    if not isinstance(node, yaml.MappingNode) or not isinstance(content, dict):
        raise ConfigError(
            f"pretagging_config {path} must hold keys and values, not a {type(content).__name__}",
            hint=f"its keys: {_keys()}",
        )
    for key, times in Counter(str(key.value) for key, _ in node.value).items():
        if times > 1:
            raise ConfigError(f"pretagging_config {path} sets `{key}` twice", hint="keep one")
    return {str(key): value for key, value in content.items() if value not in _NOTHING}
