"""How large a detector wants its images: made so here, its own resizing changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, slots=True)
class InputSize:
    """The sizes that a detector takes.

    Attributes:
        fixed: Height and width of every image, which is squashed; None keeps the aspect ratio.
        shortest: Without `fixed`, pixels of the shorter side …
        longest: … unless the longer one had more than these.
        multiple: Images of a batch are padded at the bottom right to a multiple of this.
    """

    fixed: Size | None
    shortest: int
    longest: int
    multiple: int

    @property
    def least(self) -> int:
        """Pixels that both sides of a decoded image should have, where the image has them."""
        return max(self.fixed) if self.fixed else self.shortest

    def of(self, height: int, width: int) -> Size:
        """Return the height and width to which an image is resized."""
        if self.fixed is not None:
            return self.fixed
        scale = min(self.shortest / min(height, width), self.longest / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def padded(self, size: Size) -> Size:
        """Return the height and width that a resized image has in a batch of its like."""
        height, width = (-(-side // self.multiple) * self.multiple for side in size)
        return height, width
