"""Crops between embedding and selection: their vectors, resuming, and the dataset of them."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from lightly_fs.annotations.crops import Crops, object_crops, tile_crops
from lightly_fs.annotations.files import SourceFiles
from lightly_fs.annotations.objects import PredictedObject, Predictions, PredictionsBuilder
from lightly_fs.annotations.tasks import Category, TaskSchema, TaskType
from lightly_fs.annotations.yolo import import_yolo
from lightly_fs.artifacts.crop_parts import delete_crop_parts
from lightly_fs.decoding.images import decode_full
from lightly_fs.embedding.embedder import Network
from lightly_fs.embedding.torch_runtime import TorchEmbedder
from lightly_fs.errors import ArtifactError, DatasourceError, ModelError
from lightly_fs.pipeline.crop_dataset import write_crop_dataset
from lightly_fs.pipeline.crops import embed_crops
from lightly_fs.types import Failure, Outcome, Stage
from tests.images import jpeg, scene
from tests.unit.crop_runs import EmbeddedRun, embedded_run, tiles

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = TaskSchema(
    "boxes", TaskType.OBJECT_DETECTION, (Category(0, "cat"), Category(5, "dog, big"))
)
BOXES = (
    (10.0, 20.0, 100.0, 70.0),
    (400.0, 0.0, 10.0, 10.0),  # outside
    (300.0, 200.0, 90.0, 90.0),  # sticks out
    (319.0, 239.0, 1.0, 1.0),  # one pixel
)


def objects_of(run: EmbeddedRun) -> Predictions:
    """Predict the same boxes for every image but the first."""
    builder = PredictionsBuilder(SCHEMA, run.table.filenames)
    builder.add([])
    for _ in run.table.filenames[1:]:
        builder.add([PredictedObject(n % 2 * 1, 0.5 + n / 8, box) for n, box in enumerate(BOXES)])
    return builder.build()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Seven images, one of them lying on its side."""
    folder = tmp_path / "in" / "sub"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(jpeg(scene(number)))
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(6, 240, 320).save(folder / "side.jpg", exif=exif)
    return tmp_path / "in"


def test_every_crop_has_the_vector_of_a_file_that_holds_it(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        predictions = objects_of(run)
        crops = object_crops(predictions, run.sizes, padding=0.1)
        found = run.embed(crops)

        assert len(found.vectors) == 6 * 3
        assert found.offsets.tolist() == [0, 0, 3, 6, 9, 12, 15, 18]
        assert found.crops.left_out.tolist() == [1, 5, 9, 13, 17, 21]
        assert found.failures == []

    files = tmp_path / "files"
    files.mkdir()
    for row, (sample, box) in enumerate(zip(crops.samples, crops.boxes.tolist(), strict=True)):
        whole = Image.fromarray(decode_full((photographs / found.filenames[sample]).read_bytes()))
        whole.crop(box).save(files / f"{row:03d}.png")
    with embedded_run(files, tmp_path / "out-of-files") as run:
        assert np.array_equal(run.table.vectors, found.vectors)


def test_progress_and_time_are_those_of_all_tasks(photographs, tmp_path):
    seen = []
    with embedded_run(
        photographs,
        tmp_path / "out",
        progress=lambda *told: seen.append(told) if told[0] is Stage.CROPS else None,
    ) as run:
        run.embed(tiles(run), "tiles")
        assert seen[0] == (Stage.CROPS, 0, 28, "tiles")
        assert seen[-1] == (Stage.CROPS, 28, 28, "tiles")
        assert [told[1] for told in seen] == sorted(told[1] for told in seen)
        run.embed(object_crops(objects_of(run), run.sizes), "boxes")
        assert run.context.timings[Stage.CROPS].samples == 28 + 18


def test_vectors_are_kept_and_the_model_is_not_asked_again(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        first, parts = run.embed(tiles(run)), run.parts
        assert run.loaded == 1
    with embedded_run(photographs, tmp_path / "out") as run:
        again = run.embed(tiles(run))
        assert run.loaded == 0
        assert run.parts == parts
    assert np.array_equal(first.vectors, again.vectors)
    assert np.array_equal(first.crops.boxes, again.crops.boxes)
    assert len(parts) == 4  # of at most ten crops, four per image


def test_other_boxes_or_another_task_never_get_old_vectors(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        crops = tiles(run)
        old = run.embed(crops)
        moved = Crops(
            crops.samples, crops.parts, crops.boxes - np.array([0, 0, 9, 0]), crops.left_out
        )
        assert not np.array_equal(run.embed(moved).vectors, old.vectors)
        run.embed(crops, "another")
        assert len({name[:16] for name in run.parts}) == 3
        assert np.array_equal(run.embed(crops).vectors, old.vectors)
        assert run.loaded == 3
        delete_crop_parts(run.context.run_dir)
        assert not (run.context.run_dir.directory / "crop_parts").exists()


@pytest.mark.parametrize("limit", [1, 12, 21])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(photographs, tmp_path, limit):
    with embedded_run(photographs, tmp_path / "whole") as run:
        whole, expected = run.embed(tiles(run), "tiles"), run.parts
    program = [sys.executable, "-m", "tests.unit.crop_runs"]
    words = [str(photographs), str(tmp_path / "out"), str(limit)]
    ended = subprocess.run(
        [*program, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # nothing that it leaves outlives the test
    )
    assert ended.returncode == -9, ended.stderr
    there = sorted((tmp_path / "out/r/crop_parts").glob("*.parquet"))
    assert len(there) >= (limit == 21)  # it is in the third shard
    for part in there[:1]:
        torn = part.with_name(part.name.replace("embed-00000", "embed-00003"))
        torn.write_bytes(part.read_bytes()[:-1])

    with embedded_run(photographs, tmp_path / "out") as run:
        found = run.embed(tiles(run), "tiles")
        assert run.parts == expected

    assert np.array_equal(found.vectors, whole.vectors)


def test_a_lost_or_broken_image_is_named_and_the_others_go_on(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out", "shard_size=3") as run:
        crops = object_crops(objects_of(run), run.sizes)
        (photographs / "sub/2.jpg").unlink()
        data = (photographs / "sub/4.jpg").read_bytes()
        (photographs / "sub/4.jpg").write_bytes(data[:2000])
        found = run.embed(crops)
        again = run.embed(crops)
        assert write_crop_dataset(run.context, found, ["sub/2.jpg"], enable_upload=False) == 0
        folder = run.context.run_dir.directory / "data/crops/boxes"

    assert [path.name for path in folder.iterdir()] == ["failures.csv"]
    assert [(row["image"], row["outcome"]) for row in rows_of(folder / "failures.csv")] == [
        ("sub/2.jpg", "gone"),
        ("sub/4.jpg", "failed"),
    ]
    assert found.offsets.tolist() == [0, 0, 3, 3, 6, 6, 9, 12]
    assert [(one.filename, one.outcome) for one in found.failures] == [
        ("sub/2.jpg", Outcome.GONE),
        ("sub/4.jpg", Outcome.FAILED),
    ]
    assert found.failures[1].reason.startswith("changed during the run")
    assert again.failures == found.failures
    assert run.loaded == 1


class MeanColour(nn.Module):
    """Three numbers, all 0 for what is black."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_a_crop_without_a_vector_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    image = scene(1)
    image.paste((0, 0, 0), (160, 0, 320, 120))
    image.save(tmp_path / "in/a.png")
    scene(2).save(tmp_path / "in/b.png")
    network = Network.of("mean", MeanColour(), 32, mean=(0, 0, 0), std=(1, 1, 1))
    model = TorchEmbedder(network, torch.device("cpu"))
    with embedded_run(tmp_path / "in", tmp_path / "out", model=model) as run:
        found = run.embed(tile_crops(run.sizes, num_rows=2, num_cols=2), "tiles")
    reason = "crop 1: its embedding is a zero vector, which has no direction"
    assert found.failures == [Failure("a.png", Outcome.FAILED, reason)]
    assert found.crops.parts.tolist() == [0, 2, 3, 0, 1, 2, 3]
    assert found.offsets.tolist() == [0, 3, 7]


def test_another_model_than_that_of_the_images_is_refused(photographs, tmp_path):
    network = Network.of("mean", MeanColour(), 32, mean=(0, 0, 0), std=(1, 1, 1))
    other = TorchEmbedder(network, torch.device("cpu"))
    with embedded_run(photographs, tmp_path / "out") as run:
        names, sizes, crops = run.table.filenames, run.sizes, tiles(run)
        with pytest.raises(ArtifactError, match="embeddings of another model"):
            embed_crops(run.context, lambda: other, "tiles", names, sizes, crops)
        assert run.parts == {}


def test_no_crops_need_no_model(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        builder = PredictionsBuilder(SCHEMA, run.table.filenames)
        found = run.embed(object_crops(builder.build(), run.sizes))
        assert found.vectors.shape == (0, 48)
        assert found.offsets.tolist() == [0] * 8
        assert (run.loaded, run.parts) == (0, {})


def test_vectors_from_a_file_cannot_embed_crops(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        lines = [
            f"{name},{','.join(map(str, vector[:2]))},0"
            for name, vector in zip(run.table.filenames, run.table.vectors, strict=True)
        ]
    header = "filenames,embedding_0,embedding_1,labels"
    (tmp_path / "vectors.csv").write_text("\n".join([header, *lines]) + "\n")
    given = ("embeddings=vectors.csv", f"shared_dir={tmp_path}")
    with (
        embedded_run(photographs, tmp_path / "other", *given) as run,
        pytest.raises(ModelError, match="whole images"),
    ):
        run.embed(tiles(run))


def test_an_unknown_image_is_refused(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        names = [f"no/{name}" for name in run.table.filenames]
        with pytest.raises(ArtifactError, match=r"`no/sub/0\.jpg` is not in the inventory"):
            embed_crops(run.context, run.load, "t", names, run.sizes, tiles(run))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_dataset_holds_the_crops_of_the_selection(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        predictions = objects_of(run)
        found = run.embed(object_crops(predictions, run.sizes))
        selected = ["sub/side.jpg", "sub/0.jpg", "sub/3.jpg"]
        assert write_crop_dataset(run.context, found, selected, predictions) == 6
        folder = run.context.run_dir.directory / "data/crops/boxes"
    rows = rows_of(folder / "crops.csv")
    assert [row["filename"] for row in rows] == [
        *(f"sub/3-{number}.png" for number in (0, 2, 3)),
        *(f"sub/side-{number}.png" for number in (0, 2, 3)),
    ]
    assert list(rows[1].values()) == [
        *("sub/3-2.png", "sub/3.jpg", "cat", "0.75", "300", "200", "320", "240")
    ]
    assert rows[5]["category"] == "dog, big"
    table = pq.read_table(folder / "embeddings.parquet").to_pylist()
    for row, embedded in zip(rows, table, strict=True):
        data = (folder / row["filename"]).read_bytes()
        box = [int(row[side]) for side in ("left", "top", "right", "bottom")]
        whole = decode_full((photographs / row["image"]).read_bytes())
        assert np.array_equal(decode_full(data), whole[box[1] : box[3], box[0] : box[2]])
        assert embedded["filename"] == row["filename"]
        assert embedded["content_hash"] == hashlib.sha256(data).digest()
        assert (embedded["width"], embedded["height"]) == (box[2] - box[0], box[3] - box[1])
    vectors = np.array([row["embedding"] for row in table], np.float32)
    assert np.array_equal(vectors, found.vectors[[6, 7, 8, 15, 16, 17]])
    assert len(rows_of(folder / "embeddings.csv")) == 6


def test_the_dataset_is_part_of_the_run_and_written_once(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        found = run.embed(tiles(run), "2x2")
        assert write_crop_dataset(run.context, found, ["sub/1.jpg"]) == 4
        folder = run.context.run_dir.directory / "data/crops/2x2"
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert write_crop_dataset(run.context, found, ["sub/1.jpg"]) == 4
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert sorted(path.relative_to(folder).as_posix() for path in before) == [
            *("crops.csv", "embeddings.csv", "embeddings.parquet"),
            *(f"sub/1-{number}.png" for number in range(4)),
        ]
    assert [row["category"] + row["score"] for row in rows_of(folder / "crops.csv")] == [""] * 4


def test_numbers_are_padded_and_names_never_meet(tmp_path):
    images = tmp_path / "in"
    images.mkdir()
    scene(1).save(images / "a.png")
    for name in ("a.jpg", "a-1.jpg", "b.jpg"):
        (images / name).write_bytes(jpeg(scene(len(name))))
    with embedded_run(images, tmp_path / "out", "output_image_format=jpg") as run:
        builder = PredictionsBuilder(SCHEMA, run.table.filenames)
        for count in (1, 11, 1, 2):
            builder.add([PredictedObject(0, 1.0, (n, n, 20, 20)) for n in range(count)])
        predictions = builder.build()
        found = run.embed(object_crops(predictions, run.sizes), "team/boxes")
        write_crop_dataset(run.context, found, run.table.filenames, predictions)
        folder = run.context.run_dir.directory / "data/crops/team%2Fboxes"
    names = [row["filename"] for row in rows_of(folder / "crops.csv")]
    assert names == [
        "a-1-0.jpg",
        *(f"a.jpg-{number:02d}.jpg" for number in range(11)),
        *("a.png-0.jpg", "b-0.jpg", "b-1.jpg"),
    ]
    assert all((folder / name).is_file() for name in names)


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, True),
        ({"enable_upload": False}, False),
        ({"enable_upload_for_tasks": ["other"]}, False),
        ({"enable_upload_for_tasks": ["other", "tiles"]}, True),
        ({"enable_upload": False, "enable_upload_for_tasks": ["tiles"]}, False),
    ],
)
def test_the_dataset_can_be_switched_off(photographs, tmp_path, switches, expected):
    with embedded_run(photographs, tmp_path / "out") as run:
        found = run.embed(tiles(run), "tiles")
        assert write_crop_dataset(run.context, found, ["sub/1.jpg"], **switches) == 4 * expected
        assert (run.context.run_dir.directory / "data/crops/tiles").exists() is expected


def test_a_selected_image_that_is_gone_is_an_error_that_says_how_to_go_on(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        found = run.embed(tiles(run), "tiles")
        (photographs / "sub/1.jpg").unlink()
        lost = r"`tiles` of 1 images could .* `sub/1\.jpg`: deleted"
        with pytest.raises(DatasourceError, match=lost) as caught:
            write_crop_dataset(run.context, found, ["sub/1.jpg", "sub/2.jpg"])
        assert "choose another `run_directory`" in caught.value.hint


def test_no_selected_image_has_crops(photographs, tmp_path):
    with embedded_run(photographs, tmp_path / "out") as run:
        predictions = objects_of(run)
        found = run.embed(object_crops(predictions, run.sizes))
        assert write_crop_dataset(run.context, found, ["sub/0.jpg"], predictions) == 0
        folder = run.context.run_dir.directory / "data/crops/boxes"
        assert rows_of(folder / "crops.csv") == []
        assert pq.read_table(folder / "embeddings.parquet").num_rows == 0


def test_objects_of_photographs_with_the_bundled_model(test_data, tmp_path):
    """Real photographs and labels; a crop is like the file that holds it."""
    for path in sorted((test_data / "coco128/images/train2017").glob("*.jpg"))[:16]:
        labels = test_data / f"coco128/labels/train2017/{path.stem}.txt"
        for source, folder in ((path, "images"), (labels, "labels")):
            if source.exists():
                (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / "in" / folder / source.name).write_bytes(source.read_bytes())
    real = ("model=bundled", "runtime=auto", "batch_size=64", "shard_size=50")
    with embedded_run(tmp_path / "in", tmp_path / "out", *real) as run:
        context, names = run.context, run.table.filenames
        files = SourceFiles(context.source, context.reader)
        classes = [str(number) for number in range(80)]
        predictions = import_yolo(files, names, run.sizes, task="coco", categories=classes)
        found = run.embed(object_crops(predictions, run.sizes, padding=0.1), "coco")
        assert found.failures == []
        assert len(found.vectors) > 60
        count = write_crop_dataset(context, found, names, predictions)
        assert count == len(found.vectors)
        folder = context.run_dir.directory / "data/crops/coco"
        embedded = pq.read_table(folder / "embeddings.parquet")
    with embedded_run(folder, tmp_path / "out-of-crops", *real) as run:
        assert sorted(embedded["filename"].to_pylist()) == run.table.filenames
        rows = [run.table.rows[name] for name in embedded["filename"].to_pylist()]
        cosines = (run.table.vectors[rows] * found.vectors).sum(axis=1)
    assert cosines.min() > 0.995
    assert np.median(cosines) > 0.9999
