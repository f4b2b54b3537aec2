"""What a report says of a datapool: charts, words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightly_fs.config.run import CoresetMethod
from lightly_fs.report.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Foreign,
    Heading,
    Photo,
    Photos,
    Section,
    Table,
    Words,
)
from lightly_fs.report.build import Report
from lightly_fs.report.datapool import DatapoolFacts, DatapoolReport
from lightly_fs.report.datapool_figures import ADDED, GAPS
from lightly_fs.report.frames import caption
from lightly_fs.report.lettering import counted, percent
from lightly_fs.types import frame_of


def datapool_section(report: Report) -> Section | None:
    """Return what a datapool held and what the run added; None where it had selected nothing."""
    facts, earlier = report.given.datapool, report.given.preselected
    if not (earlier or (facts is not None and facts.selected_before)):
        return None
    blocks: list[Block] = [Words(_words(report))]
    blocks += _tables(report)
    if report.datapool is not None:
        blocks += _gaps(report.datapool)
        blocks += _farthest(report, report.datapool)
    return Section("datapool", "What was new to the datapool", "Datapool", blocks)


def _words(report: Report) -> str:
    given, facts = report.given, report.given.datapool
    n, before = len(report.sets.selected), _before(report)
    added, differ = counted(n, "sample"), "it differs" if n == 1 else "they differ"
    if facts is not None and facts.process_all:
        text = (
            f"Everything was processed and decided anew: {added} replace "
            f"{facts.selected_before:,} that were selected before."
        )
    elif not before:
        text = "Everything that had been selected before is of files that changed since."
    elif given.strategies is None and given.config.method is CoresetMethod.CORESET and n:
        text = (
            f"{added} {'was' if n == 1 else 'were'} chosen because of how {differ} from {before:,} "
            "that earlier runs had selected, and from one another."
        )
    else:
        text = f"{added} joined {before:,} that earlier runs had selected."
    if not given.config.datasource.enable_datapool_update:
        text += " The datapool itself was left as it was (datasource.enable_datapool_update)."
    return text


def _before(report: Report) -> int:
    return 0 if report.given.preselected is None else len(report.given.preselected)


def _tables(report: Report) -> Iterator[Block]:
    facts, before, added = report.given.datapool, _before(report), len(report.sets.selected)
    rows: list[Sequence[Cell]] = []
    if facts is not None:
        rows.append(["Selected before", f"{facts.selected_before:,}"])
        if again := facts.selected_before - before:
            why = "everything was" if facts.process_all else "of files that changed,"
            rows.append([f"{why} decided anew".capitalize(), f"−{again:,}"])  # noqa: RUF001
    else:
        rows.append(["Selected before", f"{before:,}"])
    rows += [["Added by this run", f"+{added:,}"], ["Selected now", f"{before + added:,}"]]
    yield Table(["Samples of the datapool", ""], rows)
    if facts is not None:
        yield _files(facts)


def _files(facts: DatapoolFacts) -> Table:
    rows: list[Sequence[Cell]] = [
        ["New to the datapool", f"{facts.new:,}"],
        ["Changed since they were processed", f"{facts.changed:,}"],
        [
            "Known already" + ("" if facts.process_all else ", not processed again"),
            f"{facts.known:,}",
        ],
        ["Remembered, but deleted from the input", f"{facts.deleted:,}"],
    ]
    return Table(["Files of the input", ""], rows)


def _earlier(filename: str) -> str:
    """Return what a sample of the datapool is called; its videos need not be among this run's."""
    frame = frame_of(filename)
    return filename if frame is None else f"{frame[0]} frame {frame[1]}"


def _gaps(made: DatapoolReport) -> Iterator[Block]:
    before, after, added = made.before, made.after, made.added
    yield Heading("Which gaps were filled")
    words = "Nothing was added."
    if added.n:
        words = (
            f"Half of the added samples are {added.median:.2f} or more away from all that was "
            f"selected before, the farthest {added.max:.2f}."
        )
    gaps = (
        f"A candidate was up to {before.max:.2f} away from what was selected before, on average "
        f"{before.mean:.2f}; now it is up to {after.max:.2f} and {after.mean:.2f}. "
        "Dashed: the largest distance, before and after."
    )
    if before.max > 0:
        gaps += f" The largest gap is {percent(before.max - after.max, before.max)} smaller."
    yield Charts([Chart(ADDED, words, "How new the added samples are"),
                  Chart(GAPS, gaps, "How well the candidates are covered")], columns=2)  # fmt: skip


def _farthest(report: Report, made: DatapoolReport) -> Iterator[Block]:
    if not made.farthest:
        return
    given = report.given
    yield Heading("The newest")
    yield Words(
        "The added samples that differ most from all that was selected before; below each its "
        "distance, its name and which of these is nearest to it."
    )
    photos = [
        Photo(
            given.filenames[one.row],
            Foreign(caption(given, one.row), 26),
            f"{one.distance:.3f}",
        )
        for one in made.farthest
    ]
    yield Photos(photos, columns=6, height=22)
    rows: list[Sequence[Cell]] = [
        [
            Foreign(caption(given, one.row), 50),
            Foreign(_earlier(one.name), 50),
            f"{one.distance:.3f}",
        ]
        for one in made.farthest
    ]
    yield Table(["Added", "Nearest of those selected before", "Distance"], rows, n_left=2)
