"""Files that end before what they tell: found by their own bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightly_fs.decoding.video_container import HEAD_BYTES, ends_in_index, told_bytes
from lightly_fs.decoding.videos import Sampling, frame_batches
from lightly_fs.types import Failure, Outcome
from tests.films import Film, shoot
from tests.unit.decoding.filmed import LocalFile, collect, sample, settings, watch

X264 = {"preset": "ultrafast"}
FILMS = {
    "a.mkv": Film(options=X264),
    "a.webm": Film("libvpx-vp9", frames=12, options={"deadline": "realtime", "cpu-used": "8"}),
    "a.avi": Film("mjpeg", frames=12, pixels="yuvj420p"),
}


@pytest.mark.parametrize("name", FILMS)
def test_a_container_tells_its_size_to_the_byte(tmp_path: Path, name: str) -> None:
    path = shoot(tmp_path / name, FILMS[name])
    data = path.read_bytes()
    assert told_bytes(data[:HEAD_BYTES]) == len(data)
    assert watch([path]).ended[0].problem == ""
    path.write_bytes(data[:-1])
    assert watch([path]).ended[0].problem == (
        f"truncated: the file ends in the middle: {len(data):,} bytes are told, "
        f"it has {len(data) - 1:,}"
    )


def test_a_stream_that_was_written_without_going_back_tells_nothing(tmp_path: Path) -> None:
    path = shoot(tmp_path / "live.mkv", Film(options=X264, container={"live": "1"}))
    assert told_bytes(path.read_bytes()[:HEAD_BYTES]) is None
    assert watch([path]).ended[0].problem == ""


@given(st.binary(max_size=64), st.sampled_from([b"", b"RIFF", b"\x1a\x45\xdf\xa3"]))
def test_any_bytes_tell_a_size_or_none(data: bytes, begin: bytes) -> None:
    for head in (begin + data, begin + data[:9] + b"\x18\x53\x80\x67" + data[9:]):
        told = told_bytes(head)
        assert told is None or told >= 8


def test_every_cut_through_an_index_is_told(tmp_path: Path) -> None:
    whole = shoot(tmp_path / "a.mp4", Film(options=X264, container={"movflags": "faststart"}))
    data = whole.read_bytes()
    begin = data.index(b"moov") - 4
    end = begin + int.from_bytes(data[begin : begin + 4], "big")
    for cut in (begin + 8, begin + 100, (begin + end) // 2, end - 200, end - 1):
        path = tmp_path / "cut.mp4"
        path.write_bytes(data[:cut])
        with path.open("rb", buffering=0) as handle:
            assert ends_in_index(handle, cut)
        (failure,) = watch([path]).ended
        assert isinstance(failure, Failure)
        assert "truncated: the file ends in the middle" in failure.reason
    with whole.open("rb", buffering=0) as handle:
        assert not ends_in_index(handle, len(data))


def test_storage_that_fails_prints_nothing(tmp_path: Path, capfd) -> None:
    """PyAV prints exceptions of a file object that FFmpeg reads from once more."""
    film = Film(options=X264, frames=200, bit_rate=4_000_000)
    path = shoot(tmp_path / "a.mp4", film)
    for share in (0.0, 0.3, 0.9, 0.99):
        fails_at = int(share * path.stat().st_size)
        seen = collect(
            frame_batches(
                [sample(path)],
                lambda video, fails_at=fails_at: LocalFile(Path(video.filename), fails_at),
                settings(3),
                Sampling(),
            )
        )
        assert [one.outcome for one in seen.ended] == [Outcome.GONE]
    assert capfd.readouterr().err == ""
