"""What a report says of the run itself: when, by which program and model, how it was configured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lightly_fs import __version__
from lightly_fs.config.run import RunConfig
from lightly_fs.report.build import Report
from lightly_fs.report.lettering import without_secrets


def when(seconds: float) -> str:
    """Return a time as `21 November 2026, 14:03 UTC`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def run_rows(report: Report) -> list[tuple[str, str]]:
    facts, mounted_at = report.given.facts, report.given.mounted_at
    return [
        ("Run", facts.run_id),
        ("Input", without_secrets(facts.input_uri)),
        *([("Mounted at", mounted_at)] if mounted_at else []),
        ("Started", when(facts.started)),
        ("Finished", when(facts.finished)),
        ("Program", f"lightly-fs {__version__}"),
    ]


def model_rows(report: Report) -> list[tuple[str, str]]:
    model = report.given.model
    return [
        ("Model", without_secrets(model.name)),
        ("Weights, SHA-256", model.weights_sha256 or "—"),
        ("Input size", f"{model.input_size} by {model.input_size} pixels"),
        ("Embedding", f"{model.dimensions:,} numbers"),
        ("Preprocessing", model.preprocessing or "—"),
        ("Runtime, precision", f"{model.runtime}, {model.precision}"),
    ]


def configuration(config: RunConfig) -> list[tuple[str, str, bool]]:
    """Return key, value and whether it differs from the default, of every key that counts."""
    defaults = dict(_flat(RunConfig.model_validate({}).model_dump(mode="json")))
    return [
        (key, "—" if value in ("", "null") else without_secrets(value), value != defaults.get(key))
        for key, value in _flat(_with_selection(config.model_dump(mode="json")))
        if config.enable_training or not key.startswith("lightly.")
    ]


def _with_selection(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys with those of `selection_config` alone that were set."""
    chosen = values["selection_config"]
    return values if chosen is None else {**values, "selection_config": _given(chosen)}


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for place, one in enumerate(value):
                yield from _flat(_given(one), f"{prefix}{key}[{place}].")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was set of an entry of a list, whose other keys say nothing."""
    inner = {
        key: _given(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }
    return {key: value for key, value in inner.items() if value not in (None, {}, [])}
