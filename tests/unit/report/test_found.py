"""What a run is about, in words: images, and frames of videos."""

import pytest

from lightly_fs.report import build_report
from lightly_fs.report.summary import found, headline
from lightly_fs.types import Counts
from tests.unit.report.videos_made import of_videos


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


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (of_videos({}, 5, images=40), "5 of 40 images selected"),
        (of_videos({"a.mp4": 50}, 5), "5 of 50 frames of 1 video selected"),
        (of_videos({"a.mp4": 50}, 5, images=4), "5 selected of 4 images and 50 frames of 1 video"),
    ],
)
def test_the_title_does_not_read_as_if_frames_were_selected_of_the_images(given, words):
    assert headline(build_report(given)) == words
