"""`data/videos.csv`: every frame that was taken is counted in one column."""

import csv

import numpy as np

from lightly_fs.artifacts.embedded_table import EmbeddedTable, FrameColumns
from lightly_fs.artifacts.videos_table import count_videos, write_videos
from lightly_fs.types import Failure, Frame, Outcome, VideoFacts, frame_name

VIDEO, N_FRAMES = "a/v.mp4", 6
LOST = {1: Outcome.CORRUPT, 4: Outcome.FAILED, 5: Outcome.FAILED}


def test_frames_that_were_not_read_are_not_corrupt(tmp_path):
    good = [index for index in range(N_FRAMES) if index not in LOST]
    n = len(good)
    failures = [
        Failure(frame_name(VIDEO, index, N_FRAMES), outcome, "x", Frame(VIDEO, index, None, None))
        for index, outcome in LOST.items()
    ]
    table = EmbeddedTable(
        filenames=[frame_name(VIDEO, index, N_FRAMES) for index in good],
        vectors=np.zeros((n, 2), np.float32),
        widths=np.ones(n, np.int32),
        heights=np.ones(n, np.int32),
        content_hashes=np.zeros((n, 32), np.uint8),
        pixel_hashes=np.zeros((n, 32), np.uint8),
        failures=failures,
        frames=FrameColumns(
            np.zeros(n, np.int32), np.array(good), np.array(good), np.array(good) / 25
        ),
        videos=[VideoFacts(VIDEO, N_FRAMES, 1, "h264", "mov,mp4", 64, 48, 25.0, 0.24)],
    )
    (counted,) = count_videos(table, np.array([0]), np.array([1, 2]))
    lost = Failure("b/none.mkv", Outcome.CORRUPT, "no video")

    write_videos(tmp_path / "videos.csv", [counted], [lost])

    with (tmp_path / "videos.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (counted.embedded, counted.corrupt, counted.failed) == (3, 1, 2)
    assert counted.frames == N_FRAMES
    columns = ("frames", "corrupt", "failed", "embedded", "duplicates", "selected")
    assert [first[name] for name in columns] == ["6", "1", "2", "3", "1", "2"]
    assert [second[name] for name in columns] == ["0"] * 6
