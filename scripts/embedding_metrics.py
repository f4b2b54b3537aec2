"""How good embeddings are, by cosine: nearest neighbours, near duplicates, retrieval.

Vectors are (N, D) float32 arrays and need not be normalised.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its name everywhere

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

NEIGHBOURS = 20
TEMPERATURE = 0.07
_AT_ONCE = 1_000


def unit(vectors: Vectors) -> Tensor:
    """Rows of length 1; zero rows stay zero."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(vectors, np.float32)))


@torch.inference_mode()
def knn_predict(
    bank: Vectors,
    bank_labels: Labels,
    queries: Vectors,
    *,
    not_from: tuple[Labels, Labels] | None = None,
    k: int = NEIGHBOURS,
) -> Labels:
    """The class with the most votes of the k nearest, each weighted by exp(cosine / 0.07).

    Args:
        bank: (N, D) who votes.
        bank_labels: (N,) from 0.
        queries: (M, D).
        not_from: Groups (N,) of the bank and (M,) of the queries: who is of the query's own group
            does not vote. With the row numbers of one set as groups, that is leave-one-out.
        k: Neighbours; fewer when the bank is smaller.

    Returns:
        (M,) classes; -1 where nobody could vote.
    """
    known, asked, voters = unit(bank), unit(queries), torch.from_numpy(bank_labels)
    predicted = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        similarity = asked[rows] @ known.T
        if not_from is not None:
            own = not_from[1][rows, None] == not_from[0][None]
            similarity.masked_fill_(torch.from_numpy(own), -torch.inf)
        nearest, index = similarity.topk(min(k, len(bank)))
        votes = torch.zeros(len(nearest), int(bank_labels.max()) + 1)
        votes.scatter_add_(1, voters[index], (nearest / TEMPERATURE).exp())
        most, classes = votes.max(1)
        predicted[rows] = torch.where(most > 0, classes, -1).numpy()
    return predicted


def leave_one_out(vectors: Vectors, labels: Labels, groups: Labels | None = None) -> Labels:
    """`knn_predict` of each row by all others, or by all rows of other groups."""
    own = np.arange(len(vectors)) if groups is None else groups
    return knn_predict(vectors, labels, vectors, not_from=(own, own))


def top1(predicted: Labels, labels: Labels) -> float:
    return float((predicted == labels).mean())


@torch.inference_mode()
def nearest_of_class(vectors: Vectors, labels: Labels, groups: Labels | None = None) -> Vectors:
    """(N,) cosine of each row to the nearest other row of its class; NaN where there is none.

    Rows of the same group are passed over: crops of one photograph may overlap.
    """
    rows = unit(vectors)
    own = np.arange(len(rows)) if groups is None else groups
    best = np.full(len(rows), np.nan, np.float32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        of_class = rows[torch.from_numpy(members)]
        similarity = of_class @ of_class.T
        same = torch.from_numpy(own[members, None] == own[None, members])
        best[members] = similarity.masked_fill_(same, -torch.inf).amax(1).numpy()
    best[np.isneginf(best)] = np.nan
    return best


@torch.inference_mode()
def cosines(one: Vectors, other: Vectors) -> Vectors:
    """(N,) cosine of each row of `one` with the same row of `other`."""
    result: Vectors = (unit(one) * unit(other)).sum(1).numpy()
    return result


def threshold_at(negatives: Vectors, false_positives: float) -> float:
    """The similarity above which at most this share of the negatives lies."""
    falling = np.sort(negatives)[::-1]
    allowed = int(false_positives * len(falling))
    return float(falling[min(allowed, len(falling) - 1)])


def recall_at(positives: Vectors, negatives: Vectors, false_positives: float = 0.01) -> float:
    """The share of positives that are more alike than what `threshold_at` says."""
    return float((positives > threshold_at(negatives, false_positives)).mean())


@torch.inference_mode()
def retrieval_top1(originals: Vectors, copies: Vectors, rows: Labels) -> float:
    """How often the original nearest to copy i is row `rows[i]`, which it was made from."""
    known, asked = unit(originals), unit(copies)
    starts = range(0, len(asked), _AT_ONCE)
    found = [(asked[start : start + _AT_ONCE] @ known.T).argmax(1) for start in starts]
    return float((torch.cat(found).numpy() == rows).mean())
