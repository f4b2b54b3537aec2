"""What became of each candidate: told apart in the counts, on the maps and below the examples."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lightly_fs.report.charts import INPUT, SELECTED
from lightly_fs.report.selection import SelectionFacts


class Fate(IntEnum):
    """In the order in which they are drawn over one another: the selected ones on top."""

    NOT_CHOSEN = 0
    THRESHOLDED = 1
    NEAR_DUPLICATE = 2
    LEFT_OVER = 3
    SELECTED = 4


@dataclass(frozen=True, slots=True)
class Looks:
    """How a fate is called and drawn.

    Attributes:
        kind: Name of its colour in the document and the page.
        colour: Of Okabe and Ito 2008, told apart with every colour vision, beside a grey.
        marker: Its shape on a map, so that colour is not all that tells.
        scale: Area of the marker over that of a dot.
    """

    label: str
    kind: str
    colour: str
    marker: str
    scale: float


LOOKS = {
    Fate.NOT_CHOSEN: Looks("Not chosen", "removed", INPUT, "o", 1.0),
    Fate.THRESHOLDED: Looks("Removed by a threshold", "thresholded", "#E69F00", "X", 1.8),
    Fate.NEAR_DUPLICATE: Looks("Near duplicate", "near", "#009E73", "^", 1.6),
    Fate.LEFT_OVER: Looks("In no whole sequence", "left-over", "#56B4E9", "s", 1.0),
    Fate.SELECTED: Looks("Selected", "selected", SELECTED, "o", 1.3),
}


def removal(fate: int, distance: float) -> str:
    """Return how far a candidate is from a selected one, and what removed it, if anything did."""
    words = f"Distance {distance:.3f}"
    return words if fate == Fate.NOT_CHOSEN else f"{words}, {LOOKS[Fate(fate)].label.lower()}"


def fates(
    n: int,
    selected: NDArray[np.int64],
    facts: SelectionFacts | None,
    left_over: NDArray[np.int64],
) -> NDArray[np.int8]:
    """Return the (N,) `Fate` of each candidate.

    Args:
        n: How many candidates there are.
        selected: Rows.
        facts: What thresholds and near duplicates removed.
        left_over: Rows that are in no whole sequence.
    """
    found = np.full(n, Fate.NOT_CHOSEN, np.int8)
    found[left_over] = Fate.LEFT_OVER
    if facts is not None:
        if facts.near_duplicates is not None:
            found[facts.near_duplicates[0]] = Fate.NEAR_DUPLICATE
        found[facts.thresholded] = Fate.THRESHOLDED
    found[selected] = Fate.SELECTED
    return found
