"""Every frame, in order, once: whatever the codec, the container, the threads and the damage."""

import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lightly_fs.decoding import video_schedule
from lightly_fs.decoding.videos import Position, Sampling, frame_batches
from lightly_fs.types import Failure, Outcome, VideoFacts
from tests.films import HEIGHT, WIDTH, Film, h265, shoot
from tests.unit.decoding.filmed import LocalFile, collect, opened, plainly, sample, settings, watch

X264 = {"preset": "ultrafast", "bf": "0"}
WITH_B = {"preset": "veryfast", "bf": "3", "b_strategy": "0"}
OPEN_264 = {**WITH_B, "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
OPEN_265 = h265("open-gop=1:keyint=10:min-keyint=10:bframes=3:scenecut=0:b-adapt=0")
REFRESHED = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=10"}
VP9 = {"deadline": "realtime", "cpu-used": "8"}
AV1 = {"preset": "12", "svtav1-params": "keyint=10"}

FILMS = {
    "h264.mp4": Film(options=X264),
    "b-frames.mp4": Film(options=WITH_B),
    "b-frames.mov": Film(options=WITH_B),
    "b-frames.mkv": Film(options=WITH_B),
    "sound.m4v": Film(options=WITH_B, audio=True),
    "open-gop.mp4": Film(options=OPEN_264),
    "open-gop.mkv": Film(options=OPEN_264),
    "refreshed.mp4": Film(options=REFRESHED),
    "one-keyframe.mp4": Film(options=X264, gop=1000),
    "fragmented.mp4": Film(options=WITH_B, container={"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": Film("libx265", options=h265("keyint=10:bframes=3:open-gop=0")),
    "open-hevc.mp4": Film("libx265", options=OPEN_265),
    "open-hevc.mkv": Film("libx265", options=OPEN_265),
    "raw.hevc": Film("libx265", options=OPEN_265),
    "ten-bit.mp4": Film("libx265", pixels="yuv420p10le", options=h265("keyint=10")),
    "vp9.webm": Film("libvpx-vp9", options=VP9),
    "hidden-frames.webm": Film("libvpx-vp9", options={"deadline": "good", "cpu-used": "5",
                                                      "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "av1.mp4": Film("libsvtav1", options=AV1),
    "av1.mkv": Film("libsvtav1", options=AV1),
    "mpeg2.mpg": Film("mpeg2video", options={"bf": "2"}),
    "mpeg2.mpeg": Film("mpeg2video"),
    "mpeg1.mpg": Film("mpeg1video"),
    "interlaced.mkv": Film("mpeg2video", options={"flags": "+ilme+ildct", "bf": "2"}),
    "mpeg4.avi": Film("mpeg4"),
    "mpeg4-b.mp4": Film("mpeg4", options={"bf": "2"}),
    "mpeg4-b.avi": Film("mpeg4", options={"bf": "2"}),
    "mjpeg.avi": Film("mjpeg", pixels="yuvj420p", bit_rate=2_000_000),
    "cinepak.avi": Film("cinepak", frames=20, pixels="rgb24"),
    "variable.mkv": Film(options=WITH_B, timestamps=lambda n: 40 * n + n * n % 17),
}  # fmt: skip


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Videos by name, each made when it is first asked for."""
    directory = tmp_path_factory.mktemp("films")

    def get(name: str) -> Path:
        path = directory / name
        return path if path.exists() else shoot(path, FILMS[name])

    return get


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_schedule, "SEGMENT_FRAMES", 8)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", FILMS)
def test_frames_are_those_of_one_decoder(films, name: str, threads: int) -> None:
    path = films(name)
    expected = plainly(path)
    assert len(expected) == FILMS[name].frames
    seen = watch([path], using=settings(threads))
    assert seen.hashes() == [digest for _, digest in expected]
    assert seen.frames() == [(i, pts) for i, (pts, _) in enumerate(expected)]
    (facts,) = seen.ended
    assert isinstance(facts, VideoFacts)
    assert (facts.n_frames, facts.n_corrupt, facts.problem) == (len(expected), 0, "")
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ["b-frames.mp4", "open-hevc.mp4", "vp9.webm", "raw.hevc"])
def test_videos_follow_one_another(films, name: str) -> None:
    paths = [films("h264.mp4"), films(name), films("mjpeg.avi"), films("mpeg2.mpg")]
    seen = watch(paths, using=settings(3))
    expected = [digest for path in paths for _, digest in plainly(path)]
    assert seen.hashes() == expected
    assert [facts.filename for facts in seen.ended] == [str(path) for path in paths]
    indices = [result.frame.index for result in seen.results]
    assert indices == [i for path in paths for i in range(len(plainly(path)))]


@pytest.mark.parametrize(
    "name",
    ["b-frames.mp4", "open-gop.mp4", "open-hevc.mkv", "vp9.webm", "av1.mp4", "mpeg4.avi",
     "variable.mkv", "one-keyframe.mp4", "refreshed.mp4", "mpeg2.mpg"],
)  # fmt: skip
def test_going_on_in_the_middle_gives_the_rest(films, name: str) -> None:
    path = films(name)
    whole = watch([path, films("h264.mp4")])
    assert whole.resumes
    for done, position in whole.resumes:
        n_first = len(plainly(path))
        paths = [path, films("h264.mp4")] if done < n_first else [films("h264.mp4")]
        rest = watch(paths, start=position, using=settings(3))
        assert rest.hashes() == whole.hashes()[done:]
        assert rest.frames() == whole.frames()[done:]
        assert rest.ended == whole.ended[-len(paths) :]


def test_start_must_be_in_the_first_video(films) -> None:
    with pytest.raises(ValueError, match="not the first of the videos"):
        watch([films("h264.mp4")], start=Position("other.mp4", 3, 1))


def test_start_that_is_not_there_fails_the_video(films) -> None:
    path = films("b-frames.mp4")
    seen = watch([path, films("h264.mp4")], start=Position(str(path), 3, 12345))
    assert seen.ended[0] == Failure(
        str(path), Outcome.FAILED, "cannot go on at frame 3: the video is not the same"
    )
    assert isinstance(seen.ended[1], VideoFacts)


def test_closing_ends_all_threads(films) -> None:
    before = threading.active_count()
    files: list[LocalFile] = []

    def remembered(video):
        files.append(opened(video))
        return files[-1]

    videos = [sample(films(name)) for name in ("b-frames.mp4", "vp9.webm", "h264.mp4")]
    with closing(frame_batches(videos, remembered, settings(3), Sampling())) as batches:
        next(batches)
        assert threading.active_count() > before
    assert threading.active_count() == before
    assert files
    assert all(file.closed for file in files)


def test_threads_share_a_video(films) -> None:
    """Else the tests above would show nothing of where one thread takes over from another."""
    files: list[LocalFile] = []

    def remembered(video):
        files.append(opened(video))
        return files[-1]

    for name in ("b-frames.mp4", "open-hevc.mkv", "vp9.webm", "mpeg4.avi"):
        collect(frame_batches([sample(films(name))], remembered, settings(3), Sampling()))
        assert files[-1].n_handles > 1, name


def test_waiting_rows_are_bounded(films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_schedule, "_ROW_BYTES", 1)
    path = films("b-frames.mp4")
    with closing(
        frame_batches([sample(path)] * 3, opened, settings(3, batch_size=4), Sampling())
    ) as batches:
        seen = collect(batches)
    assert seen.hashes() == [digest for _, digest in plainly(path)] * 3


def test_a_row_does_not_depend_on_the_batch(films) -> None:
    path = films("hevc.mp4")
    small, large = (watch([path], using=settings(batch_size=n)) for n in (3, 64))
    assert small.hashes() == large.hashes()


def test_copies_and_properties(films) -> None:
    path = films("hevc.mp4")
    using = settings(copy_size=48, properties="scaled")
    (batch, *_) = list(frame_batches([sample(path)], opened, using, Sampling()))
    assert batch.copies is not None
    assert batch.copies.shape == (8, 48, 48, 3)
    small = torch.nn.functional.interpolate(
        batch.copies.permute(0, 3, 1, 2).float(), (32, 32), mode="bilinear", antialias=True
    )
    assert (small - batch.pixels.permute(0, 3, 1, 2)).abs().mean() < 4
    values = batch.results[0].properties
    assert (values["width"], values["height"]) == (WIDTH, HEIGHT)
    assert values["sharpness"] > 0
    assert batch.results[0].content_hash == batch.results[0].pixel_hash


@pytest.mark.parametrize("name", ["b-frames.mp4", "vp9.webm", "mpeg2.mpg", "raw.hevc"])
def test_every_nth_frame(films, name: str) -> None:
    expected = plainly(films(name))
    seen = watch([films(name)], sampling=Sampling(every_nth=7), using=settings(4))
    assert [r.frame.index for r in seen.results] == list(range(0, len(expected), 7))
    assert seen.hashes() == [digest for _, digest in expected[::7]]
    assert seen.ended[0].n_frames == len(expected)


@pytest.mark.parametrize(
    ("name", "fps"),
    [("b-frames.mp4", 5), ("variable.mkv", 3.7), ("raw.hevc", 12.5), ("h264.mp4", 100)],
)
def test_frames_per_second(films, name: str, fps: float) -> None:
    whole = watch([films(name)])
    seen = watch([films(name)], sampling=Sampling(fps=fps), using=settings(4))
    times = [
        r.frame.index / 25 if r.frame.seconds is None else r.frame.seconds for r in whole.results
    ]
    slots = [int(time * fps + 1e-6) for time in times]
    expected = [0, *(i for i, (a, b) in enumerate(pairwise(slots), 1) if b > a)]
    assert [r.frame.index for r in seen.results] == expected
    assert seen.hashes() == [whole.hashes()[i] for i in expected]
    assert seen.ended == whole.ended


@pytest.mark.parametrize(
    "name", ["b-frames.mp4", "open-gop.mkv", "open-hevc.mp4", "vp9.webm", "av1.mp4", "mpeg2.mpg",
             "mpeg4-b.avi", "raw.hevc", "mjpeg.avi"],
)  # fmt: skip
def test_keyframes_keep_their_index(films, name: str) -> None:
    whole = watch([films(name)])
    seen = watch([films(name)], sampling=Sampling(keyframes_only=True), using=settings(2))
    picked = [r.frame.index for r in seen.results]
    assert picked[0] == 0
    assert 2 <= len(picked) < 1 + len(whole.results) or name == "mjpeg.avi"
    assert seen.hashes() == [whole.hashes()[i] for i in picked]
    assert seen.frames() == [whole.frames()[i] for i in picked]
    assert seen.ended == whole.ended


@pytest.mark.parametrize(
    "sampling", [Sampling(every_nth=3), Sampling(fps=7), Sampling(keyframes_only=True)]
)
@pytest.mark.parametrize("name", ["b-frames.mp4", "open-hevc.mp4", "vp9.webm"])
def test_samples_go_on_in_the_middle(films, name: str, sampling: Sampling) -> None:
    path = films(name)
    using = settings(batch_size=2)
    whole = watch([path], sampling=sampling, using=using)
    assert whole.resumes
    for done, position in whole.resumes:
        rest = watch([path], sampling=sampling, start=position, using=using)
        assert rest.hashes() == whole.hashes()[done:]
        assert rest.frames() == whole.frames()[done:]
        assert rest.ended == whole.ended
