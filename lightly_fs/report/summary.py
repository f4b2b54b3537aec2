"""What a report says in words and tables, for the PDF and the page alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lightly_fs import __version__
from lightly_fs.config.run import RunConfig
from lightly_fs.report.build import Report
from lightly_fs.report.lettering import (
    counted,
    dollars,
    duration,
    kilograms,
    percent,
    size,
    without_secrets,
)
from lightly_fs.report.strategies import StrategyReport
from lightly_fs.types import Duplicate, Outcome, Stage

FILES = {
    Outcome.CORRUPT: "corrupt_filenames.txt",
    Outcome.GONE: "gone_filenames.txt",
    Outcome.FAILED: "failed_filenames.txt",
    Outcome.UNREADABLE: "unreadable_filenames.txt",
}
"""The list of each outcome in the run's `filenames/`."""

STOPPED = {
    "all": "every usable image was selected",
    "n_samples": "the number of samples that was asked for was reached",
    "min_distance": "every other image is closer than the minimum distance to a selected one",
    "minimum_distance": "every other image is closer than the minimum distance to a selected one",
    "max_sum": "the sum of an input over the selected images reached its maximum",
    "minimum_typicality": "every other image is less typical than the minimum",
    "target_range": "every other image would take a sum out of its target range",
}
"""Why a selection ended."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the sums; `level` 0 is a total, 1 a part of the one above, `kind` a colour."""

    label: str
    count: int
    share: str
    level: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure."""

    label: str
    value: str
    note: str


def headline(report: Report) -> str:
    counts = report.given.counts
    chosen = f"{counts.selected:,}" if counts.selected else "None"
    return f"{chosen} of {counted(counts.inventory, 'image')} selected"


def lead(report: Report) -> str:
    """Return the run in two or three sentences."""
    counts = report.given.counts
    usable = counts.selected + counts.removed
    if usable == 1:
        text = "1 image was usable. "
    elif (length := report.given.config.selected_sequence_length) > 1:
        text = f"{usable:,} images were usable; sequences of {length} were selected. "
    else:
        text = f"{usable:,} images were usable and different from one another. "
    if report.strategies is not None:
        text += _removed_before(report.strategies)
    if not counts.selected:
        return text + ("It was not selected." if usable == 1 else "None of them was selected.")
    chosen = "it" if usable == 1 else f"{percent(counts.selected, usable)} of them"
    text += f"{_chooser(report)} chose {chosen}; {stopped(report)}."
    lost = counts.inventory - counts.embedded
    are = "is listed with its reason" if lost == 1 else "are listed with their reasons"
    return text + (f" {lost:,} could not be used and {are}." if lost else "")


def _chooser(report: Report) -> str:
    n = len(report.strategies.facts.lines) if report.strategies is not None else 0
    if not n:
        return f"The {report.given.config.method.value} method"
    return "The strategy" if n == 1 else f"The {n:,} strategies together"


def stopped(report: Report) -> str:
    """Return why the selection ended, as a clause."""
    reason = report.given.selection.stopped_by
    if reason == "all" and report.given.config.selected_sequence_length > 1:
        return "every sequence that was left to choose from was selected"
    if reason == "all" and report.strategies is not None:
        return "every image that was left to choose from was selected"
    return STOPPED.get(reason, reason)


def _removed_before(made: StrategyReport) -> str:
    """Return what was removed before anything was picked, as a sentence."""
    parts = []
    if n := len(made.facts.thresholded):
        parts.append(f"thresholds removed {n:,} of them")
    if n := made.n_near_duplicates:
        parts.append(f"{n:,} {'is a near duplicate' if n == 1 else 'are near duplicates'}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}. " if text else ""


def nothing_left_out(report: Report) -> str:
    """Return a sentence instead of a section when no image was lost, or none was a duplicate."""
    counts = report.given.counts
    words = []
    if counts.inventory == counts.embedded:
        words.append("Every image of the inventory was read and decoded.")
    if not counts.duplicate and report.given.config.selected_sequence_length == 1:
        words.append("No two images show exactly the same.")
    return " ".join(words)


def chosen_words(report: Report, n_shown: int) -> str:
    """Return which of the selected images are shown, and what the number below each is."""
    total = len(report.sets.selected)
    which = "All of them" if n_shown == total else f"The first {n_shown} of {total:,}"
    words = f"{which}, in the order in which they were chosen"
    distances = report.given.selection.distances
    if report.strategies is not None and not np.isfinite(distances).any():
        return words
    return f"{words}, with the distance to the nearest one chosen before"


def sums(report: Report) -> list[Line]:
    """Return the sums that hold for every finished run, without outcomes that did not occur."""
    counts = report.given.counts
    total = counts.inventory

    def line(label: str, count: int, level: int, kind: str = "") -> Line:
        return Line(label, count, percent(count, total), level, kind)

    lost = [
        line(label, count, 1, "lost")
        for label, count in (
            ("corrupt: cannot be decoded", counts.corrupt),
            ("gone: deleted before they were read", counts.gone),
            ("failed: storage did not deliver them", counts.failed),
            ("unreadable: cannot be named or opened", counts.unreadable),
        )
        if count
    ]
    return [
        line("Images found", total, 0),
        *lost,
        line("Embedded", counts.embedded, 0),
        line("exact duplicates", counts.duplicate, 1, "duplicate"),
        *(line(label, count, 1, "removed") for label, count in _removed(report)),
        line("selected", counts.selected, 1, "selected"),
    ]


def _removed(report: Report) -> list[tuple[str, int]]:
    """Return what became of the images that were neither selected nor exact duplicates."""
    made, removed = report.strategies, report.given.counts.removed
    stood_for = "removed: a selected image stands for them"
    if made is None:
        return [(stood_for, removed)]
    before = (
        ("removed by thresholds", len(made.facts.thresholded)),
        ("near duplicates: another image stands for them", made.n_near_duplicates),
    )
    lines = [(label, count) for label, count in before if count]
    rest = "not picked" if made.facts.lines else stood_for
    return [*lines, (rest, removed - sum(count for _, count in lines))]


def flow(report: Report) -> list[Line]:
    """Return what the images found became, as parts of one bar; empty parts are left out."""
    counts = report.given.counts
    lost = counts.inventory - counts.embedded
    parts = (
        ("Selected", counts.selected, "selected"),
        ("Removed", counts.removed, "removed"),
        ("Duplicates", counts.duplicate, "duplicate"),
        ("Not usable", lost, "lost"),
    )
    return [
        Line(label, count, percent(count, counts.inventory), 1, kind)
        for label, count, kind in parts
        if count
    ]


def cards(report: Report) -> list[Card]:
    counts, facts = report.given.counts, report.given.facts
    usable = counts.selected + counts.removed
    chosen, drawn = report.statistics.covering.selected, report.statistics.covering.random
    saved = report.savings["objectDetection"]
    embed = facts.timings.get(Stage.EMBED)
    rate = f"embedding {_rate(embed.samples, embed.seconds)}" if embed else ""
    return [
        Card(
            "To label", f"{counts.selected:,}", f"{percent(counts.selected, usable)} of all usable"
        ),
        Card(
            "Worst covered image",
            f"{chosen.max:.2f}" if chosen.n else "—",
            f"from the nearest selected one; a random choice: {drawn.max:.2f}"
            if chosen.n
            else "nothing was selected",
        ),
        Card("Run, up to this report", duration(facts.finished - facts.started), rate),
        Card(
            "Saved on boxes",
            dollars(saved.dollars),
            f"and {kilograms(saved.kilograms_co2)} CO₂, estimated",
        ),
    ]


def _rate(samples: int, seconds: float) -> str:
    if not samples or seconds <= 0:
        return "—"
    rate = samples / seconds
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"


def stages(report: Report) -> list[tuple[str, str, str, str]]:
    """Return stage, samples, time, rate; of this process, which may have resumed an earlier one."""
    names = {
        Stage.LIST: "List",
        Stage.MODEL: "Load the model",
        Stage.TRAIN: "Read and train",
        Stage.EMBED: "Embed" if report.given.training else "Read and embed",
        Stage.PRETAG: "Detect objects",
        Stage.CROPS: "Embed crops",
        Stage.SELECT: "Select",
        Stage.REPORT: "Report",
    }
    timings = report.given.facts.timings
    return [
        (
            name,
            f"{timings[stage].samples:,}" if timings[stage].samples else "—",
            duration(timings[stage].seconds),
            _rate(timings[stage].samples, timings[stage].seconds),
        )
        for stage, name in names.items()
        if stage in timings
    ]


def savings_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Return task, price per image, saved dollars, saved CO2."""
    return [
        (
            saved.task.name,
            f"${saved.task.dollars:.3f}",
            dollars(saved.dollars),
            kilograms(saved.kilograms_co2),
        )
        for saved in report.savings.values()
    ]


def reading(report: Report) -> str:
    """Return how the bytes were read, and how many other files lay there."""
    facts = report.given.facts
    parts = []
    if facts.bytes_read:
        parts.append(f"{size(facts.bytes_read)} read")
    if facts.read_through:
        ways = {
            "object": "directly from the object store",
            "mount": "through the mount",
            "directory": "from the directory",
        }
        parts.append(ways.get(facts.read_through, f"through {facts.read_through}"))
    text = " ".join(parts)
    embed = facts.timings.get(Stage.EMBED)
    if embed and embed.samples < report.given.counts.embedded:
        text += "; the run was resumed, times are those of its last part" if text else ""
    if facts.other_files:
        were = "was no image" if facts.other_files == 1 else "were no images"
        text += f"; {counted(facts.other_files, 'other file')} {were}" if text else ""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


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


def failure_counts(report: Report) -> list[tuple[str, int, str]]:
    """Return outcome, how many, and the file that lists them all."""
    counted = Counter(failure.outcome for failure in report.given.failures)
    return [
        (outcome.value, counted[outcome], f"filenames/{name}")
        for outcome, name in FILES.items()
        if counted[outcome]
    ]


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


def same(duplicate: Duplicate) -> str:
    """Return in which way a duplicate is one."""
    known = {"content": "Same bytes", "pixels": "Same pixels, other bytes"}
    return known.get(duplicate.reason, duplicate.reason)


def duplicates_words(report: Report) -> str:
    total, shown = report.given.counts.duplicate, len(report.duplicates)
    some = f" The first {shown} of them:" if shown < total else ""
    show = f"{counted(total, 'image')} {'shows' if total == 1 else 'show'}"
    return (
        f"{show} exactly what an earlier one shows, which stands for it; "
        f"all are listed in filenames/duplicate_filenames.txt.{some}"
    )
