"""Labels as a file of another format has them, before they are given to samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightly_fs.annotations.files import InvalidFile
from lightly_fs.annotations.objects import PredictedObject, Predictions, align
from lightly_fs.annotations.sample_names import SampleNames, misnumbered
from lightly_fs.annotations.tasks import Category, TaskSchema
from lightly_fs.errors import DatasourceError

NO_CLASSES = (Category(0, "object"),)
"""What labels without an object are given: a task has at least one category."""


class NothingValidError(DatasourceError):
    """Not one label can be used; `invalid` holds why, for each."""

    def __init__(
        self, invalid: Sequence[InvalidFile], what: str = "not one of the labels is valid"
    ) -> None:
        super().__init__(
            f"{what}, first {invalid[0].path}: {invalid[0].reason}",
            hint="check that the format is the one you named, or export the labels again",
        )
        self.invalid = invalid


@dataclass(frozen=True, eq=False)
class Labels:
    """What one file, or one folder of files, labels.

    Attributes:
        schema: What the labels are.
        objects: By the name that the file gives an image, below the input's root.
        path: Where they are from, for messages.
        invalid: What of it was left out, and why.
    """

    schema: TaskSchema
    objects: Mapping[str, Sequence[PredictedObject]]
    path: str
    invalid: Sequence[InvalidFile] = ()

    def of(self, filenames: Sequence[str]) -> Predictions:
        """Return them as predictions for N samples, the rows of the result.

        Raises:
            NothingValidError: All that there is was left out.
            DatasourceError: There are no labels, or none of a sample.
        """
        if not self.objects:
            if self.invalid:
                raise NothingValidError(self.invalid)
            raise DatasourceError(
                f"{self.path} labels no image at all",
                hint="check that it is the file or folder you meant, or export the labels again",
            )
        return align(self.objects, filenames, self.schema, self.path, self.invalid)

    def matched(self, samples: SampleNames) -> Labels:
        """Return them with frames under the names that a run gives them, those of no run left out.

        Names that no sample has stay as they are.
        """
        objects: dict[str, list[PredictedObject]] = {}
        wrong = misnumbered(samples.frames(self.objects))
        for name, some in self.objects.items():
            if (sample := samples.sample(name) or name) not in wrong:
                objects.setdefault(sample, []).extend(some)
        left_out = [InvalidFile(self.path, f"{name}: {why}") for name, why in wrong.items()]
        return replace(self, objects=objects, invalid=(*self.invalid, *left_out))

    def others(self, filenames: Sequence[str]) -> list[str]:
        """Return the names that are no sample's, sorted."""
        return sorted(self.objects.keys() - set(filenames))
