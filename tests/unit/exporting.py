"""A run whose input has predictions, for tests of exports."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightly_fs import pipeline
from lightly_fs.config import load_config
from lightly_fs.pipeline.run import RunResult
from tests.unit.annotations.folder import LightlyFolder

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=8", "batch_size=8")
UNPREDICTED = "folder_1/scene_001.jpg"


def run_on(images: Path, output: Path, *words: str) -> RunResult:
    output.mkdir(exist_ok=True)
    config = load_config([f"input_dir={images}", f"output_dir={output}", *QUICK, *words])
    return pipeline.run(config, {})


def with_predictions(images: Path, root: Path) -> Path:
    """Copy images and write the task `det`: two objects each, none for one of them."""
    shutil.copytree(images, root)
    folder = LightlyFolder(root).task("det", "object-detection", {3: "car", 17: "traffic light"})
    for number, path in enumerate(sorted(root.glob("folder_*/*.jpg"))):
        name = path.relative_to(root).with_suffix(".json").as_posix()
        if path.relative_to(root).as_posix() == UNPREDICTED:
            continue
        folder.predict(
            "det",
            name,
            {"category_id": 3, "bbox": [10.5, 20, 30 + number, 40.25], "score": 0.5},
            {"category_id": 17, "bbox": [0, 0, 320, 240], "score": 1},
        )
    return root
