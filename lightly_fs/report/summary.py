"""What a report says in words and tables, for the PDF and the page alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from lightly_fs.report.build import Report
from lightly_fs.report.fates import LOOKS, Fate
from lightly_fs.report.lettering import (
    counted,
    dollars,
    duration,
    kilograms,
    percent,
    size,
)
from lightly_fs.types import Counts, Duplicate, Outcome, Stage

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
    if counts.images and counts.images < counts.inventory:
        # Of both: "50 of 40 images and 200 frames selected" reads as if 50 were of the 40.
        return f"{chosen} selected of {found(counts)}"
    return f"{chosen} of {found(counts)} selected"


def found(counts: Counts) -> str:
    """Return what a run is about: `120 images`, `1,241 frames of 3 videos`, or both."""
    videos = counted(counts.videos + counts.unusable_videos, "video")
    parts = [counted(counts.images, "image")] if counts.images else []
    if counts.images < counts.inventory:
        parts.append(f"{counted(counts.frames, 'frame')} of {videos}")
    return " and ".join(parts) or "0 images"


def noun(counts: Counts) -> str:
    """Return what a sample of the run is called: a frame where there are no images."""
    return "frame" if counts.frames and not counts.images else "image"


def lead(report: Report) -> str:
    """Return the run in two or three sentences."""
    counts = report.given.counts
    usable = counts.selected + counts.removed
    if usable == 1:
        text = f"1 {noun(counts)} was usable. "
    elif (length := report.given.config.selected_sequence_length) > 1:
        text = f"{usable:,} {noun(counts)}s were usable; sequences of {length} were selected. "
    else:
        text = f"{usable:,} {noun(counts)}s were usable and different from one another. "
    text += _removed_before(report)
    if not counts.selected:
        none = "It was not selected." if usable == 1 else "None of them was selected."
        return text + none + _with_datapool(report)
    chosen = "it" if usable == 1 else f"{percent(counts.selected, usable)} of them"
    text += f"{_chooser(report)} chose {chosen}; {stopped(report)}."
    lost = counts.samples - counts.embedded
    are = "is listed with its reason" if lost == 1 else "are listed with their reasons"
    text += f" {lost:,} could not be used and {are}." if lost else ""
    return text + _with_datapool(report)


def _with_datapool(report: Report) -> str:
    """Return what is selected of the datapool now, as a sentence."""
    earlier, selected = report.given.preselected, report.given.counts.selected
    if earlier is None:
        return ""
    if not len(earlier):
        return " They are the first of the datapool." if selected else ""
    return (
        f" With {len(earlier):,} that the datapool had selected before, "
        f"{selected + len(earlier):,} are selected now."
    )


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


def _removed_before(report: Report) -> str:
    """Return what was removed before anything was picked, as a sentence."""
    parts = []
    if n := count_of(report, Fate.THRESHOLDED):
        parts.append(f"thresholds removed {n:,} of them")
    if n := count_of(report, Fate.NEAR_DUPLICATE):
        parts.append(f"{n:,} {'is a near duplicate' if n == 1 else 'are near duplicates'}")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}. " if text else ""


def nothing_left_out(report: Report) -> str:
    """Return a sentence instead of a section when no image was lost, or none was a duplicate."""
    counts = report.given.counts
    words = []
    whole = not any(one.facts.problem for one in report.given.videos)
    if counts.samples == counts.embedded and whole:
        words.append(f"Every {noun(counts)} of the inventory was read and decoded.")
    if not counts.duplicate and report.given.config.selected_sequence_length == 1:
        words.append("No two images show exactly the same.")
    return " ".join(words)


def chosen_words(report: Report, n_shown: int) -> str:
    """Return which of the selected images are shown, and what the number below each is."""
    length = report.given.config.selected_sequence_length
    total = len(report.sets.selected) // length
    which = "All of them" if n_shown == total else f"The first {n_shown} of {total:,}"
    if length > 1:
        some = "every one" if n_shown == total else f"the first {n_shown}"
        which = f"Of {counted(total, 'sequence')} of {length} images, the first image of {some}"
    words = f"{which}, in the order in which they were chosen"
    if report.strategies is not None and not np.isfinite(report.distances).any():
        return words
    return f"{words}, with the distance to the nearest one chosen before"


def first_words(report: Report) -> str:
    """Return what the first page calls the pictures of what was selected first."""
    length = report.given.config.selected_sequence_length
    one = noun(report.given.counts)
    what = f"{one}s to label" if length == 1 else f"sequences to label, {_a(one)} of each"
    return f"The first {what}"


def _a(noun: str) -> str:
    return f"an {noun}" if noun == "image" else f"a {noun}"


def sums(report: Report) -> list[Line]:
    """Return the sums that hold for every finished run, without outcomes that did not occur."""
    counts = report.given.counts
    total = counts.samples

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
        line(_found(counts), total, 0),
        *lost,
        line("Embedded", counts.embedded, 0),
        line("exact duplicates", counts.duplicate, 1, "duplicate"),
        *(line(label, count, 1, LOOKS[fate].kind) for fate, label, count in _removed(report)),
        line("selected", counts.selected, 1, "selected"),
    ]


def _found(counts: Counts) -> str:
    if not counts.videos:
        return "Images found"
    return "Images and frames found" if counts.images else "Frames found"


_REMOVED = {
    Fate.THRESHOLDED: "removed by thresholds",
    Fate.NEAR_DUPLICATE: "near duplicates: another image stands for them",
    Fate.LEFT_OVER: "left over: shorter than a sequence",
}


def _removed(report: Report) -> list[tuple[Fate, str, int]]:
    """Return what became of the images that were neither selected nor exact duplicates."""
    made, removed = report.strategies, report.given.counts.removed
    found = [(fate, label, count_of(report, fate)) for fate, label in _REMOVED.items()]
    found = [each for each in found if each[2]]
    by_strategies = made is not None and made.facts.lines
    rest = "not chosen" if by_strategies else "not chosen: a selected image stands for them"
    return [*found, (Fate.NOT_CHOSEN, rest, removed - sum(count for *_, count in found))]


def count_of(report: Report, fate: Fate) -> int:
    """Return how many candidates became this."""
    return int((report.fates == fate).sum())


_PARTS = {
    Fate.NOT_CHOSEN: "Not chosen",
    Fate.LEFT_OVER: "In no whole sequence",
    Fate.NEAR_DUPLICATE: "Near duplicates",
    Fate.THRESHOLDED: "Removed by thresholds",
}


def flow(report: Report) -> list[Line]:
    """Return what the images found became, as parts of one bar; empty parts are left out."""
    counts = report.given.counts
    removed = _removed(report)
    parts = (
        ("Selected", counts.selected, "selected"),
        *((_PARTS[fate], count, LOOKS[fate].kind) for fate, _, count in reversed(removed)),
        ("Exact duplicates", counts.duplicate, "duplicate"),
        ("Not usable", counts.samples - counts.embedded, "lost"),
    )
    return [
        Line(label, count, percent(count, counts.samples), 1, kind)
        for label, count, kind in parts
        if count
    ]


def cards(report: Report) -> list[Card]:
    counts, facts = report.given.counts, report.given.facts
    usable = counts.selected + counts.removed
    chosen, drawn = report.statistics.covered.selected, report.statistics.covered.random
    saved = report.savings["objectDetection"]
    embed = facts.timings.get(Stage.EMBED)
    # Without anything new there is no random choice of the same size.
    random = f"; a random choice: {drawn.max:.2f}" if counts.selected else ""
    now = ", now or earlier" if report.statistics.gaps is not None else ""
    rate = f"embedding {_rate(embed.samples, embed.seconds)}" if embed else ""
    return [
        Card(
            "To label", f"{counts.selected:,}", f"{percent(counts.selected, usable)} of all usable"
        ),
        Card(
            "Worst covered image",
            f"{chosen.max:.2f}" if chosen.n else "—",
            f"from the nearest selected one{now}{random}" if chosen.n else "nothing was selected",
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


def failure_counts(report: Report) -> list[tuple[str, int, str]]:
    """Return outcome, how many, and the file that lists them all."""
    counted = Counter(failure.outcome for failure in report.given.failures)
    return [
        (outcome.value, counted[outcome], f"filenames/{name}")
        for outcome, name in FILES.items()
        if counted[outcome]
    ]


def same(duplicate: Duplicate) -> str:
    """Return in which way a duplicate is one."""
    known = {"content": "Same bytes", "pixels": "Same pixels, other bytes"}
    return known.get(duplicate.reason, duplicate.reason)


def duplicates_words(report: Report) -> str:
    total, shown = report.given.counts.duplicate, len(report.duplicates)
    some = f" The first {shown} of them:" if shown < total else ""
    show = f"{counted(total, noun(report.given.counts))} {'shows' if total == 1 else 'show'}"
    return (
        f"{show} exactly what an earlier one shows, which stands for it; "
        f"all are listed in filenames/duplicate_filenames.txt.{some}"
    )
