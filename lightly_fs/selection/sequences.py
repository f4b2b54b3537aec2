"""Select sequences instead of samples: `selected_sequence_length` consecutive ones at a time.

`sequences_of` cuts videos and folders into sequences, `reduced` makes one candidate of each, and
`expanded` turns the picks among those back into samples. Removing duplicates beforehand tears holes
into sequences, so the caller has to leave that out.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lightly_fs.artifacts.sequences import SelectedSequence
from lightly_fs.errors import ConfigError
from lightly_fs.selection.pool import (
    Categorical,
    Distributions,
    Embeddings,
    Input,
    Numeric,
    ObjectEmbeddings,
    Pool,
    members_of,
)
from lightly_fs.types import Selection, frame_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightly_fs.selection.choose import Chosen

SHORTER = "shorter than a sequence"
"""Why a sample is in no sequence: what is left of its video or folder is too short for one."""

_UNIT = 1e-3
_Picks = TypeVar("_Picks", "Chosen", Selection)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Samples in groups of consecutive ones.

    Attributes:
        rows: (S, L) int64 samples of each sequence, in their order; no sample is in two.
        left_out: (K,) int64 samples that are in none, ascending; `SHORTER` says why.
    """

    rows: NDArray[np.int64]
    left_out: NDArray[np.int64]

    @property
    def length(self) -> int:
        return int(self.rows.shape[1])


def sequences_of(
    filenames: Sequence[str],
    length: int,
    taken: Mapping[str, NDArray[np.int64]] = MappingProxyType({}),
) -> Sequences:
    """Cut every video, and every folder of images, into sequences.

    Frames (`video-007-mp4.png`) are in the order of their indices, and consecutive as long as the
    none that was taken is missing between them: by `taken`, or else as long as the indices rise by
    the video's usual step. Where a frame is missing, a sequence ends. Other images
    are in the natural order of their names within their folder (`2.jpg` before `10.jpg`). What is
    left at the end, or before a missing frame, and is shorter than a sequence, is left out.

    Args:
        filenames: N unique names, in any order.
        length: L, samples per sequence.
        taken: By video, the ascending indices of the frames that were taken of it.

    Raises:
        ConfigError: Nothing is long enough for a single sequence.
    """
    runs = list(_runs(filenames, taken))
    found = [
        run[start : start + length]
        for run in runs
        for start in range(0, len(run) - length + 1, length)
    ]
    if filenames and not found:
        longest = max(map(len, runs))
        raise ConfigError(
            f"selected_sequence_length={length}, but the longest video or folder has "
            f"{longest} consecutive images",
            hint=f"selected_sequence_length={longest} or less",
        )
    rows = np.array(found, np.int64).reshape(-1, length)
    left_out = np.ones(len(filenames), np.bool_)
    left_out[rows] = False
    return Sequences(rows, np.flatnonzero(left_out).astype(np.int64))


def _runs(filenames: Sequence[str], taken: Mapping[str, NDArray[np.int64]]) -> Iterator[list[int]]:
    """Yield rows that are consecutive, video by video and folder by folder."""
    frames: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    images: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(filenames):
        found = frame_of(name)
        if found is None:
            images[posixpath.dirname(name)].append(row)
        else:
            frames[found[0]].append((found[1], name, row))
    for video in sorted(frames):
        yield from _without_gaps(sorted(frames[video]), taken.get(video))
    for folder in sorted(images):
        yield sorted(images[folder], key=lambda row: _natural(filenames[row]))


def _without_gaps(
    frames: Sequence[tuple[int, str, int]], taken: NDArray[np.int64] | None
) -> Iterator[list[int]]:
    places = np.array([index for index, _, _ in frames], np.int64)
    if taken is not None:
        places = np.searchsorted(taken, places)
    steps = Counter(np.diff(places).tolist())
    # Of equally usual steps the smallest: a gap is wider than what it interrupts.
    usual = min(steps, key=lambda step: (-steps[step], step), default=1)
    step = usual if taken is None else 1
    run = [frames[0][2]]
    for apart, frame in zip(np.diff(places).tolist(), frames[1:], strict=True):
        if apart != step:
            yield run
            run = []
        run.append(frame[2])
    yield run


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", posixpath.basename(name))
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def sequence_limit(n_samples: int | None, length: int, *, proportion: bool) -> int | None:
    """Return how many sequences `n_samples` samples are, or None for no limit.

    Args:
        n_samples: How many samples to select at most, as it was asked for.
        length: Samples per sequence.
        proportion: It was asked for as a share, and may be rounded down.

    Raises:
        ConfigError: A count that is no multiple of `length`.
    """
    if n_samples is None:
        return None
    whole, rest = divmod(n_samples, length)
    if rest and not proportion:
        near = [f"n_samples={count * length}" for count in (whole, whole + 1) if count]
        raise ConfigError(
            f"n_samples={n_samples} is no multiple of selected_sequence_length={length}",
            hint=" or ".join(near),
        )
    return whole


def reduced(pool: Pool, sequences: Sequences) -> Pool:
    """Return a pool with one candidate per sequence, called like its first sample.

    Embeddings are averaged, and scaled to unit length again where all of them have that; numbers
    are averaged; of classes the most frequent one counts (of several the first by name); amounts of
    classes add up; objects are those of all samples. Queries, and what is selected already, stay.
    """
    first = sequences.rows[:, 0].tolist()
    return replace(
        pool,
        filenames=[pool.filenames[row] for row in first],
        inputs={name: _reduced(given, sequences.rows) for name, given in pool.inputs.items()},
    )


def _reduced(given: Input, rows: NDArray[np.int64]) -> Input:
    match given:
        case Embeddings(vectors):
            return replace(given, vectors=_mean_vectors(vectors, rows))
        case ObjectEmbeddings(vectors, offsets):
            members, ends = members_of(offsets, rows.reshape(-1))
            return replace(given, vectors=vectors[members], offsets=ends[:: rows.shape[1]])
        case Numeric(values):
            return Numeric(np.asarray(values, np.float64)[rows].mean(axis=1))
        case Categorical(labels):
            return replace(given, labels=[_most_frequent([labels[i] for i in row]) for row in rows])
        case Distributions(_, amounts):
            return replace(given, amounts=np.asarray(amounts, np.float64)[rows].sum(axis=1))


def _mean_vectors(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    total = np.zeros((len(rows), vectors.shape[1]))
    for column in rows.T:  # the sum never holds more than one sample per sequence beside itself
        total += vectors[column]
    squared = np.einsum("nd,nd->n", vectors, vectors)
    if len(vectors) and (np.abs(squared - 1) < 2 * _UNIT).all():
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        np.divide(total, lengths, out=total, where=lengths > 0)
    else:
        total /= rows.shape[1]
    return total.astype(np.float32)


def _most_frequent(labels: Sequence[str]) -> str:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def expanded(chosen: _Picks, sequences: Sequences) -> _Picks:
    """Return picks among sequences as picks of their samples, those of a sequence together.

    What was true of a sequence when it was picked (objectives, distance) is so of its samples.

    Args:
        chosen: What was chosen from `reduced(pool, sequences)`.
        sequences: Whose rows the picks are.
    """
    length = sequences.length
    rows = sequences.rows[chosen.indices].reshape(-1)
    if isinstance(chosen, Selection):
        return Selection(rows, np.repeat(chosen.distances, length), chosen.stopped_by)
    distances = chosen.distances
    return replace(
        chosen,
        indices=rows,
        objectives=np.repeat(chosen.objectives, length, axis=0),
        distances=None if distances is None else np.repeat(distances, length),
        removed=np.sort(sequences.rows[chosen.removed].reshape(-1)),
        constant={place: _of_samples(one, sequences) for place, one in chosen.constant.items()},
    )


def _of_samples(values: NDArray[np.float64], sequences: Sequences) -> NDArray[np.float64]:
    """Return values of sequences as those of their samples, NaN for samples of none."""
    found = np.full(sequences.rows.size + len(sequences.left_out), np.nan)
    found[sequences.rows] = values[:, None]
    return found


def selected_sequences(filenames: Sequence[str], length: int) -> list[SelectedSequence]:
    """Return what `sequence_information.json` tells of a selection.

    Args:
        filenames: Selected samples in the order of `expanded`.
        length: Samples per sequence.
    """
    return [
        _described(filenames[start : start + length]) for start in range(0, len(filenames), length)
    ]


def _described(names: Sequence[str]) -> SelectedSequence:
    frames = [found for found in map(frame_of, names) if found is not None]
    if len(frames) < len(names):
        return SelectedSequence(names)
    return SelectedSequence(names, frames[0][0], [index for _, index in frames])
