"""Why a run directory cannot be resumed: what is different there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from lightly_fs.config.run import RunConfig
from lightly_fs.datasource.inventory import Inventory
from lightly_fs.types import ModelInfo

_FACTS = tuple(one.name for one in fields(ModelInfo))
_LONGEST = 80
"""Characters of a value that a message shows."""


def config_difference(
    there: Mapping[str, Any], config: RunConfig, digest: Callable[[RunConfig], str]
) -> str:
    """Name the first key that has another value in `there`, and with it another `digest`.

    A `selection_config` comes first: other keys have other values because of it.
    """
    now = config.model_dump(mode="json")
    for key in sorted(now, key=lambda key: key != "selection_config"):
        value = now[key]
        if key not in there:
            return f"`{key}` is {value!r} now and unknown there"
        if there[key] != value and _decides(key, there[key], config, digest):
            name, old, new = _innermost(key, there[key], value)
            return f"`{name}` is {_shown(old)} there and {_shown(new)} now"
    return "it was made by another version of lightly-fs"


def inventory_difference(there: Inventory, now: Inventory) -> str:
    """Name the first sample that is not in both inventories as it is in the other."""
    counts = f"{len(there)} samples there, {len(now)} now"
    for one, other, what in ((there, now, "is not there any more"), (now, there, "is new")):
        names = one.table["filename"]
        lost = names.filter(pc.invert(pc.is_in(names, value_set=_names(other))))
        if len(lost):
            return f"{counts}; `{lost[0].as_py()}` {what}"
    for old, new in zip(there.table.to_batches(1024), now.table.to_batches(1024), strict=False):
        for row, (before, after) in enumerate(zip(old.to_pylist(), new.to_pylist(), strict=False)):
            if before != after:
                key = next(key for key in before if before[key] != after[key])
                name = old["filename"][row].as_py()
                return f"{counts}; the {key} of `{name}` is {before[key]} there, {after[key]} now"
    return counts


def model_difference(there: ModelInfo, now: ModelInfo, names: Sequence[str] = _FACTS) -> str | None:
    """Name the first of some facts that is different about two models; None when they agree."""
    for name in names:
        old, new = getattr(there, name), getattr(now, name)
        if old != new:
            return f"{name} is {old!r} there and {new!r} now"
    return None


def _decides(
    key: str, value: object, config: RunConfig, digest: Callable[[RunConfig], str]
) -> bool:
    """Tell whether another value of a key is another run."""
    try:
        other = RunConfig.model_validate({**config.model_dump(mode="json"), key: value})
    except ValidationError:
        return True
    return digest(other) != digest(config)


def _innermost(key: str, old: object, new: object) -> tuple[str, object, object]:
    if isinstance(old, dict) and isinstance(new, dict):
        for inner in new:
            if old.get(inner) != new[inner]:
                return _innermost(f"{key}.{inner}", old.get(inner), new[inner])
    return key, old, new


def _shown(value: object) -> str:
    """Return a value as messages show it; a whole configuration would hide what they say."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _names(inventory: Inventory) -> pa.Array:
    names = inventory.table["filename"].combine_chunks()
    return names if isinstance(names, pa.Array) else pa.concat_arrays(names.chunks)
