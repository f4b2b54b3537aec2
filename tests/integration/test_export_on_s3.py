"""Exports of runs in buckets: read URLs that open, results in the bucket, nothing left mounted."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.images import jpeg, scene
from tests.integration.mounted_bucket import cli, mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

RUN = "2026-11-20/14:03:22"
ODD = "folder ü/#1 +%2F&=?;~'().jpg"


@pytest.fixture(scope="module")
def buckets(s3, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    for number, name in enumerate(["a.jpg", "sub/b.jpg", ODD]):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(jpeg(scene(number)))
    with mounted_buckets(s3, images, tmp_path_factory.mktemp("mounted")) as both:
        done = both.run(f"run_directory={RUN}")
        assert done.returncode == 0, done.stderr
        yield both


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def source_object(buckets, name: str) -> bytes:
    return buckets.s3.client().get_object(Bucket=buckets.source, Key=name)["Body"].read()


def test_tasks_with_read_urls_lie_in_the_bucket_and_open(buckets):
    done = cli(
        *(buckets, "export", f"{buckets.output_dir}/{RUN}"),
        *("--format", "label-studio", "--expires", "12h", "--json"),
    )

    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert result["place"].startswith(f"{buckets.output_dir}/{RUN}/exports/label-studio/")
    tasks = json.loads(buckets.content(f"{RUN}/exports/label-studio/label_studio_tasks.json"))
    names = [task["data"]["lightlyFileName"] for task in tasks]
    assert sorted(names) == sorted(["a.jpg", "sub/b.jpg", ODD])
    for task, name in zip(tasks, names, strict=True):
        assert "X-Amz-Expires=43200" in task["data"]["image"]
        assert fetch(task["data"]["image"]) == source_object(buckets, name)
    assert buckets.s3.secret_key not in done.stdout + done.stderr


def test_a_run_named_as_s3_gets_its_export_there(buckets):
    done = cli(
        *(buckets, "export", f"s3://{buckets.target}/{RUN}", "--format", "parquet", "--read-urls")
    )

    assert done.returncode == 0, done.stderr
    key = f"{RUN}/exports/parquet/selection.parquet"
    assert done.stdout == f"s3://{buckets.target}/{key}\n"
    assert buckets.content(key).startswith(b"PAR1")
    assert "3 images, 1 file, read URLs hold until" in done.stderr


def test_labels_are_brought_into_a_bucket_and_exported_from_it(buckets, tmp_path):
    content = {
        "images": [{"id": 1, "file_name": ODD, "width": 320, "height": 240}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 7, "name": "car"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    uri = f"s3://{buckets.source}"
    words = ("import-labels", "coco", str(tmp_path / "coco.json"), "--task", "labels")

    read_only = cli(buckets, *words, "--input-dir", str(buckets.input_dir))
    done = cli(buckets, *words, "--input-dir", uri)
    export = cli(
        *(buckets, "export", f"s3://{buckets.target}/{RUN}", "--format", "coco"),
        *("--task", "labels", "--input-dir", uri, "--out", "-"),
    )

    assert (read_only.returncode, "is read-only" in read_only.stderr) == (4, True)
    assert "--out DIR" in read_only.stderr
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{uri}/.lightly/predictions/labels\n"
    assert "1 of 3 images labelled, 1 object of 1 category;" in done.stderr
    (annotation,) = json.loads(export.stdout)["annotations"]
    assert (annotation["category_id"], annotation["bbox"]) == (7, [1, 2, 3, 4])


def test_images_are_copied_from_the_bucket(buckets, tmp_path):
    done = cli(
        *(buckets, "export", f"s3://{buckets.target}/{RUN}", "--format", "huggingface"),
        *("--out", str(tmp_path / "hf")),
    )

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "hf/metadata.jsonl").read_text().splitlines()]
    for line in lines:
        copy = (tmp_path / "hf" / line["file_name"]).read_bytes()
        assert copy == source_object(buckets, line["filename"])


def test_what_is_not_there(buckets, tmp_path):
    nothing = cli(buckets, "export", f"s3://{buckets.target}/nothing", "--format", "filenames")
    elsewhere = cli(buckets, "export", "s3://no-such-bucket-here/r", "--format", "filenames")

    assert (nothing.returncode, "holds no run of lightly-fs" in nothing.stderr) == (6, True)
    assert (elsewhere.returncode, "there is no bucket" in elsewhere.stderr) == (3, True)
