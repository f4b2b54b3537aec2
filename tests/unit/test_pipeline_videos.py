"""Whole runs on videos, and on images beside them: sums, names, resuming, and what is left."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lightly_fs import pipeline
from lightly_fs.artifacts import read_list
from lightly_fs.config import load_config
from lightly_fs.decoding.videos import FrameExtractor
from lightly_fs.errors import ConfigError, TooManyFailuresError
from lightly_fs.types import Stage, frame_name, frame_of
from tests.clips import SIDE, count_frames, write_clip
from tests.images import jpeg, scene

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=16", "batch_size=8")
LENGTHS = {"a.mp4": 30, "sub/b.MOV": 9, "sub/c.avi": 104}


def run_on(source: Path, output: Path, *words: str, until: Stage = Stage.REPORT, progress=None):
    output.mkdir(exist_ok=True)
    config = load_config([f"input_dir={source}", f"output_dir={output}", *QUICK, *words])
    extra = {} if progress is None else {"progress": progress}
    return pipeline.run(config, {}, until=until, **extra)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def listed(result, name: str) -> list[str]:
    return read_list(result.directory / "filenames" / f"{name}_filenames.txt")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Three videos, five images, and what cannot be used."""
    folder = tmp_path_factory.mktemp("mixed")
    write_clip(folder / "a.mp4", range(30))
    write_clip(folder / "sub/b.MOV", [1, 2, 3, 3, 3, 4, 5, 6, 7], seed=1, codec="mjpeg")
    write_clip(folder / "sub/c.avi", range(104), seed=2, codec="mjpeg")
    for number in range(5):
        (folder / f"image_{number}.jpg").write_bytes(jpeg(scene(number)))
    (folder / "garbage.mkv").write_bytes(b"this is no video" * 64)
    (folder / "empty.webm").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(folder / "a-07-mp4.png")
    return folder


@pytest.fixture(scope="module")
def finished(mixed, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    words = ("run_directory=r", "stopping_condition.n_samples=20", "dump_dataset=True")
    return run_on(mixed, output, *words)


def test_every_frame_ends_once_under_its_name(finished):
    selected = read_list(
        finished.directory / "filenames" / "sampled_filenames_excluding_datapool.txt"
    )
    kinds = ("corrupt", "gone", "failed", "unreadable", "duplicate", "removed")
    ended = [name for kind in kinds for name in listed(finished, kind)] + selected
    frames = [
        frame_name(video, index, length)
        for video, length in LENGTHS.items()
        for index in range(length)
    ]
    images = [f"image_{number}.jpg" for number in range(5)]
    others = ["garbage.mkv", "empty.webm", "a-07-mp4.png"]

    assert sorted(ended) == sorted([*frames, *images, *others])
    assert finished.counts.check() is None
    assert (11, 3, 143, 2, 5 + 1) == (
        finished.counts.inventory,
        finished.counts.videos,
        finished.counts.frames,
        finished.counts.unusable_videos,
        finished.counts.images,
    )
    assert ["empty.webm", "garbage.mkv"] == listed(finished, "corrupt")
    assert "sub/c-103-avi.png" in frames
    assert "sub/b-8-MOV.png" in frames


def test_an_image_with_the_name_of_a_frame_is_unreadable(finished):
    (row,) = (r for r in rows_of(finished.directory / "data/failures.csv") if "07" in r["filename"])
    assert row["outcome"] == "unreadable"
    assert "frame of `a.mp4`" in row["reason"]
    assert finished.partial


def test_the_table_tells_video_index_and_time_of_every_frame(mixed, finished):
    table = pq.read_table(finished.directory / "data/embeddings.parquet").to_pylist()
    frames = [row for row in table if row["video"] is not None]
    images = [row for row in table if row["video"] is None]

    assert [row["filename"] for row in table] == sorted(row["filename"] for row in table)
    assert len(images) == 5
    assert all(row["frame_index"] is row["pts"] is row["seconds"] is None for row in images)
    for row in frames:
        assert frame_of(row["filename"]) == (row["video"], row["frame_index"])
        assert row["seconds"] == pytest.approx(row["frame_index"] / 10)
        assert (row["width"], row["height"]) == SIDE


def test_frames_that_look_the_same_are_duplicates(finished):
    rows = rows_of(finished.directory / "data/duplicates.csv")
    of_b = [row for row in rows if row["filename"].startswith("sub/b")]
    assert of_b == [
        {"filename": f"sub/b-{n}-MOV.png", "original": "sub/b-2-MOV.png", "reason": "pixels"}
        for n in (3, 4)
    ]


def test_videos_have_a_table_and_corrupt_ones_their_reason(finished):
    rows = {row["filename"]: row for row in rows_of(finished.directory / "data/videos.csv")}
    checked = json.loads((finished.directory / "corruptness_check_information.json").read_text())
    sizes = json.loads((finished.directory / "report_v2.json").read_text())
    sizes = sizes["generalInformation"]["datasetInformation"]["videoLevelSizes"]

    assert sorted(rows) == sorted([*LENGTHS, "garbage.mkv", "empty.webm"])
    for video, length in LENGTHS.items():
        row = rows[video]
        assert int(row["frames"]) == length == int(row["embedded"]) + int(row["corrupt"])
        assert row["problem"] == ""
    assert rows["sub/c.avi"]["codec"] == "mjpeg"
    assert rows["empty.webm"]["problem"].startswith("corrupt: ")
    assert set(checked["corrupt_videos"]) == {"garbage.mkv", "empty.webm"}
    assert checked["corrupt_samples"] == {}
    assert (5, 2) == (sizes["nInput"], sizes["nCorrupt"])
    assert sum(int(row["selected"]) > 0 for row in rows.values()) == sizes["nSelected"]


def test_selected_frames_are_written_at_full_size(mixed, finished):
    selected = read_list(
        finished.directory / "filenames" / "sampled_filenames_excluding_datapool.txt"
    )
    copies = finished.directory / "data/sampled"
    frames = [name for name in selected if frame_of(name)]
    assert frames
    for name in frames:
        with Image.open(copies / name) as image:
            assert (image.size, image.format) == (SIDE, "PNG")
    assert len(list(copies.rglob("*.*"))) == len(selected)


def test_originals_of_frames_are_png(mixed, tmp_path):
    result = run_on(
        *(mixed, tmp_path / "out", "run_directory=r", "stopping_condition.n_samples=12"),
        *("dump_dataset=True", "output_image_format=original"),
    )
    for name in result.selected:
        with Image.open(result.directory / "data/sampled" / name) as image:
            assert image.format == ("PNG" if frame_of(name) else "JPEG")


def embed_until(source: Path, output: Path, n_parts: int) -> None:
    """Embed, and be killed when so many parts are there."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.test_pipeline_videos import run_on\n"
        "def progress(stage, done, total, note=''):\n"
        f"    if len(list(Path({str(output / 'r' / 'parts')!r}).glob('*'))) >= {n_parts}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"run_on(Path({str(source)!r}), Path({str(output)!r}), 'run_directory=r',\n"
        "       'stopping_condition.n_samples=20', progress=progress)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("n_parts", [2, 5])
def test_a_run_that_was_killed_in_a_video_goes_on_and_ends_the_same(
    mixed, finished, tmp_path, n_parts
):
    embed_until(mixed, tmp_path, n_parts)
    before = {path.name for path in (tmp_path / "r/parts").iterdir()}

    result = run_on(mixed, tmp_path, "run_directory=r", "stopping_condition.n_samples=20")

    assert len(before) >= n_parts
    assert result.timings[Stage.EMBED].samples < finished.timings[Stage.EMBED].samples
    for name in ("data/embeddings.parquet", "data/videos.csv", "data/failures.csv"):
        assert (result.directory / name).read_bytes() == (finished.directory / name).read_bytes()


def test_pieces_behind_a_torn_one_are_done_again(mixed, finished, tmp_path):
    run_on(mixed, tmp_path, "run_directory=r", until=Stage.EMBED)
    pieces = sorted((tmp_path / "r/parts").glob("embed-00001.*"))
    assert len(pieces) > 4
    pieces[2].write_bytes(pieces[2].read_bytes()[:-7])

    result = run_on(mixed, tmp_path, "run_directory=r")

    assert 0 < result.timings[Stage.EMBED].samples < 143
    one, other = (
        (directory / "data/embeddings.parquet").read_bytes()
        for directory in (result.directory, finished.directory)
    )
    assert one == other


def test_sequences_stay_within_a_video_and_tell_its_times(mixed, tmp_path):
    words = ("selected_sequence_length=5", "stopping_condition.n_samples=25")
    result = run_on(mixed, tmp_path, "run_directory=r", *words)
    told = json.loads((result.directory / "data/sequence_information.json").read_text())

    assert len(told) == 5
    videos = [one for one in told if "video_name" in one]
    assert videos
    for one in videos:
        first = one["frame_indices"][0]
        assert one["frame_indices"] == list(range(first, first + 5))
        length = LENGTHS[one["video_name"]]
        assert one["frame_names"] == [
            frame_name(one["video_name"], index, length) for index in one["frame_indices"]
        ]
        assert np.allclose(np.diff(one["frame_timestamps_sec"]), 0.1)
        assert len(set(np.diff(one["frame_timestamps_pts"]))) == 1


@pytest.mark.parametrize(
    ("word", "indices"),
    [
        ("video.every_nth=7", [0, 7, 14, 21, 28]),
        ("video.fps=2.5", [0, 4, 8, 12, 16, 20, 24, 28]),
        ("video.keyframes_only=True", [0, 12, 24]),
    ],
)
def test_sampled_frames_keep_their_names_and_the_sums_hold(tmp_path, word, indices):
    write_clip(tmp_path / "in/a.mp4", range(30))
    result = run_on(tmp_path / "in", tmp_path / "out", "run_directory=r", word)

    assert sorted(result.selected) == [frame_name("a.mp4", index, 30) for index in indices]
    assert result.counts.frames == len(indices)
    (row,) = rows_of(result.directory / "data/videos.csv")
    assert (row["frames"], row["embedded"]) == ("30", str(len(indices)))


def test_two_ways_to_sample_are_refused():
    with pytest.raises(ConfigError, match=r"`video.fps` and `video.every_nth` do not go together"):
        load_config(["video.fps=1", "video.every_nth=2"])


@pytest.mark.parametrize("fps", ["0", "-1", "inf", "nan"])
def test_a_rate_is_a_number_of_frames(fps):
    with pytest.raises(ConfigError, match=r"`video.fps"):
        load_config([f"video.fps={fps}"])


def test_embeddings_may_be_given_by_the_names_of_frames(tmp_path):
    write_clip(tmp_path / "in/a.mp4", range(12))
    lines = ["filenames,embedding_0,embedding_1,labels"]
    lines += [
        f"{frame_name('a.mp4', i, 12)},{np.cos(i)},{np.sin(i)},0" for i in range(12) if i != 5
    ]
    (tmp_path / "vectors.csv").write_text("\n".join(lines) + "\n")

    words = (f"shared_dir={tmp_path}", "embeddings=vectors.csv", "run_directory=r")
    result = run_on(tmp_path / "in", tmp_path / "out", *words)

    table = pq.read_table(result.directory / "data/embeddings.parquet").to_pydict()
    assert table["frame_index"] == [i for i in range(12) if i != 5]
    assert np.allclose(table["embedding"][6], [np.cos(7), np.sin(7)])
    assert ["a-05-mp4.png"] == listed(result, "failed")


def test_corrupt_frames_count_against_max_failures(mixed, tmp_path):
    with pytest.raises(TooManyFailuresError, match="max_failures=1"):
        run_on(mixed, tmp_path, "run_directory=r", "max_failures=1")


def test_frames_can_be_read_again_as_they_were_embedded(mixed):
    """The extractor's frame, squashed, is nearest to the picture it was made from."""
    from lightly_fs.datasource.directory_reader import DirectoryReader
    from lightly_fs.types import Failure, Frame, Sample
    from tests.clips import picture

    path = mixed / "a.mp4"
    stat = path.stat()
    video = Sample("a.mp4", stat.st_size, None, stat.st_mtime_ns)
    extractor = FrameExtractor(DirectoryReader(mixed).open, 1 << 24)
    assert count_frames(path) == 30
    for index in (0, 3, 17, 29, 5):
        pixels = extractor.read(video, Frame("a.mp4", index, None, None))
        assert not isinstance(pixels, Failure)
        errors = [
            float(np.abs(pixels.astype(int) - picture(n).astype(int)).mean()) for n in range(30)
        ]
        assert int(np.argmin(errors)) == index
