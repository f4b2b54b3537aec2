"""What a run is about, in words: images, and frames of videos."""

import pytest

from lightly_fs.report.summary import found
from lightly_fs.types import Counts


def counts(inventory: int, videos: int, frames: int, unusable: int) -> Counts:
    embedded = inventory - videos - unusable + frames
    return Counts(
        inventory=inventory,
        embedded=embedded,
        corrupt=unusable,
        gone=0,
        failed=0,
        unreadable=0,
        duplicate=0,
        selected=embedded,
        removed=0,
        videos=videos,
        frames=frames,
        unusable_videos=unusable,
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((120, 0, 0, 0), "120 images"),
        ((1, 0, 0, 0), "1 image"),
        ((2, 2, 1771, 0), "1,771 frames of 2 videos"),
        ((5, 2, 40, 1), "2 images and 40 frames of 3 videos"),
        ((1, 0, 0, 1), "0 frames of 1 video"),
        ((0, 0, 0, 0), "0 images"),
    ],
)
def test_the_headline_counts_images_and_frames(given, words):
    sums = counts(*given)
    assert sums.check() is None
    assert found(sums) == words
