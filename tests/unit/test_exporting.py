"""Exports of a finished run: every format, what is refused, and what is never written over."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lightly_fs.annotations.predictions import read_predictions
from lightly_fs.artifacts import read_list
from lightly_fs.cli.export import FORMATS as OFFERED
from lightly_fs.errors import ArtifactError, ConfigError, DatasourceError
from lightly_fs.pipeline.export_formats import FORMATS, Use
from lightly_fs.pipeline.exporting import ExportRequest, export_selection, exported_bytes
from lightly_fs.pipeline.finished import distances_when_chosen
from lightly_fs.pipeline.labelling import ImportRequest, import_task
from tests.unit.annotations.folder import LightlyFolder
from tests.unit.exporting import UNPREDICTED, run_on, with_predictions


@pytest.fixture(scope="module")
def labelled(images, tmp_path_factory):
    return with_predictions(images, tmp_path_factory.mktemp("labelled") / "in")


@pytest.fixture(scope="module")
def finished(labelled, tmp_path_factory):
    """A run that selected everything that is no duplicate."""
    return run_on(labelled, tmp_path_factory.mktemp("runs"), "run_directory=r").directory


@pytest.fixture(scope="module")
def selected(finished):
    return read_list(finished / "filenames/sampled_filenames_excluding_datapool.txt")


def export(run: Path, format_: str, **more):
    return export_selection(ExportRequest(run=str(run), format=format_, **more), {})


def needed(format_: str) -> dict[str, str]:
    kind = FORMATS[format_]
    task = {"task": "det"} if kind.task is not Use.NEVER else {}
    return task | ({"url_prefix": "https://host/in"} if kind.urls is Use.MUST else {})


def test_the_command_offers_every_format():
    assert tuple(FORMATS) == OFFERED


@pytest.mark.parametrize("format_", OFFERED)
def test_every_format_is_written_below_the_run_and_again_with_the_same_bytes(finished, format_):
    first = export(finished, format_, **needed(format_))
    again = export(finished, format_, **needed(format_))

    folder = finished / "exports" / format_
    assert Path(first.place) == folder / FORMATS[format_].main
    assert first.files == again.files
    on_disk = [path for path in folder.rglob("*") if path.is_file()]
    assert {one.name for one in first.files} == {str(p.relative_to(folder)) for p in on_disk}
    assert all((folder / one.name).stat().st_size == one.size for one in first.files)
    assert first.n_images == 24
    assert first.n_predicted == (23 if "task" in needed(format_) else 0)


def test_an_export_leaves_the_run_complete(labelled, finished):
    export(finished, "filenames")

    assert run_on(labelled, finished.parent, "run_directory=r").was_complete


@pytest.mark.parametrize("format_", ["coco", "cvat", "yolo"])
def test_masks_come_back_and_are_counted_where_they_are_left_out(
    labelled, finished, selected, tmp_path, caplog, format_
):
    folder = LightlyFolder(tmp_path / "masks").task("seg", "instance-segmentation", {5: "car"})
    name = Path(selected[2]).with_suffix(".json").as_posix()
    # A block of 4 x 3 pixels, of 320 x 240.
    mask = [1000, 4, 316, 4, 316, 4, 320 * 240 - 1644]
    folder.predict("seg", name, {"category_id": 5, "segmentation": mask, "score": 0.75})
    given_ = {"task": "seg", "predictions": str(folder.root)}

    kept = export(finished, format_, out=str(tmp_path / "out"), **given_)
    assert (kept.n_masks_left_out, caplog.text) == (0, "")
    request = ImportRequest(
        format=f"{format_}-masks",
        path=tmp_path / "out" / (FORMATS[format_].main or "data.yaml"),
        task="seg",
        input_dir=str(labelled),
        out=str(tmp_path / "back"),
    )
    import_task(request, {})
    back = read_predictions(LightlyFolder(tmp_path / "back").files, "seg", selected)
    assert back.mask(0).tolist() == mask
    assert back.scores.tolist() == [0.75 if format_ == "coco" else 1]
    assert back.of(2) == range(1)

    left_out = export(finished, "parquet", out=str(tmp_path / "parquet"), **given_)
    assert left_out.as_json()["masks_left_out"] == 1
    assert "masks left out: 1, because `parquet` holds none; these formats do: coco" in caplog.text


@pytest.mark.parametrize("format_", [name for name, one in FORMATS.items() if one.main])
def test_stdout_gets_the_same_bytes(finished, tmp_path, format_):
    request = ExportRequest(run=str(finished), format=format_, **needed(format_))
    export(finished, format_, out=str(tmp_path), **needed(format_))

    assert exported_bytes(request, {}) == (tmp_path / FORMATS[format_].main).read_bytes()


def test_filenames_are_those_of_the_run_in_its_order(finished, selected, tmp_path):
    export(finished, "filenames", out=str(tmp_path / "names.txt"))

    assert read_list(tmp_path / "names.txt") == selected


def test_parquet_has_sizes_properties_distances_urls_and_objects(finished, selected, tmp_path):
    export(finished, "parquet", out=str(tmp_path), task="det", url_prefix="https://host/in")
    rows = pq.read_table(tmp_path / "selection.parquet").to_pylist()
    whole = {
        row["filename"]: row
        for row in pq.read_table(finished / "data/embeddings.parquet").to_pylist()
    }

    assert [row["filename"] for row in rows] == selected
    assert [row["order"] for row in rows] == list(range(24))
    assert {(row["width"], row["height"]) for row in rows} == {(320, 240)}
    assert [row["sharpness"] for row in rows] == [whole[name]["sharpness"] for name in selected]
    assert [row["read_url"] for row in rows] == [f"https://host/in/{name}" for name in selected]
    vectors = np.array([whole[name]["embedding"] for name in selected], np.float64)
    expected = [min(np.linalg.norm(vectors[:k] - vectors[k], axis=1)) for k in range(1, 24)]
    assert rows[0]["distance"] is None
    assert [row["distance"] for row in rows[1:]] == pytest.approx(expected, rel=1e-5)
    objects = {row["filename"]: row["objects"] for row in rows}
    assert objects.pop(UNPREDICTED) is None
    assert all(
        one[0]["category"] == "car" and one[0]["bbox"][0] == 10.5 for one in objects.values()
    )


def test_coco_and_lightly_hold_the_selection_alone(labelled, tmp_path):
    run = run_on(labelled, tmp_path / "out", "stopping_condition.n_samples=5").directory
    chosen = read_list(run / "filenames/sampled_filenames_excluding_datapool.txt")
    export(run, "coco", task="det", url_prefix="https://host/")
    export(run, "lightly", task="det", out=str(tmp_path / "new"))
    content = json.loads((run / "exports/coco/coco.json").read_bytes())

    assert [one["file_name"] for one in content["images"]] == chosen
    assert content["images"][0]["coco_url"] == f"https://host/{chosen[0]}"
    assert {one["id"] for one in content["categories"]} == {3, 17}
    found = read_predictions(LightlyFolder(tmp_path / "new").files, "det", chosen)
    there = read_predictions(LightlyFolder(labelled).files, "det", chosen)
    assert found.boxes.tolist() == there.boxes.tolist()
    assert found.scores.tolist() == there.scores.tolist()
    assert found.unmatched == 0


def test_images_are_copied_byte_by_byte(labelled, finished, selected, tmp_path):
    export(finished, "huggingface", out=str(tmp_path / "hf"))
    export(finished, "webdataset", out=str(tmp_path / "wds"))
    lines = [json.loads(line) for line in (tmp_path / "hf/metadata.jsonl").read_text().splitlines()]
    shard = (tmp_path / "wds/shard-000000.tar").read_bytes()

    assert [line["filename"] for line in lines] == selected
    for line in lines:
        copy = tmp_path / "hf" / line["file_name"]
        assert copy.read_bytes() == (labelled / line["filename"]).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        images = [one for one in archive.getnames() if one.endswith(".jpg")]
        assert images == selected
        assert archive.extractfile(images[3]).read() == (labelled / images[3]).read_bytes()


def test_an_input_that_changed_and_one_that_moved(images, labelled, tmp_path):
    root = with_predictions(images, tmp_path / "was-here")
    run = run_on(root, tmp_path / "out").directory
    image = root / "folder_0/scene_000.jpg"
    original = image.read_bytes()
    image.unlink()
    wrong = r"`folder_0/scene_000\.jpg` cannot be exported"

    with pytest.raises(DatasourceError, match=f"{wrong}: deleted"):
        export(run, "huggingface")
    image.write_bytes(original[:-1] + b"x")
    with pytest.raises(DatasourceError, match=f"{wrong}: its bytes are not those"):
        export(run, "webdataset", input_dir=str(root))
    image.write_bytes(original)  # another time of change
    assert export(run, "webdataset", input_dir=str(root)).n_images == 24

    root.rename(tmp_path / "is-here")
    with pytest.raises(DatasourceError) as caught:
        export(run, "coco", task="det")
    assert "was-here" in caught.value.message
    assert "--input-dir" in caught.value.__notes__[0]
    assert export(run, "filenames").n_images == 24
    assert export(run, "coco", task="det", input_dir=str(tmp_path / "is-here")).n_predicted == 23
    assert export(run, "cvat", task="det", predictions=str(labelled)).n_predicted == 23


def test_cvat_and_label_studio_without_predictions_are_tasks_to_be_labelled(finished, tmp_path):
    export(finished, "cvat", out=str(tmp_path))
    export(finished, "label-studio", out=str(tmp_path), url_prefix="/data/local-files/?d=in/")
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    tasks = json.loads((tmp_path / "label_studio_tasks.json").read_bytes())

    assert [len(root.findall("image")), len(root.findall(".//box"))] == [24, 0]
    assert {"predictions"} & {key for task in tasks for key in task} == set()
    name = tasks[0]["data"]["lightlyFileName"]
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d=in/{name}"
    assert not (tmp_path / "label_studio_config.xml").exists()


def test_a_file_as_out_names_the_main_file(finished, tmp_path):
    done = export(
        finished, "label-studio", out=str(tmp_path / "mine.json"), **needed("label-studio")
    )

    assert done.place == str(tmp_path / "mine.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["label_studio_config.xml", "mine.json"]


def test_other_content_is_not_written_over(finished, tmp_path):
    (tmp_path / "coco.json").write_text("mine")
    more = {"out": str(tmp_path), "task": "det"}

    with pytest.raises(ArtifactError, match=r"coco\.json` is there already, with other content"):
        export(finished, "coco", **more)
    assert (tmp_path / "coco.json").read_text() == "mine"
    export(finished, "coco", replace=True, **more)
    assert json.loads((tmp_path / "coco.json").read_bytes())["images"]


def test_a_second_task_joins_the_first_in_tasks_json(finished, tmp_path):
    folder = LightlyFolder(tmp_path).write("predictions/tasks.json", ["other"])

    export(finished, "lightly", task="det", out=str(tmp_path))

    assert read_predictions(folder.files, "det", ["folder_0/scene_000.jpg"]).predicted.all()
    tasks = json.loads((tmp_path / ".lightly/predictions/tasks.json").read_bytes())
    assert tasks == ["other", "det"]


@pytest.mark.parametrize(
    ("format_", "more", "message"),
    [
        ("filenames", {"task": "det"}, "`filenames` has no place for predictions"),
        ("labelbox", {"task": "det", "url_prefix": "s3://b"}, "`labelbox` has no place for pred"),
        ("coco", {}, "`coco` holds predictions, and no task is named"),
        ("yolo", {"task": "det", "read_urls": True}, "`yolo` has no place for read URLs"),
        ("cvat", {"url_prefix": "https://x"}, "`cvat` has no place for read URLs"),
        ("parquet", {"url_prefix": "https://x", "read_urls": True}, "signed or made with a prefix"),
        ("labelbox", {}, "the bucket behind .* is not known"),
        ("label-studio", {}, "the bucket behind .* is not known"),
        ("parquet", {"read_urls": True}, "the bucket behind .* is not known"),
    ],
)
def test_what_a_format_cannot_hold_or_lacks_is_refused(finished, tmp_path, format_, more, message):
    with pytest.raises(ConfigError, match=message) as caught:
        export(finished, format_, out=str(tmp_path), **more)

    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_more_than_one_file_does_not_go_to_stdout(finished):
    with pytest.raises(ConfigError, match="`yolo` is more than one file"):
        exported_bytes(ExportRequest(run=str(finished), format="yolo", task="det"), {})


def test_images_are_not_copied_into_the_input(images, tmp_path):
    root = with_predictions(images, tmp_path / "in")
    run = run_on(root, root / "results", "run_directory=r").directory

    for place in (root / "hf", root):
        with pytest.raises(ConfigError, match="lies in the input"):
            export(run, "huggingface", out=str(place))
    assert not (root / "hf").exists()
    assert not (root / "metadata.jsonl").exists()
    export(run, "huggingface")  # a run's own folder is no input
    assert run_on(root, tmp_path / "out").counts.inventory == 29


def test_an_unfinished_run_a_damaged_one_and_none(finished, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(finished, run)
    (run / "data/embeddings.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"embeddings\.parquet is not what the run wrote"):
        export(run, "coco", task="det")
    (run / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"is not finished") as caught:
        export(run, "filenames")
    assert "same run_directory" in caught.value.hint
    with pytest.raises(ArtifactError, match=r"holds no run of lightly-fs"):
        export(tmp_path, "filenames")
    with pytest.raises(DatasourceError, match=r"nowhere` is no directory"):
        export(tmp_path / "nowhere", "filenames")


def test_images_that_share_a_stem_are_told_apart(images, tmp_path):
    root = with_predictions(images, tmp_path / "in")
    with Image.open(root / "folder_0/scene_000.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(root / "folder_0/scene_000.png")
    about = {"file_name": "folder_0/scene_000.png"}
    LightlyFolder(root).predict("det", "folder_0/scene_000.json", **about)
    run = run_on(root, tmp_path / "out").directory

    export(run, "webdataset", task="det")

    shard = (run / "exports/webdataset/shard-000000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        facts = [json.load(archive.extractfile(one)) for one in archive if one.name[-4:] == "json"]
        names = set(archive.getnames())
    objects = {one["filename"]: one["objects"] for one in facts}
    assert objects["folder_0/scene_000.png"] == []
    assert objects["folder_0/scene_000.jpg"] is None
    assert {"folder_0/scene_000%png.png", "folder_0/scene_000%jpg.jpg"} <= names


@pytest.mark.parametrize("expires", [timedelta(days=8), timedelta(0)])
def test_the_longest_expiry(finished, expires):
    # The bucket is asked for first: a plain directory has none, whatever the time.
    with pytest.raises(ConfigError):
        export(finished, "parquet", read_urls=True, expires=expires)


@given(
    arrays(
        np.float32, st.tuples(st.integers(0, 150), st.just(3)), elements=st.floats(-2, 2, width=32)
    )
)
def test_distances_when_chosen_are_those_to_all_before(vectors):
    found = distances_when_chosen(vectors)

    wide = vectors.astype(np.float64)
    for row in range(1, len(wide)):
        nearest = np.sqrt(((wide[:row] - wide[row]) ** 2).sum(axis=1)).min()
        assert found[row] == pytest.approx(nearest, rel=1e-5, abs=1e-7)
    assert not len(found) or found[0] == np.inf
