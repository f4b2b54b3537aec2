"""Why a sample was selected: what each strategy made of it when it was picked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.csv as pv
from numpy.typing import NDArray

from lightly_fs.artifacts import Results, RunDir
from lightly_fs.artifacts.lists import FOLDER, SELECTED, parse_list
from lightly_fs.artifacts.results import OBJECTIVES

_OTHERS = ("filename", "distance", "product")
"""Columns that are no strategy's."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What was known of each selected sample when it was picked.

    Attributes:
        filenames: K samples in the order they were picked.
        strategies: S lines; none where a method selected.
        distances: (K,) L2 distance to the nearest sample picked before; inf for the first.
        objectives: (K, S) what each strategy made of the sample, 1e-6 to 1, before its strength.
        product: (K,) the objectives to the power of their strengths, multiplied: what decided.
    """

    filenames: Sequence[str]
    strategies: Sequence[str]
    distances: NDArray[np.float32]
    objectives: NDArray[np.float64]
    product: NDArray[np.float64]

    def of(self, filename: str) -> dict[str, Any] | None:
        """Return what made one sample win, or None when it was not selected."""
        if filename not in self.filenames:
            return None
        place = list(self.filenames).index(filename)
        distance = float(self.distances[place])
        return {
            "filename": filename,
            "picked": place + 1,
            "of": len(self.filenames),
            "distance": distance if np.isfinite(distance) else None,
            "objectives": dict(
                zip(self.strategies, map(float, self.objectives[place]), strict=True)
            ),
            "product": float(self.product[place]),
        }


def explanation(results: Results) -> Explanation:
    """Return what the selection of this process was made by."""
    names, record = results.names(results.selected), results.record
    distances = results.selection.distances
    if record is None:
        return _by_method(names, distances)
    return Explanation(names, record.strategies, distances, record.objectives, record.product)


def _by_method(names: Sequence[str], distances: NDArray[np.float32]) -> Explanation:
    return Explanation(names, (), distances, np.empty((len(names), 0)), np.ones(len(names)))


def read_explanation(run_dir: RunDir) -> Explanation:
    """Return what a finished run wrote down of its selection."""
    files = run_dir.output.below(run_dir.folder)
    names = parse_list((files.read(f"{FOLDER}/{SELECTED}") or b"").decode())
    data = files.read(OBJECTIVES)
    if data is None:
        return _by_method(names, np.full(len(names), np.inf, np.float32))
    parse = pv.ParseOptions(newlines_in_values=True)
    table = pv.read_csv(io.BytesIO(data), parse_options=parse)
    strategies = [name for name in table.column_names if name not in _OTHERS]
    columns = {
        name: table[name].to_numpy().astype(np.float64) for name in (*strategies, *_OTHERS[1:])
    }
    objectives = np.stack([columns[name] for name in strategies], axis=1)
    distances = columns["distance"].astype(np.float32)
    return Explanation(names, strategies, distances, objectives, columns["product"])
