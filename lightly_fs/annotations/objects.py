"""What prediction files say, as columns: one row per object, the objects of a sample together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.tasks import TaskSchema
from lightly_fs.errors import DatasourceError

LABEL_SCORE = 1.0
"""The confidence of what a person labelled, where a format has none."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one task for N samples: M objects over C categories.

    A classification is an object without a box. What a file does not give is not made up: it is
    NaN, empty, or has no row.

    Attributes:
        filenames: N samples.
        offsets: (N + 1,) int64; the objects of sample `i` are rows `offsets[i]:offsets[i + 1]`.
        categories: (M,) int32 places in `schema.categories` (not ids).
        scores: (M,) float64 confidences, 0 to 1; NaN where none is given.
        boxes: (M, 4) float64 x, y, width, height in pixels from the top left; NaN where none is.
        probability_rows: (P,) int64 objects that give probabilities, ascending.
        probabilities: (P, C) float64 of these objects.
        mask_offsets: (M + 1,) int64 into `mask_counts`.
        mask_counts: int64 run lengths of masks, see `rle`.
        keypoint_offsets: (M + 1,) int64 into `keypoints`.
        keypoints: (K, 3) float64 x, y in pixels and confidence.
        predicted: (N,) bool; the sample has a valid file (which may hold no object).
        invalid: Files that were left out.
        unmatched: Number of files that belong to no sample.
    """

    schema: TaskSchema
    filenames: Sequence[str]
    offsets: NDArray[np.int64]
    categories: NDArray[np.int32]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    probability_rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    mask_offsets: NDArray[np.int64]
    mask_counts: NDArray[np.int64]
    keypoint_offsets: NDArray[np.int64]
    keypoints: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    invalid: Sequence[InvalidFile] = ()
    unmatched: int = 0

    def __len__(self) -> int:
        return len(self.filenames)

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """(M,) the sample of each object."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def of(self, sample: int) -> range:
        """Return the object rows of a sample."""
        return range(int(self.offsets[sample]), int(self.offsets[sample + 1]))

    def mask(self, row: int) -> NDArray[np.int64]:
        """Return the run lengths of an object's mask; empty when it has none."""
        return self.mask_counts[self.mask_offsets[row] : self.mask_offsets[row + 1]]

    def keypoints_of(self, row: int) -> NDArray[np.float64]:
        """Return (k, 3) x, y, confidence of an object; empty when it has none."""
        return self.keypoints[self.keypoint_offsets[row] : self.keypoint_offsets[row + 1]]


class PredictedObject(Struct, frozen=True, gc=False):
    """One object, as a reader of a format hands it to `PredictionsBuilder`.

    There are millions of them: a `Struct` is made in a sixth of the time of a frozen dataclass.

    Attributes:
        category: Place in the schema's categories.
        score: 0 to 1, NaN when the format has none.
        box: x, y, width, height in pixels, or None.
        probabilities: One per category, or None.
        mask: Run lengths; empty for none.
        keypoints: x, y, confidence, x, …; empty for none.
    """

    category: int
    score: float = float("nan")
    box: Sequence[float] | None = None
    probabilities: Sequence[float] | None = None
    mask: Sequence[int] = ()
    keypoints: Sequence[float] = ()


_NO_BOX = (float("nan"),) * 4


@dataclass(eq=False)
class PredictionsBuilder:
    """Collects the objects of samples, in the samples' order, in compact arrays."""

    schema: TaskSchema
    filenames: Sequence[str]
    invalid: list[InvalidFile] = field(default_factory=list)
    _offsets: array[int] = field(default_factory=lambda: array("q", [0]))
    _categories: array[int] = field(default_factory=lambda: array("i"))
    _scores: array[float] = field(default_factory=lambda: array("d"))
    _boxes: array[float] = field(default_factory=lambda: array("d"))
    _probability_rows: array[int] = field(default_factory=lambda: array("q"))
    _probabilities: array[float] = field(default_factory=lambda: array("d"))
    _mask_ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _masks: array[int] = field(default_factory=lambda: array("q"))
    _keypoint_ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _keypoints: array[float] = field(default_factory=lambda: array("d"))
    _predicted: bytearray = field(default_factory=bytearray)

    def add(self, objects: Sequence[PredictedObject]) -> None:
        """Give the next sample its objects; none of them is a prediction too."""
        first = len(self._categories)
        self._categories.extend([one.category for one in objects])
        self._scores.extend([one.score for one in objects])
        self._boxes.extend([side for one in objects for side in one.box or _NO_BOX])
        for row, one in enumerate(objects, first):
            if one.probabilities is not None:
                self._probability_rows.append(row)
                self._probabilities.extend(one.probabilities)
            if one.mask:
                self._masks.extend(one.mask)
            self._mask_ends.append(len(self._masks))
            if one.keypoints:
                self._keypoints.extend(one.keypoints)
            self._keypoint_ends.append(len(self._keypoints) // 3)
        self._offsets.append(len(self._categories))
        self._predicted.append(True)

    def skip(self, until: int) -> None:
        """Give the samples before row `until` that have no prediction yet none."""
        n = until - len(self._predicted)
        self._offsets.extend([len(self._categories)] * n)
        self._predicted.extend(bytes(n))

    def build(self, *, unmatched: int = 0) -> Predictions:
        """Return the columns; samples that were not reached have no prediction."""
        self.skip(len(self.filenames))
        n_categories = len(self.schema.categories)
        return Predictions(
            schema=self.schema,
            filenames=self.filenames,
            offsets=np.array(self._offsets, np.int64),
            categories=np.array(self._categories, np.int32),
            scores=np.array(self._scores, np.float64),
            boxes=np.array(self._boxes, np.float64).reshape(-1, 4),
            probability_rows=np.array(self._probability_rows, np.int64),
            probabilities=np.array(self._probabilities, np.float64).reshape(-1, n_categories),
            mask_offsets=np.array(self._mask_ends, np.int64),
            mask_counts=np.array(self._masks, np.int64),
            keypoint_offsets=np.array(self._keypoint_ends, np.int64),
            keypoints=np.array(self._keypoints, np.float64).reshape(-1, 3),
            predicted=np.frombuffer(bytes(self._predicted), np.bool_),
            invalid=tuple(self.invalid),
            unmatched=unmatched,
        )


def align(
    labels: Mapping[str, Sequence[PredictedObject]],
    filenames: Sequence[str],
    schema: TaskSchema,
    path: str,
    invalid: Iterable[InvalidFile] = (),
) -> Predictions:
    """Give each sample the labels of its name.

    Args:
        labels: Objects by filename.
        filenames: N samples, the rows of the result.
        schema: What the labels are.
        path: Where they are from, for the message.
        invalid: What was left out.

    Raises:
        DatasourceError: There are labels, but none of a sample.
    """
    builder = PredictionsBuilder(schema, filenames, list(invalid))
    for row, filename in enumerate(filenames):
        if (objects := labels.get(filename)) is not None:
            builder.skip(row)
            builder.add(objects)
    known = labels.keys() & set(filenames)
    if not known and filenames:
        example = next(iter(labels), None)
        named = (
            f"it names `{example}`, they are like `{filenames[0]}`" if example else "it is empty"
        )
        raise DatasourceError(
            f"{path} labels none of the {len(filenames)} samples: {named}",
            hint="Say with `below` (`--below`) which folder of the input its names start from.",
        )
    return builder.build(unmatched=len(labels) - len(known))
