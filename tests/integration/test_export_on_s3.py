"""Exports of runs in buckets: read URLs that open, results in the bucket, nothing left mounted."""

from __future__ import annotations

import io
import json
import urllib.request

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.clips import SIDE, write_clip
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


@pytest.fixture(scope="module")
def filmed(s3, tmp_path_factory):
    """A video and an image, and runs that wrote what they selected: as PNG, smaller, not at all."""
    images = tmp_path_factory.mktemp("films")
    (images / "a.jpg").write_bytes(jpeg(scene(0)))
    write_clip(images / "v/b c.mp4", range(12))
    with mounted_buckets(s3, images, tmp_path_factory.mktemp("filmed")) as both:
        for run, words in (
            ("written", ("dump_dataset=True", "output_image_format=webp")),
            ("small", ("dump_dataset=True", "output_image_size=32")),
            ("none", ()),
        ):
            done = both.run(f"run_directory={run}", *words)
            assert done.returncode == 0, done.stderr
        yield both


@pytest.mark.parametrize("where", ["mounted", "s3"])
@pytest.mark.parametrize("format_", ["label-studio", "labelbox", "parquet"])
def test_addresses_of_frames_are_those_of_their_copies(filmed, tmp_path, where, format_):
    run = f"{filmed.output_dir}/written" if where == "mounted" else f"s3://{filmed.target}/written"

    done = cli(
        *(filmed, "export", run, "--format", format_, "--read-urls", "--out", str(tmp_path / "x"))
    )

    assert done.returncode == 0, done.stderr
    if format_ == "label-studio":
        tasks = json.loads((tmp_path / "x/label_studio_tasks.json").read_bytes())
        url_of = {one["data"]["lightlyFileName"]: one["data"]["image"] for one in tasks}
    elif format_ == "labelbox":
        rows = json.loads((tmp_path / "x/labelbox_data_rows.json").read_bytes())
        url_of = {one["global_key"]: one["row_data"] for one in rows}
    else:
        table = pq.read_table(tmp_path / "x/selection.parquet").to_pydict()
        url_of = dict(zip(table["filename"], table["read_url"], strict=True))
    assert fetch(url_of.pop("a.jpg")) == source_object(filmed, "a.jpg")
    assert sorted(url_of) == [f"v/b c-{index:02}-mp4.png" for index in range(12)]
    for name, url in url_of.items():
        data = fetch(url)
        assert data == filmed.content(f"written/data/sampled/{name[:-4]}.webp")
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == SIDE


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ("none", "the run wrote no image of it"),
        ("small", "`output_image_size` has scaled its"),
    ],
)
def test_frames_that_are_nowhere_as_images_of_their_size_have_no_address(filmed, run, reason):
    words = ("export", f"s3://{filmed.target}/{run}", "--format", "labelbox", "--out", "-")

    refused = cli(filmed, *words)
    served = cli(filmed, *words, "--url-prefix", "https://host/frames")

    assert (refused.returncode, reason in refused.stderr) == (2, True)
    assert "dump_dataset=True" in refused.stderr
    assert served.returncode == 0, served.stderr
    assert "https://host/frames/v/b%20c-03-mp4.png" in served.stdout


def test_labels_of_the_copies_come_back_as_those_of_frames(filmed, tmp_path):
    """Label Studio exports the tasks that it was given, with what people drew on them."""
    exported = cli(
        *(filmed, "export", f"s3://{filmed.target}/written", "--format", "label-studio"),
        *("--out", "-"),
    )
    region = {
        "type": "rectanglelabels",
        "original_width": SIDE[0],
        "original_height": SIDE[1],
        "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["square"]},
    }
    tasks = json.loads(exported.stdout)
    for task in tasks:
        task["annotations"] = [{"result": [region]}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))

    done = cli(
        *(filmed, "import-labels", "label-studio", str(tmp_path / "tasks.json")),
        *("--task", "drawn", "--input-dir", f"s3://{filmed.source}", "--json"),
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["labelled"], result["frames"], result["images"]) == (13, 12, 1)
    key = ".lightly/predictions/drawn/v/b c-03-mp4.json"
    content = json.loads(source_object(filmed, key))
    assert content["file_name"] == "v/b c-03-mp4.png"
    assert content["predictions"][0]["bbox"] == [0, 0, 48, 32]


def test_frames_of_a_bucket_have_the_size_of_their_video(filmed, tmp_path):
    (tmp_path / "classes.txt").write_text("square\n")
    (tmp_path / "v").mkdir()
    (tmp_path / "v/b c-03-mp4.txt").write_text("0 0.5 0.5 1 1\n")

    done = cli(
        *(filmed, "import-labels", "yolo", str(tmp_path), "--task", "yolo"),
        *("--input-dir", f"s3://{filmed.source}"),
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("0 of 1 image and 1 frame labelled, 1 object of 1 category;")
    content = json.loads(source_object(filmed, ".lightly/predictions/yolo/v/b c-03-mp4.json"))
    assert content["predictions"][0]["bbox"] == [0, 0, *SIDE]
