"""Videos in a bucket: no byte is sent twice, and a killed run goes on where it was."""

from pathlib import Path

import pytest

from lightly_fs.datasource.ranged import BLOCK_BYTES
from scripts.bench_video_bytes import opened, stream, upload
from scripts.bench_video_resume import kill_and_resume, on
from tests.counting_s3 import counting_s3
from tests.films import Film, shoot

pytestmark = pytest.mark.s3

LOSSLESS = {"preset": "ultrafast", "qp": "0"}
LARGE = Film("rawvideo", frames=230, size=(640, 360), pixels="uyvy422")
"""More than 100 MB, with its index at the end; not compressed, so that it takes no time."""
SMALL = {
    "cues.mkv": Film(options=LOSSLESS, frames=150, gop=25, size=(320, 180), grain=64),
    "index.avi": Film("mjpeg", pixels="yuvj420p", frames=150, size=(320, 180), grain=64),
}
LONG = Film("rawvideo", frames=1000, size=(320, 180), pixels="uyvy422")
QUICK = ("model=colour-grid", "runtime=torch", "properties=off", "batch_size=16", "shard_size=64")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    made = {"moov-last.mov": LARGE, **SMALL}
    return {name: shoot(folder / name, film) for name, film in made.items()}


@pytest.fixture(scope="module")
def server():
    with counting_s3() as s3:
        yield s3


@pytest.mark.parametrize("way", ["object", pytest.param("mount", marks=pytest.mark.fuse)])
def test_every_byte_of_a_video_is_sent_once(server, films, tmp_path: Path, way: str) -> None:
    bucket = server.server.new_bucket()
    assert films["moov-last.mov"].stat().st_size > 100_000_000
    for name, path in films.items():
        sample = upload(server, bucket, path)
        with opened(server, bucket, way, tmp_path / f"{way}-{name}") as reader:
            found = stream(server, bucket, sample, reader)
        blocks = -(-found.size // BLOCK_BYTES)
        assert found.size <= found.bytes <= 1.05 * found.size, name
        assert found.written.bytes <= 1.05 * found.size, name
        # s3fs parts large requests.
        assert found.requests <= (blocks if way == "object" else 2 * blocks + 2), name


def test_videos_of_the_world_cost_one_request(server, test_data: Path) -> None:
    bucket = server.server.new_bucket()
    for path in sorted((test_data / "videos").glob("*.mp4")):
        sample = upload(server, bucket, path)
        with opened(server, bucket, "object", path) as reader:
            found = stream(server, bucket, sample, reader)
        assert (found.requests, found.bytes) == (1, path.stat().st_size)


@pytest.mark.slow
def test_a_killed_run_reads_only_what_is_not_committed(tmp_path: Path) -> None:
    film = shoot(tmp_path / "film.mov", LONG)
    with on("object", film, tmp_path, QUICK) as bench:
        found = kill_and_resume(bench)
    assert found.same
    assert found.frames == LONG.frames
    assert LONG.frames // 2 <= found.committed < LONG.frames
    # Besides what is left: the first and the last block, and up to three that were read ahead.
    left = 1 - found.committed / LONG.frames
    assert found.resumed_bytes <= left * bench.size + 5 * BLOCK_BYTES
    assert found.resumed_bytes < 0.9 * bench.size < found.whole_bytes
