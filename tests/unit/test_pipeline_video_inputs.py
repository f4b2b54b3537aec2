"""What looks at frames again: annotations, crops, a detector, training, exports."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lightly_fs import pipeline
from lightly_fs.config import load_config
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.errors import ConfigError
from lightly_fs.pipeline.exporting import ExportRequest, export_selection
from lightly_fs.types import Stage, frame_name, frame_of
from tests.clips import SIDE, write_clip
from tests.images import jpeg, scene
from tests.unit.annotations.folder import LightlyFolder
from tests.unit.pretagging.detectors import SSDLITE, made

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=16", "batch_size=8")
N = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two videos and two images, with metadata and predictions of some of their frames."""
    root = tmp_path_factory.mktemp("input")
    write_clip(root / "v/a.mp4", range(N))
    write_clip(root / "v/b.mkv", range(N), seed=1, codec="mjpeg")
    for number in range(2):
        (root / f"image_{number}.jpg").write_bytes(jpeg(scene(number)))
    annotations = LightlyFolder(root).task("boxes", "object-detection", ["square"])
    for index in range(0, N, 2):
        name = frame_name("v/a.mp4", index, N)
        box = [(7 * index) % 80, (5 * index) % 48, 16, 16]
        found = {"category_id": 0, "bbox": box, "score": 0.5 + index / 100}
        annotations.predict("boxes", name.replace(".png", ".json"), found, file_name=name)
    annotations.write(
        "metadata/schema.json",
        [{"name": "night", "path": "night", "defaultValue": 0, "valueDataType": "NUMERIC_INT"}],
    )
    of_video = {"file_name": "v/b.mkv", "type": "video", "metadata": {"night": 7}}
    of_frame = {"type": "frame", "metadata": {"night": 9}}
    annotations.write("metadata/v/b.json", of_video)
    annotations.write("metadata/v/b-03-mkv.json", of_frame)
    return root


def run_on(folder: Path, root: Path, *words: str, until: Stage = Stage.REPORT, **selection: object):
    (root / "out").mkdir(parents=True, exist_ok=True)
    keys = [f"input_dir={folder}", f"output_dir={root / 'out'}", f"cache_dir={root / 'cache'}"]
    if selection:
        keys.append(f"selection_config={json.dumps(selection)}")
    return pipeline.run(load_config([*keys, "run_directory=r", *QUICK, *words]), {}, until=until)


def test_metadata_of_a_video_is_that_of_its_frames_but_for_their_own(folder, tmp_path):
    weights = {
        "input": {"type": "METADATA", "key": "night"},
        "strategy": {"type": "WEIGHTS"},
    }
    result = run_on(folder, tmp_path, n_samples=N, strategies=[weights])

    assert result.selected[0] == "v/b-03-mkv.png"
    assert {frame_of(name) for name in result.selected} == {("v/b.mkv", i) for i in range(N)}


def test_predictions_of_frames_that_there_are_not_are_told(folder, tmp_path, caplog):
    root = shutil.copytree(folder, tmp_path / "in")
    boxes = root / ".lightly/predictions/boxes/v"
    text = (boxes / "a-04-mp4.json").read_text().replace('"v/a-04-mp4.png"', "null")
    for name in ("a-20-mp4", "a-4-mp4", "a-05-mkv"):
        (boxes / f"{name}.json").write_text(text)
    task = {"type": "PREDICTIONS", "task": "boxes", "name": "CLASS_DISTRIBUTION"}
    entry = {"input": task, "strategy": {"type": "BALANCE", "distribution": "UNIFORM"}}

    run_on(root, tmp_path, "video.every_nth=4", until=Stage.SELECT, n_samples=3, strategies=[entry])

    told = [line for line in caplog.messages if "of this run" in line]
    assert told == [
        "3 of 13 prediction files of `boxes` name no image or frame of this run, "
        "the first is `.lightly/predictions/boxes/v/a-05-mkv.json`"
    ]


def test_objects_in_frames_are_cut_and_embedded(folder, tmp_path):
    objects = {
        "input": {"type": "EMBEDDINGS", "task": "boxes"},
        "strategy": {"type": "DIVERSITY"},
    }
    result = run_on(folder, tmp_path, n_samples=2 * N + 2, strategies=[objects])
    crops = result.directory / "data/crops/boxes"
    table = pv.read_csv(crops / "crops.csv").to_pylist()

    assert len(table) == N // 2
    for row in table:
        video, index = frame_of(row["image"]) or ("", -1)
        assert (video, index % 2) == ("v/a.mp4", 0)
        with Image.open(crops / row["filename"]) as crop:
            assert crop.size == (16, 16)
            # The square is red all over, whatever else it is, and the ramp around it is not.
            assert np.asarray(crop)[4:-4, 4:-4, 0].mean() > 200


def test_a_detector_looks_at_frames(folder, tmp_path):
    torch.save(made(SSDLITE, 91).state_dict(), tmp_path / "ssdlite.pth")
    settings = {"model": SSDLITE, "weights": "ssdlite.pth", "min_score": 0.4, "max_boxes": 5}
    (tmp_path / "pretag.json").write_text(json.dumps(settings))
    words = ("pretagging=True", "pretagging_config=pretag.json", "pretagging_debug=True")
    own = (f"shared_dir={tmp_path}", "device=cpu", "stopping_condition.n_samples=5")
    result = run_on(folder, tmp_path, *words, *own)
    boxes = json.loads((result.directory / "data/bounding_boxes.json").read_text())
    named = json.dumps(boxes)

    assert all(frame_name("v/b.mkv", index, N) in named for index in range(N))
    examples = list((result.directory / "data/bounding_boxes_examples").rglob("*.jpg"))
    assert any("-mkv" in path.name or "-mp4" in path.name for path in examples)


def test_training_decodes_every_video_once(folder, tmp_path, monkeypatch):
    opened: list[str] = []
    real = DirectoryReader.open

    def counting(self, sample):
        opened.append(sample.filename)
        return real(self, sample)

    monkeypatch.setattr(DirectoryReader, "open", counting)
    tiny = (
        *("model=timm/test_resnet.r160_in1k", "weights=random", "lightly.collate.input_size=32"),
        *("device=cpu", "properties=off", "enable_training=True", "lightly.loader.batch_size=8"),
        *("lightly.loader.num_workers=0", "lightly.trainer.max_epochs=1", "lightly.optimizer.lr=2"),
    )
    result = run_on(folder, tmp_path, *tiny, "stopping_condition.n_samples=4", until=Stage.SELECT)

    assert sorted(opened) == ["v/a.mp4", "v/b.mkv"]
    assert result.timings[Stage.EMBED].samples == 2 * N + 2
    assert result.training[-1]["images"] <= 2 * N + 2


def test_training_and_resuming_in_the_pack_give_the_same_vectors(folder, tmp_path):
    tiny = (
        *("model=timm/test_resnet.r160_in1k", "weights=random", "lightly.collate.input_size=32"),
        *("device=cpu", "properties=off", "enable_training=True", "lightly.loader.batch_size=8"),
        *("lightly.loader.num_workers=0", "lightly.trainer.max_epochs=0"),
    )
    words = (*tiny, "stopping_condition.n_samples=4")
    run_on(folder, tmp_path / "torn", *words, until=Stage.EMBED)
    pieces = sorted((tmp_path / "torn/out/r/parts").glob("embed-00001.*"))
    assert len(pieces) > 1
    pieces[-1].unlink()
    torn = run_on(folder, tmp_path / "torn", *words)
    whole = run_on(folder, tmp_path / "whole", *words)

    one, other = (
        (result.directory / "data/embeddings.parquet").read_bytes() for result in (torn, whole)
    )
    assert one == other


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    return run_on(folder, root, "stopping_condition.n_samples=12")


def test_an_export_of_images_holds_frames_as_png(finished, tmp_path):
    out = tmp_path / "export"
    export_selection(
        ExportRequest(run=str(finished.directory), format="huggingface", out=str(out)), {}
    )
    frames = list((out / "images").glob("*.png"))

    assert len(frames) == sum(frame_of(name) is not None for name in finished.selected) > 0
    for path in frames:
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", SIDE)


def test_an_export_tells_names_and_sizes_of_frames(finished, tmp_path):
    out = tmp_path / "selection.parquet"
    export_selection(ExportRequest(run=str(finished.directory), format="parquet", out=str(out)), {})
    table = pq.read_table(out).to_pydict()

    assert table["filename"] == list(finished.selected)
    assert "video" not in table


def test_frames_have_no_read_urls(finished):
    request = ExportRequest(run=str(finished.directory), format="labelbox")
    with pytest.raises(ConfigError, match="is a frame of a video, not a file"):
        export_selection(request, {})
