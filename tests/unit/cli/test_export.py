"""`lightly-fs export` and `import-labels` as a person or a program meets them."""

import csv
import json
import shutil

import pytest

from lightly_fs.artifacts import read_list
from lightly_fs.cli.export import FORMATS
from tests.unit.cli.command import lightly_fs
from tests.unit.exporting import run_on, with_predictions


@pytest.fixture(scope="module")
def places(images, tmp_path_factory):
    """An input with predictions and a finished run on it."""
    root = tmp_path_factory.mktemp("cli-export")
    source = with_predictions(images, root / "in")
    words = ("run_directory=r", "stopping_condition.n_samples=4")
    return source, run_on(source, root / "out", *words).directory


def test_stdout_is_the_place_and_stderr_is_for_people(places):
    _, run = places

    done = lightly_fs("export", f"{run}/report.pdf", "--format", "coco", "--task", "det")

    assert (0, f"{run}/exports/coco/coco.json\n") == (done.returncode, done.stdout)
    assert done.stderr == "4 images, 3 with predictions of `det`, 1 file\n"


def test_json_is_for_programs(places, tmp_path):
    _, run = places

    done = lightly_fs("export", str(run), "--format", "filenames", "--out", str(tmp_path), "--json")

    result = json.loads(done.stdout)
    assert (result["format"], result["images"], result["urls_until"]) == ("filenames", 4, None)
    (file,) = result["files"]
    assert (tmp_path / file["name"]).stat().st_size == file["size"]


def test_a_dash_is_stdout(places):
    _, run = places

    done = lightly_fs("export", str(run), "--format", "filenames", "--out", "-")

    assert done.stdout.splitlines() == read_list(
        run / "filenames/sampled_filenames_excluding_datapool.txt"
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("--format", "excel"), 2, "excel", ""),
        (("--format", "sama", "--task", "det"), 2, "no place for predictions", "coco"),
        (("--format", "parquet", "--expires", "1y"), 2, "`1y` is no duration", "7d"),
        (
            ("--format", "labelbox", "--expires", "1h", "--url-prefix", "https://x"),
            *(2, "not both", "keep one"),
        ),
        (("--format", "labelbox"), 2, "the bucket behind", "--url-prefix"),
        (("--format", "coco"), 2, "`coco` holds predictions", "--task NAME"),
        (("--format", "coco", "--task", "dett"), 4, "does not list the task `dett`", "`det`"),
        (("--format", "coco", "--out", "-", "--json"), 2, "either", "--out PATH"),
        (("--format", "yolo", "--out", "-", "--task", "det"), 2, "more than one", "--out DIR"),
        (
            ("--format", "filenames", "--out", "/no/such/dir"),
            4,
            "--out `/no/such/dir`",
            "folder above",
        ),
    ],
)
def test_errors_name_the_thing_and_the_fix(places, words, code, message, hint):
    _, run = places

    done = lightly_fs("export", str(run), *words)

    said = done.stderr + done.stdout
    assert done.returncode == code
    assert message in said
    assert hint in said
    assert "Traceback" not in said


def test_an_unfinished_run(places, tmp_path):
    _, run = places
    shutil.copytree(run, tmp_path / "r")
    (tmp_path / "r/manifest.json").unlink()

    done = lightly_fs("export", str(tmp_path / "r"), "--format", "filenames")

    assert (6, "") == (done.returncode, done.stdout)
    assert "is not finished" in done.stderr
    assert "with the same run_directory" in done.stderr


def test_labels_go_in_and_are_refused_the_second_time(places, tmp_path):
    source, run = places
    shutil.copytree(source, tmp_path / "in")
    out = str(tmp_path / "c.json")
    lightly_fs("export", str(run), "--format", "coco", "--task", "det", "--out", out)
    words = ("import-labels", "coco", out, "--task", "labels")

    first = lightly_fs(*words, "--input-dir", str(tmp_path / "in"))
    again = lightly_fs(*words, "--input-dir", str(tmp_path / "in"), "--json")
    replaced = lightly_fs(*words, "--input-dir", str(tmp_path / "in"), "--replace", "--json")

    assert first.stdout == f"{tmp_path}/in/.lightly/predictions/labels\n"
    assert "4 of 29 images labelled, 6 objects of 2 categories; 0 names" in first.stderr
    assert (2, 2) == (again.returncode, json.loads(again.stdout)["exit_code"])
    assert "--replace" in json.loads(again.stdout)["hint"]
    assert json.loads(replaced.stdout)["labelled"] == 4
    tasks = json.loads((tmp_path / "in/.lightly/predictions/tasks.json").read_bytes())
    assert tasks == ["det", "labels"]


@pytest.mark.parametrize("out", ["given", ""])
def test_labels_that_cannot_be_written_name_the_place(tmp_path, out):
    place = tmp_path / "none" / "x"
    (tmp_path / "c.json").write_text("{}")
    words = ("import-labels", "coco", str(tmp_path / "c.json"), "--task", "labels", "--input-dir")
    given = (*words, str(tmp_path), "--out", str(place)) if out else (*words, str(place))

    done = lightly_fs(*given)

    assert done.returncode == 4
    assert f"{'--out' if out else 'input_dir'} `{place}` cannot be created" in done.stderr


def test_labels_that_are_left_out_are_listed(places, tmp_path):
    source, _ = places
    boxes = [[1, 2, 3, 4], [1, 2], None, "x", [1, 2, -3, 4]]
    content = {
        "images": [{"id": 1, "file_name": "folder_1/scene_001.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 0, "bbox": box} for box in boxes],
        "categories": [{"id": 0, "name": "car"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    listed = tmp_path / "left out.csv"
    words = ("import-labels", "coco", str(tmp_path / "c.json"), "--task", "labels", "--input-dir")
    words = (*words, str(source), "--out", str(tmp_path / "out"), "--replace")

    said = lightly_fs(*words)
    as_json = lightly_fs(*words, "--json", "--invalid", str(listed))

    assert (0, 0) == (said.returncode, as_json.returncode)
    assert "1 of 29 images labelled, 1 object of 1 category;" in said.stderr
    assert "without an image, 4 left out\nleft out:\n" in said.stderr
    assert (
        f"  {tmp_path}/c.json: $.annotations[1].bbox: expected `array` of length 4" in said.stderr
    )
    assert "and 1 more; --invalid FILE lists all" in said.stderr
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    assert rows == json.loads(as_json.stdout)["invalid"]
    assert [row["reason"].partition(".bbox")[0] for row in rows] == [
        f"$.annotations[{n}]" for n in (1, 2, 3, 4)
    ]

    del content["annotations"][0]
    (tmp_path / "c.json").write_text(json.dumps(content))
    nothing = lightly_fs(*words, "--invalid", str(listed))
    assert (4, 5) == (nothing.returncode, len(listed.read_text().splitlines()))
    assert "not one of the labels is valid" in nothing.stderr
    nowhere = lightly_fs(*words, "--invalid", "/no/such/dir/x.csv")
    assert (nowhere.returncode, "cannot be written" in nowhere.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("export r --format ", list(FORMATS)),
        ("export r --format l", ["label-studio", "labelbox", "lightly"]),
        ("import-labels c", ["coco", "coco-keypoints", "coco-masks", "cvat", "cvat-masks"]),
    ],
)
def test_formats_are_completed(words, expected):
    line = f"lightly-fs {words}".split(" ")

    done = lightly_fs(
        _LIGHTLY_FS_COMPLETE="bash_complete",
        COMP_WORDS=f"lightly-fs {words}",
        COMP_CWORD=str(len(line) - 1),
    )

    assert [one.partition(",")[2] for one in done.stdout.splitlines()] == expected
