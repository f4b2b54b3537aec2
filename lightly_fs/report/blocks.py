"""The parts of a section that the PDF and the page show alike: words, tables, charts, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightly_fs.report.thumbnails import Pixels


@dataclass(frozen=True, slots=True)
class Foreign:
    """Text that is not ours (a name, a reason): escaped, and of bounded width in the PDF.

    `before` are words of ours in front of it.
    """

    text: str
    width: int = 40
    before: str = ""


Cell = str | Foreign


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph; a `small` one is a remark."""

    text: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, and the name of what it is about."""

    text: str
    about: Foreign | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head; the first `n_left` columns are text, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    n_left: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart by its name in `plots/`, with what it is of and what one sees."""

    name: str
    caption: str
    title: Cell = ""


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts beside one another, one or two to a line."""

    charts: Sequence[Chart]
    columns: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Photo:
    """A picture, or the filename of a thumbnail, and what stands below it."""

    picture: Pixels | str
    name: Foreign
    note: str = ""


@dataclass(frozen=True, slots=True)
class Photos:
    """Pictures, so many to a line, all on one page; `whole` ones are not cropped to one shape."""

    photos: Sequence[Photo]
    columns: int
    height: float
    """Millimetres on paper."""
    whole: bool = False


Block = Words | Heading | Table | Charts | Photos


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report; `key` is its anchor, `short` what the page's navigation calls it."""

    key: str
    title: str
    short: str
    blocks: Sequence[Block]
