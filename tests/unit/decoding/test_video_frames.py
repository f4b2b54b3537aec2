"""A frame that is read again is exactly the one that was embedded."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from lightly_fs.decoding import video_schedule
from lightly_fs.decoding.video_scaling import full_pixels
from lightly_fs.decoding.videos import FrameExtractor
from lightly_fs.types import Failure, Frame, ImageRecord, Outcome
from tests.films import HEIGHT, WIDTH, damage, shoot
from tests.unit.decoding.filmed import LocalFile, opened, sample, watch
from tests.unit.decoding.test_video_damage import BROKEN
from tests.unit.decoding.test_videos import FILMS

MAX = 1_000_000


@pytest.fixture
def extractor() -> Iterator[FrameExtractor]:
    with closing(FrameExtractor(opened, MAX)) as made:
        yield made


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_schedule, "SEGMENT_FRAMES", 8)


def all_frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [full_pixels(frame) for frame in container.decode(video=0)]


ORDERS = {
    "ascending": lambda n: range(0, n, 3),
    "descending": lambda n: range(n - 1, -1, -7),
    "scattered": lambda n: np.random.default_rng(1).permutation(n)[:12].tolist(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "name",
    ["b-frames.mp4", "b-frames.mkv", "open-gop.mp4", "open-hevc.mp4", "refreshed.mp4",
     "one-keyframe.mp4", "fragmented.mp4", "vp9.webm", "hidden-frames.webm", "av1.mp4",
     "mpeg2.mpg", "raw.hevc", "mpeg4-b.avi", "mjpeg.avi", "variable.mkv"],
)  # fmt: skip
def test_frame_is_the_one_that_was_decoded(
    tmp_path: Path, extractor: FrameExtractor, name: str, order: str
) -> None:
    path = shoot(tmp_path / name, FILMS[name])
    expected = all_frames(path)
    frames = [result.frame for result in watch([path]).results]
    for index in ORDERS[order](len(frames)):
        pixels = extractor.read(sample(path), frames[index])
        assert not isinstance(pixels, Failure)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        assert np.array_equal(pixels, expected[index])


@pytest.mark.parametrize("name", ["h264.mp4", "h264.ts", "mpeg2.mpg"])
def test_good_frames_of_damaged_videos_are_the_same(
    tmp_path: Path, extractor: FrameExtractor, name: str
) -> None:
    path = damage(shoot(tmp_path / name, BROKEN[name]), (0.3, 0.55, 0.8), 60)
    expected = all_frames(path)
    for result in watch([path]).results[::4]:
        pixels = extractor.read(sample(path), result.frame)
        if isinstance(result, ImageRecord):
            assert np.array_equal(pixels, expected[result.frame.index])
        else:
            assert isinstance(pixels, Failure)
            assert pixels.reason == result.reason


def test_ascending_frames_open_a_video_once(tmp_path: Path) -> None:
    files: list[LocalFile] = []

    def remembered(video):
        files.append(opened(video))
        return files[-1]

    first, second = (shoot(tmp_path / name, FILMS["b-frames.mp4"]) for name in ("a.mp4", "b.mp4"))
    extractor = FrameExtractor(remembered, MAX)
    for path in (first, second):
        for result in watch([path]).results[::10]:
            assert not isinstance(extractor.read(sample(path), result.frame), Failure)
    extractor.close()
    assert [(file.path, file.n_handles) for file in files] == [(first, 1), (second, 1)]
    assert all(file.closed for file in files)


def test_frame_that_is_not_there_says_so(tmp_path: Path, extractor: FrameExtractor) -> None:
    path = shoot(tmp_path / "a.mp4", FILMS["b-frames.mp4"])
    frame = Frame(str(path), 5000, None, None)
    failure = extractor.read(sample(path), frame)
    reason = "frame 5,000 is not there any more"
    assert failure == Failure(str(path), Outcome.FAILED, reason, frame)
    there = watch([path]).results[7].frame
    assert not isinstance(extractor.read(sample(path), there), Failure)


def test_storage_that_fails_is_told(tmp_path: Path) -> None:
    path = shoot(tmp_path / "a.mp4", FILMS["b-frames.mp4"])
    frame = watch([path]).results[50].frame
    extractor = FrameExtractor(lambda _: LocalFile(path, 0), MAX)
    failure = extractor.read(sample(path), frame)
    assert failure == Failure(str(path), Outcome.GONE, "the object is not there any more", frame)
