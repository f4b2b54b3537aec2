"""Videos in a real bucket behind real mounts: the same bytes by any way, and after kills."""

import csv
import hashlib
import io
import json
import signal

import pytest

from tests.clips import write_clip
from tests.images import jpeg, scene
from tests.integration.mounted_bucket import mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

SOME = ("stopping_condition.n_samples=12", "dump_dataset=True")
LENGTHS = {"long.mp4": 240, "sub/short.mkv": 40}


@pytest.fixture(scope="module")
def buckets(s3, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, (name, length) in enumerate(LENGTHS.items()):
        write_clip(folder / name, range(length), seed=number)
    whole = (folder / "long.mp4").read_bytes()
    (folder / "torn.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "image.jpg").write_bytes(jpeg(scene(0)))
    with mounted_buckets(s3, folder, tmp_path_factory.mktemp("mounted")) as both:
        yield both


def digests(buckets, run: str) -> dict[str, str]:
    return {
        key.removeprefix(f"{run}/"): hashlib.sha256(buckets.content(key)).hexdigest()
        for key in buckets.keys()
        if key.startswith((f"{run}/data/", f"{run}/filenames/")) and not key.endswith("/")
    }


@pytest.fixture(scope="module")
def reference(buckets):
    done = buckets.run("run_directory=reference", *SOME, "read_through=object")
    assert done.returncode == 0, done.stderr
    return digests(buckets, "reference")


def test_the_sums_hold_and_frames_lie_in_the_bucket(buckets, reference):
    counts = json.loads(buckets.content("reference/manifest.json"))["counts"]
    table = csv.DictReader(io.StringIO(buckets.content("reference/data/videos.csv").decode()))
    rows = {row["filename"]: row for row in table}
    checked = json.loads(buckets.content("reference/corruptness_check_information.json"))

    assert {"inventory": 4, "videos": 2, "unusable_videos": 1, "selected": 12}.items() <= (
        counts.items()
    )
    assert counts["frames"] == sum(LENGTHS.values()) == counts["embedded"] - 1
    assert {name: int(rows[name]["frames"]) for name in LENGTHS} == LENGTHS
    assert list(checked["corrupt_videos"]) == ["torn.mp4"]
    copies = [key for key in reference if key.startswith("data/sampled/")]
    assert len(copies) == 12


def test_reading_through_the_mount_gives_the_same_bytes(buckets, reference):
    done = buckets.run("run_directory=mount", *SOME, "read_through=mount")

    assert done.returncode == 0, done.stderr
    assert reference == digests(buckets, "mount")


@pytest.mark.parametrize("sign", ["embed-00001.0000", "embed-00001.0005"])
def test_a_run_that_was_killed_in_a_video_is_resumed(buckets, reference, tmp_path, sign):
    run = f"killed-{sign[-1]}"
    words = (f"run_directory={run}", *SOME)
    process = buckets.start(*words, log=tmp_path / "log")
    buckets.wait_for_key(f"{run}/parts/{sign}", process)
    process.send_signal(signal.SIGKILL)
    process.wait()

    done = buckets.run(*words)

    assert done.returncode == 0, done.stderr
    assert reference == digests(buckets, run)
