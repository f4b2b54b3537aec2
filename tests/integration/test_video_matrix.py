"""Videos of every kind, whole and broken, through the program: each ends as it is documented to."""

import shutil
from pathlib import Path

import pytest

from scripts import video_matrix
from tests.conftest import need

QUICK = ("model=colour-grid", "runtime=torch", "properties=off")


@pytest.fixture(autouse=True)
def _ffmpeg() -> None:
    missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    need("ffmpeg", missing=f"there is no {missing[0]}" if missing else None)


def test_every_video_ends_as_documented(tmp_path: Path) -> None:
    folder = tmp_path / "bucket"
    folder.mkdir()
    cases = video_matrix.make_bucket(folder)
    directory = video_matrix.run(folder, tmp_path / "out", QUICK)
    ended = video_matrix.endings(directory)
    wrong = [
        (case, ended[case.filename])
        for case in cases
        if not video_matrix.is_as_documented(
            case, ended[case.filename], video_matrix.count_frames(folder / case.filename)
        )
    ]
    assert wrong == []
    assert video_matrix.sums_hold(directory, ended, cases)
