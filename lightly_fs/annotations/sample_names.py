"""Which sample a name in a label file means: an image of the input, or a frame of a video."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from lightly_fs.types import frame_of, is_video


class SampleNames:
    """The names that labels may have.

    A frame is known by its video alone: how many frames there are is not, so that a number may be
    too high. `in` tells whether a name is a sample's.

    Attributes:
        images: The files of the input that are no videos.
    """

    def __init__(self, filenames: Iterable[str]) -> None:
        """Take the files of the input."""
        self._files = dict.fromkeys(filenames)
        self.images: Sequence[str] = [name for name in self._files if not is_video(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.sample(name) is not None

    def sample(self, name: str) -> str | None:
        """Return the sample that a name means, None for none.

        That is a frame's in any format: `a/v-007-mp4.jpg` means `a/v-007-mp4.png`.
        """
        if name in self._files:
            return None if is_video(name) else name
        frame = frame_of(name)
        if frame is None or frame[0] not in self._files:
            return None
        return f"{posixpath.splitext(name)[0]}.png"

    def frames(self, names: Iterable[str]) -> list[str]:
        """Return which frames these names mean, sorted."""
        found = {self.sample(name) for name in names if name not in self._files}
        return sorted(name for name in found if name is not None)


def misnumbered(frames: Iterable[str]) -> dict[str, str]:
    """Return the frames whose number has fewer digits than another one of their video's, and why.

    A number has as many digits as that of all frames, so that no run has a frame of that name.
    """
    longest: dict[str, int] = {}
    digits: dict[str, tuple[str, int]] = {}
    for name in frames:
        if (frame := frame_of(name)) is not None:
            n = len(posixpath.splitext(name)[0].split("-")[-2])
            digits[name] = (frame[0], n)
            longest[frame[0]] = max(n, longest.get(frame[0], 0))
    return {
        name: f"its number has {n} of {longest[video]} digits; write as many as the number of "
        f"frames of `{video}` has, like `{frame_like(name, longest[video])}`"
        for name, (video, n) in digits.items()
        if n < longest[video]
    }


def frame_like(name: str, n_digits: int) -> str:
    """Return the name of a frame with its number in so many digits."""
    stem, number, rest = name.rsplit("-", 2)
    return f"{stem}-{int(number):0{n_digits}}-{rest}"
