"""Labels as a file of another format has them, before they are given to samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightly_fs.annotations.objects import PredictedObject, Predictions, align
from lightly_fs.annotations.tasks import TaskSchema


@dataclass(frozen=True, eq=False)
class Labels:
    """What one file, or one folder of files, labels.

    Attributes:
        schema: What the labels are.
        objects: By the name that the file gives an image, below the input's root.
        path: Where they are from, for messages.
    """

    schema: TaskSchema
    objects: Mapping[str, Sequence[PredictedObject]]
    path: str

    def of(self, filenames: Sequence[str]) -> Predictions:
        """Return them as predictions for N samples, the rows of the result.

        Raises:
            DatasourceError: There are labels, but none of a sample.
        """
        return align(self.objects, filenames, self.schema, self.path)

    def others(self, filenames: Sequence[str]) -> list[str]:
        """Return the names that are no sample's, sorted."""
        return sorted(self.objects.keys() - set(filenames))
