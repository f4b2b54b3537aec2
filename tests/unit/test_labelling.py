"""Imports of labels into `.lightly/`, and round trips through every format that has an importer."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lightly_fs.annotations.class_names import listed_names, yaml_names
from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.artifacts import read_list
from lightly_fs.cli.labels import FORMATS as OFFERED
from lightly_fs.errors import ArtifactError, ConfigError, DatasourceError
from lightly_fs.pipeline.exporting import ExportRequest, export_selection
from lightly_fs.pipeline.labelling import ImportRequest, import_task
from tests.unit.annotations.folder import LightlyFolder
from tests.unit.exporting import run_on

COCO = {
    "images": [
        {"id": 5, "file_name": "a.jpg", "width": 8, "height": 6},
        {"id": 9, "file_name": "b.jpg", "width": 8, "height": 6},
        {"id": 11, "file_name": "elsewhere.jpg", "width": 8, "height": 6},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 17, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 8, 6]},
    ],
    "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
}


@pytest.fixture
def photos(tmp_path):
    """An input of three images, the last of them lying on its side."""
    root = tmp_path / "in"
    (root / "images").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 6)).save(root / "images" / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 6)).save(root / "images/turned.jpg", exif=turned)
    return root


def bring_in(root: Path, format_: str, path: Path, **more):
    given = {"format": format_, "path": path, "task": "labels", "input_dir": str(root), **more}
    return import_task(ImportRequest(**given), {})


def coco_file(folder: Path, content: object = COCO) -> Path:
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def predictions(root: Path, *names: str, task: str = "labels"):
    return read_predictions(LightlyFolder(root).files, task, list(names))


def tasks(root: Path) -> list[str]:
    return json.loads((root / ".lightly/predictions/tasks.json").read_bytes())


def test_coco_becomes_a_task_that_says_what_matched(photos, tmp_path):
    done = bring_in(photos, "coco", coco_file(tmp_path), below="images")

    assert done.place == f"{photos}/.lightly/predictions/labels"
    assert (done.n_images, done.n_labelled, done.n_objects, done.n_categories) == (3, 2, 1, 2)
    assert done.others == ["images/elsewhere.jpg"]
    assert tasks(photos) == ["labels"]
    found = predictions(photos, "images/a.jpg", "images/b.jpg", "images/turned.jpg")
    assert found.predicted.tolist() == [True, True, False]
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert found.scores.tolist() == [0.25]
    assert [one.id for one in found.schema.categories] == [3, 17]


def test_other_tasks_stay_and_an_existing_one_is_replaced_only_when_asked(photos, tmp_path):
    folder = LightlyFolder(photos).task("mine", "classification", ["x"])
    folder.predict("mine", "images/a.json", {"category_id": 0})
    path = coco_file(tmp_path)
    bring_in(photos, "coco", path, below="images")
    changed = COCO | {"images": COCO["images"][1:]}
    coco_file(tmp_path, changed)

    with pytest.raises(ConfigError, match=r"predictions/labels` holds a task already \(3 files\)"):
        bring_in(photos, "coco", path, below="images")
    assert predictions(photos, "images/a.jpg", "images/b.jpg").predicted.tolist() == [True, True]
    bring_in(photos, "coco", path, below="images", replace=True)

    assert predictions(photos, "images/a.jpg", "images/b.jpg").predicted.tolist() == [False, True]
    assert tasks(photos) == ["mine", "labels"]
    assert predictions(photos, "images/a.jpg", task="mine").predicted.all()


def test_another_place_for_the_folder(photos, tmp_path):
    out = tmp_path / "elsewhere"

    done = bring_in(photos, "coco", coco_file(tmp_path), below="images", out=str(out))

    assert done.place.startswith(str(out))
    assert predictions(out, "images/b.jpg").predicted.all()
    assert not (photos / ".lightly").exists()


def test_yolo_sizes_are_those_of_images_as_they_are_shown(photos, tmp_path):
    labels = tmp_path / "yolo"
    (labels / "labels").mkdir(parents=True)
    (labels / "data.yaml").write_text(yaml.safe_dump({"names": ["car", "cat"]}))
    (labels / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (labels / "labels/turned.txt").write_text("1 0.5 0.5 1 0.5 0.75\n")
    (labels / "labels/b.txt").write_text("2 0.5 0.5 1 0.5\n")
    (labels / "labels/nobody.txt").write_text("")

    done = bring_in(photos, "yolo", labels / "data.yaml")

    found = predictions(photos, "images/a.jpg", "images/turned.jpg")
    assert found.boxes.tolist() == [[2, 1.5, 4, 3], [0, 2, 6, 4]]
    assert found.scores.tolist() == [1, 0.75]
    assert found.schema.category_names == ("car", "cat")
    assert done.others == ["labels/nobody.txt"]
    (invalid,) = done.invalid
    assert invalid.path == "labels/b.txt"
    assert invalid.reason.startswith("line 1: class 2 of 2")
    assert done.n_labelled == 2


@pytest.mark.parametrize(
    ("files", "below"),
    [
        (["classes.txt", "a.txt"], "images"),
        (["data.yaml", "labels/a.txt"], "images"),
        (["data.yaml", "images/a.txt"], ""),
    ],
)
def test_where_yolo_labels_may_lie(photos, tmp_path, files, below):
    root = tmp_path / "yolo"
    texts = {"classes.txt": "car\ncat\n", "data.yaml": "names: {0: car, 1: cat}\n"}
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(texts.get(name, "1 0.5 0.5 1 1\n"))

    assert bring_in(photos, "yolo", root, below=below).n_labelled == 1


def test_yolo_labels_of_an_export_whose_input_was_linked_as_images(photos, tmp_path):
    (tmp_path / "data.yaml").write_text("names: [car]\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 1 1\n")

    assert bring_in(photos / "images", "yolo", tmp_path / "data.yaml").n_labelled == 1


def test_labels_of_nothing_say_both_names(photos, tmp_path):
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo/data.yaml").write_text("names: [car]\n")
    (tmp_path / "yolo/x.txt").write_text("")

    with pytest.raises(DatasourceError, match=r"`labels/a\.txt` or .* or `images/a\.txt`"):
        bring_in(photos, "yolo", tmp_path / "yolo")
    with pytest.raises(DatasourceError, match=r"names `a\.jpg`, they are like `images/a\.jpg`"):
        bring_in(photos, "coco", coco_file(tmp_path))
    assert not (photos / ".lightly").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: {1: car, 3: cat}", "not numbered from 0 on"),
        ("nc: 2", "has no file that names the classes"),
        ("names: [", "is no YAML file"),
        ("a: &a [x]\nnames: [*a]", r"something else than texts \(line 2\)"),
        ("names: [!!python/name:os.system x]", "something else than texts"),
        ("names: [car, '']", "an empty name"),
        ("names: {[1]: a}", "something else than texts"),
        ("names: {a: car}", "not numbered from 0 on"),
        ("x: " + "[" * 5000, "nested more than 50 deep"),
        ("names: [car]\nnames: [cat]", "comes twice"),
        ('names: ["\\ud800"]', "a broken name"),
        (b"names: [caf\xe9]", "is no UTF-8 text: byte 11 is 0xe9"),
    ],
)
def test_yolo_classes_that_are_not_there(photos, tmp_path, text, reason):
    (tmp_path / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(DatasourceError, match=reason):
        bring_in(photos, "yolo", tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\ufeffnames: [yes, 2.50, ~, 2001-13-45]", ["yes", "2.50", "~", "2001-13-45"]),
        ("path: &p [x]\nother: *p\nnames:\n  1: no\n  0: 'a b'\nnc: 2\n", ["a b", "no"]),
        ("nc: 2", None),
        ("- names", None),
        ("", None),
    ],
)
def test_names_in_yaml_are_their_texts(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text)

    assert yaml_names(tmp_path / "data.yaml") == names


def test_names_in_a_list(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffcar\r\ntraffic light\r\n\r\n".encode())
    assert listed_names(path) == ["car", "traffic light"]
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(DatasourceError, match=r"classes\.txt` is no UTF-8 text"):
        listed_names(path)
    path.write_bytes(b"car\n\ncat\n")
    with pytest.raises(DatasourceError, match="names no class in line 2"):
        listed_names(path)


def test_a_yolo_image_that_is_too_large_is_left_out(photos, tmp_path):
    header = struct.pack(">II5B", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    checked = chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (photos / "images/huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + checked)
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [car]")
    for name in ("a", "huge"):
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 1 1\n")

    done = bring_in(photos, "yolo", tmp_path)

    assert done.n_labelled == 1
    assert [one.path for one in done.invalid] == ["images/huge.png"]


@pytest.mark.parametrize("task", ["mine", "mine/sub/more", "lightly_pretagging", "tasks.json"])
def test_names_that_a_task_cannot_have(photos, tmp_path, task):
    folder = LightlyFolder(photos).task("mine/sub", "classification", ["x"])
    folder.predict("mine/sub", "images/a.json", {"category_id": 0})

    with pytest.raises(ConfigError, match=r"would lie in each other|cannot be the name of a task"):
        bring_in(photos, "coco", coco_file(tmp_path), below="images", task=task, replace=True)
    assert predictions(photos, "images/a.jpg", task="mine/sub").predicted.all()


def test_an_import_that_did_not_come_to_its_end_goes_on(photos, tmp_path):
    path = coco_file(tmp_path)
    bring_in(photos, "coco", path, below="images")
    folder = photos / ".lightly/predictions"
    (folder / "tasks.json").unlink()
    (folder / "labels/images/a.json").unlink()

    assert bring_in(photos, "coco", path, below="images").n_labelled == 2

    (folder / "tasks.json").unlink()
    (folder / "labels/images/other.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a task already"):
        bring_in(photos, "coco", path, below="images")


def test_a_file_in_the_way_is_named_without_a_word_of_runs(photos, tmp_path):
    (photos / ".lightly").write_text("")

    with pytest.raises(ArtifactError) as caught:
        bring_in(photos, "coco", coco_file(tmp_path), below="images")
    assert caught.value.hint == "move it away, or choose another place with --out"


def test_what_is_wrong_before_anything_is_read(photos, tmp_path):
    with pytest.raises(DatasourceError, match="nothing` is not there"):
        bring_in(photos, "coco", tmp_path / "nothing")
    with pytest.raises(ConfigError, match="cannot be the name of a task"):
        bring_in(photos, "coco", coco_file(tmp_path), task="../up")
    LightlyFolder(photos).write("predictions/tasks.json", {"not": "a list"})
    with pytest.raises(ArtifactError, match="is no list of task names"):
        bring_in(photos, "coco", coco_file(tmp_path), below="images")
    assert not (photos / ".lightly/predictions/labels").exists()


def test_labels_that_no_run_could_read_are_left_out_with_the_reason(photos, tmp_path):
    wide = {"id": 3, "image_id": 5, "category_id": 3, "bbox": [1, 2, -3, 4]}
    content = COCO | {"annotations": [*COCO["annotations"], wide]}

    done = bring_in(photos, "coco", coco_file(tmp_path, content), below="images")

    (invalid,) = done.invalid
    assert invalid.path.endswith("instances.json")
    assert invalid.reason.startswith("$.annotations[2].bbox[2]: expected `float` >= 0.0")
    assert (done.n_labelled, done.n_objects) == (1, 1)
    assert done.as_json()["invalid"] == [{"path": invalid.path, "reason": invalid.reason}]


@pytest.fixture(scope="module")
def photographs(test_data, tmp_path_factory):
    """COCO128 with its labels brought in as a task, and a run that selected 60 of its images."""
    root = tmp_path_factory.mktemp("coco128")
    shutil.copytree(test_data / "coco128/images", root / "in/images")
    done = bring_in(root / "in", "yolo", test_data / "coco128", task="coco")
    words = ("run_directory=r", "stopping_condition.n_samples=60", "shard_size=8192")
    return root / "in", run_on(root / "in", root / "out", *words).directory, done


def test_labels_of_photographs(test_data, photographs):
    _, _, done = photographs
    lines = [
        line
        for path in (test_data / "coco128/labels").rglob("*.txt")
        if path.stem not in ("000000000656", "000000000659")  # they have no photograph
        for line in path.read_text().splitlines()
    ]

    assert (done.n_images, done.n_labelled, done.n_objects) == (256, 254, len(lines))
    assert [Path(name).stem for name in done.others] == ["000000000656", "000000000659"]
    assert done.invalid == ()


MAIN = {
    "coco": ("coco", "coco.json", {}),
    "cvat": ("cvat", "annotations.xml", {}),
    "label-studio": ("label-studio", "label_studio_tasks.json", {"predicted": True}),
    "yolo": ("yolo", "data.yaml", {}),
}


@pytest.mark.parametrize("format_", MAIN)
def test_what_is_exported_and_brought_in_again_is_the_same(photographs, tmp_path, format_):
    source, run, _ = photographs
    kind, main, more = MAIN[format_]
    prefix = "http://host/bucket/in" if format_ == "label-studio" else ""
    request = ExportRequest(
        run=str(run), format=format_, task="coco", out=str(tmp_path), url_prefix=prefix
    )
    export_selection(request, {})

    done = bring_in(source, kind, tmp_path / main, out=str(tmp_path / "back"), **more)

    names = read_list(run / "filenames/sampled_filenames_excluding_datapool.txt")
    first = predictions(source, *names, task="coco")
    again = predictions(tmp_path / "back", *names)
    assert done.others == []
    # Formats with one file do not tell an image without labels from one without an object.
    all_count = format_ in ("coco", "cvat")
    assert done.n_labelled == len(names) if all_count else first.predicted.sum()
    assert np.array_equal(first.offsets, again.offsets)
    assert len(first.boxes) > 200
    assert again.boxes == pytest.approx(first.boxes, abs=1e-3)  # of pixels
    assert again.scores.tolist() == first.scores.tolist()
    named = [
        [found.schema.category_names[place] for place in found.categories]
        for found in (first, again)
    ]
    assert named[0] == named[1]


def test_the_command_offers_every_format():
    from lightly_fs.annotations.importing import FORMATS

    assert sorted([*FORMATS, "label-studio", "yolo", "yolo-masks"]) == sorted(OFFERED)
