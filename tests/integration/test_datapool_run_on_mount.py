"""Runs with a datapool on a mounted output bucket: only what is new is read and added."""

import csv
import io
import json

import pytest

from tests.clips import write_clip
from tests.images import jpeg, scene
from tests.integration.mounted_bucket import mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


@pytest.fixture(scope="module")
def buckets(s3, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    write_clip(folder / "a.mp4", range(30))
    write_clip(folder / "b.mkv", range(20), seed=1)
    (folder / "image.jpg").write_bytes(jpeg(scene(0)))
    with mounted_buckets(s3, folder, tmp_path_factory.mktemp("mounted")) as both:
        yield both


def run(buckets, name: str, *words: str):
    """Return what a run says on stdout, and what it says to people."""
    pool = f"datapool.name={buckets.output_dir}/pool"
    limit = "stopping_condition.n_samples=5"
    done = buckets.run("--json", f"run_directory={name}", pool, limit, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def put(buckets, name: str, data: bytes) -> None:
    buckets.s3.client().put_object(Bucket=buckets.source, Key=name, Body=data)


def added(buckets, name: str) -> dict[str, float]:
    table = buckets.content(f"{name}/data/datapool_added.csv").decode()
    return {row["filename"]: float(row["distance"]) for row in csv.DictReader(io.StringIO(table))}


def test_later_runs_read_and_add_only_what_is_new(buckets, tmp_path):
    first, _ = run(buckets, "first")
    assert first["counts"]["frames"] == 50
    assert (first["datapool"]["state"], first["datapool"]["selected"]) == (1, 5)

    again, told = run(buckets, "again")
    assert again["nothing_new"]
    assert not again["requests"].get("GET")
    assert "0 new of 3 files (3 in the datapool)" in told
    assert not any(key.startswith("again/") for key in buckets.keys())

    put(buckets, "c.mp4", write_clip(tmp_path / "c.mp4", range(25), seed=2).read_bytes())
    put(buckets, "a.mp4", write_clip(tmp_path / "a.mp4", range(40, 58), seed=3).read_bytes())
    buckets.s3.client().delete_object(Bucket=buckets.source, Key="image.jpg")
    third, _ = run(buckets, "third")

    assert third["counts"]["inventory"] == 2
    assert third["counts"]["frames"] == 25 + 18
    facts = third["datapool"]
    assert (facts["known"], facts["new"], facts["changed"], facts["deleted"]) == (1, 1, 1, 1)
    distances = added(buckets, "third")
    assert len(distances) == 5
    assert all(name.startswith(("a-", "c-")) and apart > 0 for name, apart in distances.items())
    record = json.loads(buckets.content("third/data/datapool.json"))
    assert record["changed_filenames"] == ["a.mp4"]
    assert record["deleted_filenames"] == ["image.jpg"]
