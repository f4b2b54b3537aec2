"""The samples to choose from, and the named inputs that strategies look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lightly_fs.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 1e15
"""Squares of larger values, summed, may overflow float32."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """(N, D) float32 vectors of the candidates, (P, D) of the samples that are selected already."""

    vectors: NDArray[np.float32]
    preselected: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class ObjectEmbeddings:
    """Embeddings of the objects (or tiles) of each candidate: some, one or none.

    Attributes:
        vectors: (M, D) float32, those of the first candidate first.
        offsets: (N + 1,) int64; candidate i has the rows `offsets[i]` to `offsets[i + 1]`.
        preselected: (P, D) objects of the samples that are selected already.
    """

    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    preselected: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Numeric:
    """(N,) finite numbers: scores, metadata, counts, random numbers."""

    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Categorical:
    """N class names, and those of the samples that are selected already."""

    labels: Sequence[str]
    preselected: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Distributions:
    """(N, C) finite, non-negative amounts of each class in each sample, such as probabilities.

    Several objects in a sample add up. `preselected` is (P, C).
    """

    classes: Sequence[str]
    amounts: NDArray[np.float64]
    preselected: NDArray[np.float64] | None = None


Input = Embeddings | ObjectEmbeddings | Numeric | Categorical | Distributions
_AnyInput = TypeVar("_AnyInput", bound=Input)
_KINDS: dict[type, str] = {
    Embeddings: "embeddings",
    ObjectEmbeddings: "embeddings of objects",
    Numeric: "numeric",
    Categorical: "categorical",
    Distributions: "distributions",
}


@dataclass(frozen=True, eq=False)
class Pool:
    """N candidates.

    Attributes:
        filenames: N unique names; ties go to the first in code point order (that of UTF-8).
        inputs: What is known of each candidate, by name.
        queries: (Q, D) float32 embeddings to be similar to, by name.
    """

    filenames: Sequence[str]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    queries: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def get(self, name: str, kind: type[_AnyInput]) -> _AnyInput:
        """Return the input of that name.

        Raises:
            ConfigError: There is none, or it is of another kind.
        """
        found = self.inputs.get(name)
        if isinstance(found, kind):
            return found
        there = "missing" if found is None else _KINDS[type(found)]
        raise ConfigError(
            f"the input {name!r} should be {_KINDS[kind]} and is {there}",
            hint=f"inputs: {', '.join(sorted(self.inputs)) or 'none'}",
        )

    def query(self, name: str) -> NDArray[np.float32]:
        """Return the (Q, D) query of that name; a `ConfigError` when it is missing or empty."""
        found = self.queries.get(name)
        if found is None or not len(found):
            raise ConfigError(
                f"the query {name!r} is {'missing' if found is None else 'empty'}",
                hint=f"queries: {', '.join(sorted(self.queries)) or 'none'}",
            )
        return np.ascontiguousarray(found, np.float32)

    def rows(self, rows: NDArray[np.int64]) -> Pool:
        """Return the candidates of these rows."""
        return replace(
            self,
            filenames=[self.filenames[row] for row in rows],
            inputs={name: _take(given, rows) for name, given in self.inputs.items()},
        )


def name_order(filenames: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the rows in order of their names, or None when they are (as in an inventory)."""
    if all(first < second for first, second in pairwise(filenames)):
        return None
    return np.array(sorted(range(len(filenames)), key=filenames.__getitem__), np.int64)


def check_vectors(vectors: NDArray[np.float32] | None, filenames: Sequence[str] | None) -> None:
    """Raise `ModelError` when a value is not finite, with the filename (None: preselected)."""
    row = None if vectors is None else _unusable(vectors)
    if row is not None:
        name = f"of {filenames[row]!r}" if filenames is not None else f"{row} of the preselected"
        raise _not_finite(name)


def _check_objects(given: ObjectEmbeddings, name: str, filenames: Sequence[str]) -> None:
    offsets = given.offsets
    if offsets[0] != 0 or offsets[-1] != len(given.vectors) or (np.diff(offsets) < 0).any():
        raise ConfigError(
            f"the offsets of {name!r} do not divide its {len(given.vectors):,} objects "
            "among the samples",
            hint="they start with 0, never fall, and end with the number of objects",
        )
    row = _unusable(given.vectors)
    if row is not None:
        owner = int(np.searchsorted(offsets, row, side="right")) - 1
        raise _not_finite(f"of object {row - offsets[owner]} of {filenames[owner]!r}")
    check_vectors(given.preselected, None)


def _unusable(vectors: NDArray[np.float32]) -> int | None:
    """Return the first row with a value that is not finite, or too large."""
    for start in range(0, len(vectors), 65_536):
        block = vectors[start : start + 65_536]
        if not block.size or -LARGEST < block.min() <= block.max() < LARGEST:  # false for NaN
            continue
        return start + int(np.flatnonzero(~(np.abs(block) < LARGEST).all(axis=1))[0])
    return None


def _not_finite(name: str) -> ModelError:
    return ModelError(
        f"the embedding {name} holds a value that is not a number below {LARGEST:.0e}",
        hint="embed again with another `model` or `runtime=torch`",
    )


def check_pool(pool: Pool) -> None:
    """Raise an error that names the input and the sample for what no strategy could use."""
    for name, query in pool.queries.items():
        if not np.isfinite(query).all():
            raise ModelError(f"the query {name!r} holds a value that is not a number")
    for name, given in pool.inputs.items():
        count = len(_values(given))
        if count != len(pool.filenames):
            raise ConfigError(
                f"the input {name!r} has {count:,} values for {len(pool.filenames):,} samples"
            )
        match given:
            case Embeddings(vectors, preselected):
                check_vectors(vectors, pool.filenames)
                check_vectors(preselected, None)
            case ObjectEmbeddings():
                _check_objects(given, name, pool.filenames)
            case Numeric(values):
                _require(np.isfinite, values, name, pool.filenames)
            case Distributions(classes, amounts):
                if len(set(classes)) != amounts.shape[1]:
                    raise ConfigError(
                        f"the input {name!r} has {amounts.shape[1]} columns for "
                        f"{len(set(classes))} different classes"
                    )
                _require(_is_amount, amounts, name, pool.filenames)
            case _:
                pass


def _is_amount(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values >= 0)


def _require(
    usable: Callable[[NDArray[np.float64]], Any],
    values: NDArray[np.float64],
    name: str,
    filenames: Sequence[str],
) -> None:
    bad = np.argwhere(~usable(values))
    if len(bad):
        place = tuple(bad[0])
        raise ConfigError(
            f"the input {name!r} of {filenames[place[0]]!r} is {values[place]}, "
            "which cannot be used",
            hint="give the sample a value, or the input a default",
        )


def _values(given: Input) -> Sequence[str] | NDArray[Any]:
    match given:
        case Embeddings(vectors):
            return vectors
        case ObjectEmbeddings(_, offsets):
            return offsets[1:]
        case Numeric(values):
            return values
        case Categorical(labels):
            return labels
        case Distributions(_, amounts):
            return amounts


def _take(given: Input, rows: NDArray[np.int64]) -> Input:
    match given:
        case Embeddings():
            return replace(given, vectors=given.vectors[rows])
        case ObjectEmbeddings():
            members, offsets = members_of(given.offsets, rows)
            return replace(given, vectors=given.vectors[members], offsets=offsets)
        case Numeric():
            return replace(given, values=given.values[rows])
        case Categorical():
            return replace(given, labels=[given.labels[row] for row in rows])
        case Distributions():
            return replace(given, amounts=given.amounts[rows])


def members_of(
    offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what the rows consist of, one after the other, and the (R + 1,) offsets in that."""
    counts = (offsets[1:] - offsets[:-1])[rows]
    ends = np.cumsum(counts)
    shifts = np.repeat(offsets[rows] - (ends - counts), counts)
    return np.arange(len(shifts)) + shifts, np.concatenate([[0], ends]).astype(np.int64)
