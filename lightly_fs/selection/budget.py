"""How much labelling buys: the covering radius after every number of selected samples.

The covering radius of a selection is the largest distance of any sample to its nearest selected
one. In farthest-first selection (diversity alone) the next pick is the sample at exactly that
distance, so the distances of the picks are the curve: after n picks the radius is the distance at
which pick n + 1 was made (Gonzalez 1985). Each is at most twice the smallest radius that any n
samples have. Where other strategies decide too, a pick need not be the farthest sample: what is
said of n then is a lower bound of the radius.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightly_fs.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def radius_curve(
    distances: NDArray[np.float32], *, remaining: float | None = None, points: int = 50
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return (n, radius): after the first `n` picks nothing is farther than `radius`.

    The radii never grow with n. When the distances do (another strategy preferred something near
    before something far), a radius is the largest distance of any later pick: what was picked at
    that distance was at least as far before.

    Args:
        distances: (K,) of the picks in order, as `Selection.distances`; inf for the first.
        remaining: The largest distance of what was not selected at the end, as `covering_distances`
            has it, which is the radius after all picks; None to leave that point out.
        points: How many points at most, spread evenly over the logarithm of n.

    Returns:
        (P,) int64 ascending and (P,) float32. Empty when there is nothing to tell.
    """
    if points < 1:
        raise ConfigError(f"a curve of {points} points shows nothing; it takes 1 or more")
    radii = _radii(distances, remaining)
    first = int(np.argmax(np.isfinite(radii))) if len(radii) else 0
    if not len(radii) or not np.isfinite(radii[first]):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    last = len(radii) - 1
    spread = np.geomspace(max(first, 1), max(last, 1), points) if points > 1 else np.array([last])
    n = np.unique(np.clip(np.rint(spread).astype(np.int64), first, last))
    return n, radii[n]


def gain_of_next(
    distances: NDArray[np.float32], n: int, *, more: int = 100, remaining: float | None = None
) -> float | None:
    """Return by how much the radius shrinks when `more` samples follow the first n.

    Args:
        distances: As for `radius_curve`.
        n: Samples so far, 0 or more.
        more: How many follow.
        remaining: As for `radius_curve`.

    Returns:
        The difference of the radii, 0 or more, and inf when nothing is selected before; None when
        the picks do not go that far.
    """
    radii = _radii(distances, remaining)
    if not 0 <= n <= n + more < len(radii):
        return None
    before, after = float(radii[n]), float(radii[n + more])
    return 0.0 if before == after else before - after


def _radii(distances: NDArray[np.float32], remaining: float | None) -> NDArray[np.float32]:
    """Return the radius after 0, 1, … picks, as far as it is known."""
    values = np.asarray(distances, np.float32)
    if remaining is not None:
        values = np.append(values, np.float32(remaining))
    radii: NDArray[np.float32] = np.maximum.accumulate(values[::-1])[::-1]
    return radii
