"""The parts of a report that only some runs have, for the PDF and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightly_fs.report.blocks import Block, Section
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.datapool_words import datapool_section
from lightly_fs.report.object_words import invalid_blocks, near_duplicate_blocks, objects_section
from lightly_fs.report.strategy_words import how_section, inputs_section
from lightly_fs.report.video_words import damaged_blocks, videos_section


@dataclass(frozen=True, slots=True)
class Sections:
    """Attributes: `left_out` goes on what exact duplicates and failures began."""

    how: Sequence[Section] = ()
    looked_at: Sequence[Section] = ()
    left_out: Sequence[Block] = ()


def sections(report: Report, figures: Mapping[str, Drawing]) -> Sections:
    """Return what there is: a datapool, strategies, videos."""
    made = report.strategies
    how: list[Section | None] = [datapool_section(report)]
    looked_at: list[Section | None] = [videos_section(report, figures)]
    left_out = [*damaged_blocks(report)]
    if made is not None:
        how.append(how_section(report, made))
        looked_at += [inputs_section(made), objects_section(report, made, figures)]
        left_out += [*near_duplicate_blocks(report, made), *invalid_blocks(made)]
    return Sections(
        how=[section for section in how if section is not None],
        looked_at=[section for section in looked_at if section is not None],
        left_out=left_out,
    )
