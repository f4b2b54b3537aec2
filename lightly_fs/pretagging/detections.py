"""What a detector found, as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The K objects of one image, the most confident first.

    Attributes:
        width: Pixels of the image, after EXIF orientation; `height` likewise.
        categories: (K,) int32 places in the categories of the task.
        scores: (K,) float64 confidences, 0 to 1.
        boxes: (K, 4) float64 x, y, width, height in pixels of the image.
    """

    width: int
    height: int
    categories: NDArray[np.int32]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def relative_corners(self) -> NDArray[np.float64]:
        """Return (K, 4) x1, y1, x2, y2 as shares of the image, 0 to 1."""
        corners = self.boxes.copy()
        corners[:, 2:] += corners[:, :2]
        corners /= [self.width, self.height] * 2
        return np.clip(corners, 0.0, 1.0, out=corners)
