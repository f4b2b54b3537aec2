"""`lightly-fs select --explain`: what became of samples, and why, in words."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lightly_fs.errors import ConfigError

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig
    from lightly_fs.pipeline import RunResult
    from lightly_fs.pipeline.explaining import Explanation

WORDS = {
    "selected": "was selected",
    "not_chosen": "was not chosen",
    "removed_by_threshold": "was removed by a threshold",
    "near_duplicate": "is a near duplicate itself",
    "left_over": "is in no whole sequence",
}
"""What became of the sample that stands for a duplicate."""
SAME = {"content": "the same bytes", "pixels": "the same pixels, other bytes"}


def as_recorded(config: RunConfig, *, quiet: bool) -> RunConfig:
    """Return the configuration of the run that is there, when its place alone was given."""
    from lightly_fs.pipeline.recorded import recorded_config

    found = recorded_config(config, os.environ)
    if found is None:
        return config
    if not quiet:
        click.echo("with the configuration that the run recorded", err=True)
    return found


def print_reasons(result: RunResult, filenames: Sequence[str], *, as_json: bool) -> None:
    """Print what became of samples and why.

    Raises:
        ConfigError: The run has no sample of one of the names.
    """
    if result.why is None:
        raise ValueError("the run did not end with a selection")
    told = {name: result.why.of(name) for name in filenames}
    found = [one for one in told.values() if one is not None]
    if as_json:
        click.echo(json.dumps(found))
    else:
        for line in (line for one in found for line in reasons(one)):
            click.echo(line)
    unknown = [name for name, one in told.items() if one is None]
    if unknown:
        raise ConfigError(
            "\n".join(_unknown(name, result.why) for name in unknown),
            hint="names are those of the lists in filenames/, relative to input_dir",
        )


def _unknown(name: str, why: Explanation) -> str:
    near = " or ".join(f"`{near}`" for near in why.closest(name))
    return f"the run has no image `{name}`" + (f"; did you mean {near}?" if near else "")


def reasons(one: Mapping[str, Any]) -> list[str]:
    """Return what became of a sample, as `Explanation.of` tells it, in lines."""
    name = one["filename"]
    match one["outcome"]:
        case "selected":
            return _selected(one)
        case "not_chosen":
            return _not_chosen(one)
        case "removed_by_threshold":
            value = "" if one["value"] is None else f", and it is {one['value']:.6g}"
            lines = [f"{name}: removed by {one['removed_by']}{value}"]
        case "near_duplicate":
            lines = [f"{name}: a near duplicate, {one['distance']:.4f} from {_original(one)}"]
        case "exact_duplicate":
            same = SAME.get(one["reason"], one["reason"])
            lines = [f"{name}: an exact duplicate, {same} as {_original(one)}"]
        case "left_over":
            lines = [f"{name}: in no sequence, {one['reason']}"]
        case outcome:
            lines = [f"{name}: {outcome}, {one['reason']}"]
    return lines


def _original(one: Mapping[str, Any]) -> str:
    became = WORDS.get(one["original_outcome"] or "")
    return f"{one['original']}, which {became}" if became else str(one["original"])


def _selected(one: Mapping[str, Any]) -> list[str]:
    apart = one["distance"]
    nearest = "" if apart is None else f", {apart:.4f} from the nearest one before"
    values = {**one["objectives"], "product": one["product"]} if one["objectives"] else {}
    wide = max(map(len, values), default=0)
    head = f"{one['filename']}: pick {one['picked']:,} of {one['of']:,}{nearest}"
    return [head, *(f"  {line:<{wide}}  {_number(value)}" for line, value in values.items())]


def _not_chosen(one: Mapping[str, Any]) -> list[str]:
    """Return how far a sample was from being picked last."""
    head = f"{one['filename']}: not chosen"
    if one["distance"] is not None:
        head += f", {one['distance']:.4f} from the nearest selected one, {one['nearest_selected']}"
    last = one["last_pick"]
    if last is None:
        return [head]
    if "objectives" not in one:
        apart = last["distance"]
        before = "" if apart is None else f", {apart:.4f} from those before it"
        return [head, f"  the last pick was {last['filename']}{before}"]
    rows = [
        (line, _number(value), _number(last["objectives"].get(line)))
        for line, value in one["objectives"].items()
    ]
    rows.append(("product", _number(one["product"]), _number(last["product"])))
    rows.insert(0, ("when the last pick was made", "this one", "the last pick"))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [
        f"  {line:<{wide[0]}}  {this:>{wide[1]}}  {other:>{wide[2]}}" for line, this, other in rows
    ]
    return [head, *table, f"  the last pick was {last['filename']}"]


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.6g}"
