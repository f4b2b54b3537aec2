"""What a report says in words and tables, for the PDF and the page alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

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
from lightly_fs.report.statistics import Comparison, Distribution
from lightly_fs.types import Duplicate, Outcome, Stage

FILES = {
    Outcome.CORRUPT: "corrupt_filenames.txt",
    Outcome.GONE: "gone_filenames.txt",
    Outcome.FAILED: "failed_filenames.txt",
    Outcome.UNREADABLE: "unreadable_filenames.txt",
}
"""The list of each outcome in the run's `filenames/`."""


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
    counts, method = report.given.counts, report.given.config.method
    usable = counts.selected + counts.removed
    stopped = {
        "n_samples": "the number of samples that was asked for was reached",
        "min_distance": "every other image is closer than the minimum distance to a selected one",
        "all": "every usable image was selected",
    }.get(report.given.selection.stopped_by, report.given.selection.stopped_by)
    if usable == 1:
        text = "1 image was usable. "
    else:
        text = f"{usable:,} images were usable and different from one another. "
    if not counts.selected:
        return text + ("It was not selected." if usable == 1 else "None of them was selected.")
    chosen = "it" if usable == 1 else f"{percent(counts.selected, usable)} of them"
    text += f"The {method.value} method chose {chosen}; {stopped}."
    lost = counts.inventory - counts.embedded
    are = "is listed with its reason" if lost == 1 else "are listed with their reasons"
    return text + (f" {lost:,} could not be used and {are}." if lost else "")


def nothing_left_out(report: Report) -> str:
    """Return a sentence instead of a section when no image was lost, or none was a duplicate."""
    counts = report.given.counts
    words = []
    if counts.inventory == counts.embedded:
        words.append("Every image of the inventory was read and decoded.")
    if not counts.duplicate:
        words.append("No two images show exactly the same.")
    return " ".join(words)


def chosen_words(report: Report, n_shown: int) -> str:
    """Return which of the selected images are shown, and what the number below each is."""
    total = len(report.sets.selected)
    which = "All of them" if n_shown == total else f"The first {n_shown} of {total:,}"
    return (
        f"{which}, in the order in which they were chosen, with the distance to the nearest one "
        "chosen before"
    )


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
        line("removed: a selected image stands for them", counts.removed, 1, "removed"),
        line("selected", counts.selected, 1, "selected"),
    ]


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


def distance_rows(report: Report) -> list[tuple[str, ...]]:
    """Return #, mean, min, 10th percentile, 90th percentile, max of pairwise distances by set."""
    compared, sets = report.statistics.pairwise, report.sets
    rows: list[tuple[str, Distribution | None, int]] = [
        ("Before: candidates", compared.input, sets.n),
        ("After: selected", compared.selected, len(sets.selected)),
        ("Random, same size", compared.random, len(sets.random)),
    ]
    return [
        (
            label,
            f"{n:,}",
            *(
                f"{getattr(made, key):.3f}" if made is not None and made.n else "—"
                for key in ("mean", "min", "p10", "p90", "max")
            ),
        )
        for label, made, n in rows
    ]


def set_rows(report: Report) -> list[tuple[str, ...]]:
    """Return quantity, set, measured, mean, median, max of the two nearest-distance statistics."""
    statistics = report.statistics
    rows: list[tuple[str, ...]] = []
    for quantity, compared in (
        ("To the nearest neighbour in the set", statistics.neighbour),
        ("From a candidate to the set", statistics.covering),
    ):
        for label, made in (
            ("candidates", compared.input),
            ("selected", compared.selected),
            ("random", compared.random),
        ):
            if made is not None and made.n:
                values = (f"{value:.3f}" for value in (made.mean, made.median, made.p90, made.max))
                rows.append((f"{quantity}: {label}", f"{made.n:,}", *values))
    return rows


def findings(report: Report) -> dict[str, str]:
    """Return what one sees in each chart, in a sentence with its numbers."""
    statistics = report.statistics
    measured = "measured " if statistics.covering.n_measured else ""
    return {
        "neighbour": _versus(
            statistics.neighbour,
            "Half of the selected images are {0} or more away from any other selected one; "
            "in a random choice of the same size {1}.",
            "median",
            "Fewer than two images were selected: they have no neighbours.",
        ),
        "covering": _versus(
            statistics.covering,
            f"No {measured}image is farther than {{0}} from a selected one; a random choice of "
            "the same size leaves one that is {1} away.",
            "max",
            "Nothing was selected that could stand for the other images.",
        ),
        "pairwise": _versus(
            statistics.pairwise,
            "The nine in ten selected pairs that differ most are at least {0} apart, those of a "
            "random choice {1}.",
            "p10",
            "Fewer than two images were selected: there are no pairs.",
        ),
    }


def _versus(compared: Comparison, text: str, key: str, empty: str) -> str:
    if not compared.selected.n:
        return empty
    return text.format(
        f"{getattr(compared.selected, key):.2f}", f"{getattr(compared.random, key):.2f}"
    )


def configuration(config: RunConfig) -> list[tuple[str, str, bool]]:
    """Return key, value and whether it differs from the default, of every key that counts."""
    defaults = dict(_flat(RunConfig.model_validate({}).model_dump(mode="json")))
    return [
        (key, "—" if value in ("", "null") else without_secrets(value), value != defaults.get(key))
        for key, value in _flat(config.model_dump(mode="json"))
        if config.enable_training or not key.startswith("lightly.")
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


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
