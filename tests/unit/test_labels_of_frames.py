"""Labels of frames of videos: they come in under the names that a run looks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lightly_fs import pipeline
from lightly_fs.annotations.labels import NothingValidError
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.annotations.sample_names import SampleNames, misnumbered
from lightly_fs.config import load_config
from lightly_fs.errors import DatasourceError
from lightly_fs.pipeline.labelling import ImportRequest, import_task
from lightly_fs.types import frame_name
from tests.clips import SIDE, write_clip
from tests.images import jpeg, scene
from tests.unit.annotations.folder import LightlyFolder

N = 20
LABELLED = range(0, N, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("input")
    write_clip(root / "v/a.mp4", range(N))
    write_clip(root / "b.mkv", range(N), seed=1, codec="mjpeg")
    (root / "image.jpg").write_bytes(jpeg(scene(0)))
    return root


def names_of(extension: str = ".png") -> list[str]:
    return [frame_name("v/a.mp4", index, N)[:-4] + extension for index in LABELLED]


def bring_in(folder: Path, format_: str, path: Path, out: Path, **more):
    given = {"format": format_, "path": path, "task": "t", "input_dir": str(folder), **more}
    return import_task(ImportRequest(out=str(out), **given), {})


def coco(*names: str) -> dict[str, object]:
    """One square on each frame, at another place; twice as many on every fourth."""
    width, height = SIDE
    return {
        "images": [
            {"id": n, "file_name": name, "width": width, "height": height}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {
                "image_id": n,
                "category_id": 1 + twin,
                "bbox": [4 * n, 3, 16, 16],
                "segmentation": [[4 * n, 3, 4 * n + 16, 3, 4 * n + 16, 19, 4 * n, 19]],
                "keypoints": [4 * n, 3, 2],
            }
            for n in range(len(names))
            for twin in range(1 + (n % 2 == 0))
        ],
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "other"}],
    }


def written(tmp_path: Path, *names: str) -> Path:
    (tmp_path / "coco.json").write_text(json.dumps(coco(*names)))
    return tmp_path / "coco.json"


@pytest.mark.parametrize("format_", ["coco", "coco-masks", "coco-keypoints"])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_frames_of_a_file(folder, tmp_path, format_, extension):
    path = written(tmp_path, *names_of(extension), "image.jpg", "v/a.mp4", "c-01-mp4.png")

    done = bring_in(folder, format_, path, tmp_path)

    assert (done.n_images, done.n_labelled, done.n_frames) == (1, 11, 10)
    assert done.others == ["c-01-mp4.png", "v/a.mp4"]
    assert done.as_json()["frames"] == 10
    found = read_predictions(LightlyFolder(tmp_path).files, "t", [*names_of(), "image.jpg"])
    assert found.predicted.all()
    assert found.unmatched == 0
    assert len(found.categories) == done.n_objects == 17


def test_names_below_a_folder(folder, tmp_path):
    path = written(tmp_path, *(name.removeprefix("v/") for name in names_of()))

    assert bring_in(folder, "coco", path, tmp_path, below="v").n_frames == 10


@pytest.mark.parametrize("scheme", ["labels/{}", "labels/v/{}", "v/{}"])
def test_frames_of_yolo(folder, tmp_path, scheme):
    """Sizes are those of the video; the text files lie where those of images do."""
    below = "" if "v/" in scheme else "v"
    for number, name in enumerate(names_of(".txt")):
        path = tmp_path / "yolo" / scheme.format(name.removeprefix("v/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"0 0.5 0.5 {(number + 1) / 100} 1\n")
    (tmp_path / "yolo/data.yaml").write_text(yaml.safe_dump({"names": ["square"]}))

    done = bring_in(folder, "yolo", tmp_path / "yolo", tmp_path, below=below)

    assert (done.n_labelled, done.n_frames, done.others) == (10, 10, [])
    found = read_predictions(LightlyFolder(tmp_path).files, "t", names_of())
    assert found.boxes[:, 2].tolist() == pytest.approx([(n + 1) * 0.96 for n in range(10)])
    assert set(found.boxes[:, 3].tolist()) == {64}


def test_yolo_of_a_video_that_cannot_be_read(folder, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.mp4").write_bytes(b"no video")
    (tmp_path / "in/image.jpg").write_bytes((folder / "image.jpg").read_bytes())
    for name in ("broken-1-mp4", "image"):
        (tmp_path / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("square\n")

    done = bring_in(tmp_path / "in", "yolo", tmp_path, tmp_path / "out")

    assert (done.n_labelled, done.n_frames) == (1, 0)
    (invalid,) = done.invalid
    assert invalid.path == "broken.mp4"
    assert "index (moov) is missing" in invalid.reason or "not a video" in invalid.reason


def test_an_input_of_videos_without_a_label(tmp_path):
    write_clip(tmp_path / "in/v.mp4", range(3))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/classes.txt").write_text("square\n")
    (tmp_path / "labels/x.txt").write_text("")

    with pytest.raises(DatasourceError, match="labels of no frame of the input's videos"):
        bring_in(tmp_path / "in", "yolo", tmp_path / "labels", tmp_path / "out")


def test_frames_of_label_studio_tasks(folder, tmp_path):
    """Their addresses are those of the frames that a run wrote."""
    region = {
        "type": "rectanglelabels",
        "original_width": SIDE[0],
        "original_height": SIDE[1],
        "value": {"x": 25, "y": 25, "width": 50, "height": 50, "rectanglelabels": ["square"]},
    }
    tasks = [
        {
            "data": {"image": f"https://host/bucket/r/data/sampled/{name}?X-Amz-Expires=1"},
            "annotations": [{"result": [region]}],
        }
        for name in [*names_of(".jpg"), "image.jpg"]
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))

    done = bring_in(folder, "label-studio", tmp_path / "tasks.json", tmp_path)

    assert (done.n_labelled, done.n_frames, done.others) == (11, 10, [])
    assert read_predictions(LightlyFolder(tmp_path).files, "t", names_of()).predicted.all()


def test_numbers_that_are_too_short_are_left_out(folder, tmp_path):
    path = written(tmp_path, "v/a-7-mp4.png", "v/a-08-mp4.png", "b-3-mkv.png")

    done = bring_in(folder, "coco", path, tmp_path)

    assert done.n_frames == 2  # of b.mkv nothing tells how many digits there are
    (invalid,) = done.invalid
    assert invalid.path == str(path)
    assert invalid.reason == (
        "v/a-7-mp4.png: its number has 1 of 2 digits; write as many as the number of frames of "
        "`v/a.mp4` has, like `v/a-07-mp4.png`"
    )


def test_only_numbers_that_are_too_short_of_yolo(folder, tmp_path):
    (tmp_path / "classes.txt").write_text("square\n")
    for name in ("a-7-mp4", "a-08-mp4"):
        (tmp_path / f"{name}.txt").write_text("3 0.5 0.5 1 1\n")

    with pytest.raises(NothingValidError, match="not one of the labels is valid") as caught:
        bring_in(folder, "yolo", tmp_path, tmp_path / "out", below="v")
    assert [one.path for one in caught.value.invalid] == ["v/a-7-mp4.png", "a-08-mp4.txt"]


def test_what_names_mean():
    names = SampleNames(["v/a.mp4", "v/a-1-mp4.jpg", "image.jpg", "B.MOV"])

    assert names.images == ["v/a-1-mp4.jpg", "image.jpg"]
    meant = {
        "image.jpg": "image.jpg",
        "v/a-1-mp4.jpg": "v/a-1-mp4.jpg",  # a file is itself
        "v/a-1-mp4.png": "v/a-1-mp4.png",
        "v/a-02-mp4.webp": "v/a-02-mp4.png",
        "B-0-MOV.png": "B-0-MOV.png",
    }
    for name, sample in meant.items():
        assert names.sample(name) == sample
        assert name in names
    for name in ("v/a.mp4", "a-1-mp4.png", "B-0-mov.png", "other.jpg", "v/a-x-mp4.png"):
        assert names.sample(name) is None
        assert name not in names
    assert names.frames([*meant, "nothing"]) == ["B-0-MOV.png", "v/a-02-mp4.png", "v/a-1-mp4.png"]
    assert [*misnumbered(["v/a-1-mp4.png", "v/a-02-mp4.png", "B-0-MOV.png"])] == ["v/a-1-mp4.png"]


def test_a_run_on_videos_selects_by_labels_of_frames(folder, tmp_path):
    bring_in(folder, "coco", written(tmp_path, *names_of(".jpg")), tmp_path / "in")
    for path in folder.rglob("*.*"):
        target = tmp_path / "in" / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "out").mkdir()
    count = {"type": "PREDICTIONS", "task": "t", "name": "CATEGORY_COUNT"}
    selection = {
        "n_samples": N,
        "strategies": [
            {
                "input": count | {"categories": ["other"]},
                "strategy": {"type": "THRESHOLD", "threshold": 1, "operation": "BIGGER_EQUAL"},
            },
            {
                "input": {"type": "PREDICTIONS", "task": "t", "name": "CLASS_DISTRIBUTION"},
                "strategy": {"type": "BALANCE", "distribution": "UNIFORM"},
            },
        ],
    }
    words = [f"input_dir={tmp_path / 'in'}", f"output_dir={tmp_path / 'out'}", "run_directory=r"]
    quick = ["model=colour-grid", "runtime=torch", f"selection_config={json.dumps(selection)}"]

    result = pipeline.run(load_config([*words, *quick]), {})

    assert sorted(result.selected) == names_of()[::2]
