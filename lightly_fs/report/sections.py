"""The parts of a report that only a selection by strategies has, for the PDF and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightly_fs.report.blocks import Block, Section
from lightly_fs.report.build import Report
from lightly_fs.report.charts import Drawing
from lightly_fs.report.object_words import invalid_blocks, near_duplicate_blocks, objects_section
from lightly_fs.report.strategy_words import how_section, inputs_section


@dataclass(frozen=True, slots=True)
class Sections:
    """Attributes: `left_out` goes on what exact duplicates and failures began."""

    how: Sequence[Section] = ()
    looked_at: Sequence[Section] = ()
    left_out: Sequence[Block] = ()


def sections(report: Report, figures: Mapping[str, Drawing]) -> Sections:
    """Return what is active; nothing at all for a selection by `method`."""
    made = report.strategies
    if made is None:
        return Sections()
    how = how_section(report, made)
    looked_at = (inputs_section(made), objects_section(report, made, figures))
    return Sections(
        how=() if how is None else (how,),
        looked_at=tuple(section for section in looked_at if section is not None),
        left_out=(*near_duplicate_blocks(report, made), *invalid_blocks(made)),
    )
