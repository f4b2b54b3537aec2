"""Videos that are broken, or none: what is good is used, and the reason is told."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightly_fs.decoding import video_schedule
from lightly_fs.decoding.videos import Sampling, frame_batches
from lightly_fs.types import Failure, ImageRecord, Outcome, VideoFacts
from tests.conftest import need
from tests.films import Film, damage, h265, leave_empty, record_silence, shoot
from tests.unit.decoding.filmed import (
    LocalFile,
    Watched,
    collect,
    opened,
    plainly,
    sample,
    settings,
    watch,
)

X264 = {"preset": "veryfast", "bf": "2"}


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_schedule, "SEGMENT_FRAMES", 8)


def consistent(path: Path) -> Watched:
    """What is seen of a video, which depends neither on threads nor on where one went on."""
    seen = [watch([path], using=settings(threads)) for threads in (1, 2, 4)]
    for other in seen[1:]:
        assert other.hashes() == seen[0].hashes()
        assert other.frames() == seen[0].frames()
        assert other.ended == seen[0].ended
    for done, position in seen[0].resumes:
        rest = watch([path], start=position)
        assert rest.hashes() == seen[0].hashes()[done:]
        assert rest.frames() == seen[0].frames()[done:]
        assert [_problem(one) for one in rest.ended] == [_problem(one) for one in seen[0].ended]
    return seen[0]


def _problem(ended: VideoFacts | Failure) -> str:
    return ended.reason if isinstance(ended, Failure) else ended.problem


BROKEN = {
    "h264.mp4": Film(options=X264),
    "h264.mkv": Film(options=X264),
    "h264.ts": Film(options=X264),
    "hevc.mp4": Film("libx265", options=h265("keyint=10")),
    "raw.hevc": Film("libx265", options=h265("keyint=10")),
    "vp9.webm": Film("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "av1.mp4": Film("libsvtav1", options={"preset": "12", "svtav1-params": "keyint=10"}),
    "mpeg2.mpg": Film("mpeg2video", options={"bf": "2"}),
    "mpeg4.avi": Film("mpeg4"),
    "mjpeg.avi": Film("mjpeg", pixels="yuvj420p", bit_rate=2_000_000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_good_frames_of_a_damaged_video_are_used(tmp_path: Path, name: str) -> None:
    whole = shoot(tmp_path / name, BROKEN[name])
    seen = consistent(damage(whole, (0.3, 0.55, 0.8), 60))
    (facts,) = seen.ended
    assert isinstance(facts, VideoFacts)
    good = {digest for _, digest in plainly(whole)}
    kept = [r for r in seen.results if isinstance(r, ImageRecord)]
    assert sum(r.pixel_hash in good for r in kept) >= 12
    corrupt = [r for r in seen.results if isinstance(r, Failure)]
    assert all(r.outcome is Outcome.CORRUPT and r.frame is not None for r in corrupt)
    assert facts.n_corrupt == len(corrupt)
    assert facts.n_frames == len(seen.results) == len(kept) + len(corrupt)
    assert [index for index, _ in seen.frames()] == list(range(facts.n_frames))


@pytest.mark.parametrize("name", BROKEN)
def test_truncated_video_gives_its_first_frames(tmp_path: Path, name: str) -> None:
    film = BROKEN[name]
    if name.endswith("mp4"):
        film = Film(**{**vars(film), "container": {"movflags": "faststart"}})
    whole = shoot(tmp_path / name, film)
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: int(0.6 * whole.stat().st_size)])
    seen = consistent(cut)
    (facts,) = seen.ended
    good = [digest for _, digest in plainly(whole)]
    assert 10 < facts.n_frames < len(good)
    assert seen.hashes()[: facts.n_frames - 3] == good[: facts.n_frames - 3]
    if not name.endswith((".ts", ".mpg", ".hevc")):  # these do not tell how long they are
        assert "truncated: the file ends in the middle" in facts.problem


def only(seen: Watched) -> Failure:
    assert not seen.results
    (ended,) = seen.ended
    assert isinstance(ended, Failure)
    return ended


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    reasons = {}
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"this is a text and no video\n" * 100,
        "zeros.avi": bytes(10_000),
        "image.mov": None,
    }
    for name, data in contents.items():
        path = tmp_path / name
        if data is None:
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "TIFF")
        else:
            path.write_bytes(data)
        failure = only(watch([path]))
        assert failure.outcome is Outcome.CORRUPT
        reasons[name] = failure.reason
    assert reasons["empty.mp4"] == "empty file"
    assert reasons["text.mp4"].startswith("not a video (begins with b'this is a te'")
    assert reasons["image.mov"] == "not a video but a still image (tiff_pipe)"
    assert reasons["zeros.avi"].startswith("not a video")


def test_unfinished_recording_says_so(tmp_path: Path) -> None:
    whole = shoot(tmp_path / "a.mp4", Film(options=X264))
    cut = tmp_path / "unfinished.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "the index (moov) is missing" in only(watch([cut])).reason


def test_audio_alone_says_so(tmp_path: Path) -> None:
    path = record_silence(tmp_path / "sound.mp4")
    assert only(watch([path])).reason == "no video stream: only audio"


def test_video_without_frames_says_so(tmp_path: Path) -> None:
    path = leave_empty(tmp_path / "none.mp4")
    assert only(watch([path])).reason == "no frames: the video stream is empty"


def test_large_frames_are_refused(tmp_path: Path) -> None:
    path = shoot(tmp_path / "a.mp4", Film(options=X264))
    failure = only(watch([path], using=settings(max_pixels=1000)))
    assert failure.outcome is Outcome.CORRUPT
    assert failure.reason.startswith("too large: 128x96 = 12,288 pixels")


@pytest.mark.parametrize("threads", [1, 3])
def test_storage_that_fails_ends_the_video(tmp_path: Path, threads: int) -> None:
    path = shoot(tmp_path / "a.mkv", Film(options=X264, frames=200, bit_rate=4_000_000))
    other = shoot(tmp_path / "b.mp4", Film(options=X264))

    def failing(video):
        fails_at = path.stat().st_size * 2 // 3 if video.filename == str(path) else None
        return LocalFile(Path(video.filename), fails_at)

    videos = [sample(path), sample(other)]
    seen = collect(frame_batches(videos, failing, settings(threads), Sampling()))
    gone, facts = seen.ended
    assert gone == Failure(str(path), Outcome.GONE, "the object is not there any more")
    assert facts.filename == str(other)
    of_other = [r for r in seen.results if r.frame.video == str(other)]
    assert [r.pixel_hash for r in of_other] == [digest for _, digest in plainly(other)]


def test_what_is_broken_in_the_program_is_raised(tmp_path: Path) -> None:
    path = shoot(tmp_path / "a.mp4", Film(options=X264))

    def refuses(video):
        raise PermissionError(video.filename)

    with pytest.raises(PermissionError):
        list(frame_batches([sample(path)], refuses, settings(2), Sampling()))


def test_timestamps_that_go_back_lose_no_frame(tmp_path: Path) -> None:
    """Two films one after the other in one raw stream of a container that keeps their times."""
    path = tmp_path / "back.avi"
    shoot(path, Film("mpeg4", frames=40))
    seen = consistent(path)
    assert len(seen.results) == 40
    times = [pts for _, pts in seen.frames() if pts is not None]
    assert times == sorted(set(times))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_that_of_ffmpeg(tmp_path: Path, turn: int) -> None:
    missing = None if shutil.which("ffmpeg") else "there is no ffmpeg"
    need("ffmpeg", missing=missing)
    path = shoot(tmp_path / "a.mp4", Film(options=X264, frames=3))
    turned = tmp_path / "turned.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-c", "copy"]
    subprocess.run([*command, "-metadata:s:v", f"rotate={turn}", str(turned)], check=True)
    upright = tmp_path / "upright.png"
    command = ["ffmpeg", "-v", "error", "-i", str(turned), "-frames:v", "1", str(upright)]
    subprocess.run(command, check=True)
    (batch,) = frame_batches([sample(turned)], opened, settings(size=64), Sampling())
    with Image.open(upright) as image:
        assert (batch.results[0].width, batch.results[0].height) == image.size
        expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(batch.pixels[0].numpy().astype(int) - expected).mean() < 6


def test_counts_are_those_of_ffprobe(tmp_path: Path) -> None:
    need("ffmpeg", missing=None if shutil.which("ffprobe") else "there is no ffprobe")
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    videos = sorted(Path(data, "videos").glob("*.mp4")) if data else []
    videos += [shoot(tmp_path / name, film) for name, film in BROKEN.items()]
    for path in videos:
        command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames"]
        command += ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
        counted = subprocess.run(command, capture_output=True, text=True, check=True)
        assert watch([path]).ended[0].n_frames == int(counted.stdout.split()[0].strip(","))
