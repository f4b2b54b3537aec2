"""Does training on a domain raise its retrieval? One JSON line before training, one after.

    scripts/bench_training.py                                    frames of the test data's videos
    scripts/bench_training.py --folder DIR                       labelled: one folder per class
    scripts/bench_training.py lightly.optimizer.lr=0.3 …         any key of a run

Frames: every frame asks for those within a second of it, without the nearest ones (a quarter of a
second), which any embedding finds; mean average precision. Folders: 20 nearest neighbours vote,
leave-one-out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightly_fs import pipeline
from lightly_fs.artifacts.parts import read_parts
from lightly_fs.config import load_config
from lightly_fs.types import Stage

EPOCHS = 20
FRAMES_PER_SECOND = 8
WITHIN_S, TOO_NEAR_S = 1.0, 0.25
NEIGHBOURS = 20

Vectors = NDArray[np.float32]


def main() -> int:
    """Print the measures before and after training."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="images in one folder per class")
    parser.add_argument("--seconds", type=float, default=40, help="of each video")
    parser.add_argument("words", nargs="*", help="keys of the run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-training-") as name:
        work = Path(name)
        folder = arguments.folder
        if folder is None:
            folder = work / "frames"
            write_frames(videos(), folder, arguments.seconds)
        for training in (False, True):
            measure(folder, work, arguments.words, training=training)
    return 0


def videos() -> list[Path]:
    """Return the videos of the test data."""
    data = os.environ.get("LIGHTLY_FS_TEST_DATA")
    found = sorted(Path(data, "videos").glob("*.mp4")) if data else []
    if not found:
        sys.exit("give --folder, or set LIGHTLY_FS_TEST_DATA to a folder with videos/*.mp4")
    return found


def write_frames(files: Sequence[Path], folder: Path, seconds: float) -> None:
    """Write frames as `video/00001500.jpg`, named after their time in milliseconds."""
    import av

    for file in files:
        target = folder / file.stem
        target.mkdir(parents=True)
        next_s = 0.0
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                when = float(frame.time or 0)
                if when > seconds:
                    break
                if when >= next_s:
                    next_s += 1 / FRAMES_PER_SECOND
                    frame.to_image().save(  # type: ignore[no-untyped-call]
                        target / f"{round(when * 1000):08d}.jpg", quality=90
                    )


def measure(folder: Path, work: Path, words: Sequence[str], *, training: bool) -> None:
    """Embed the folder, with or without training before, and print what retrieval gives."""
    name = "after" if training else "before"
    output = work / name
    output.mkdir()
    keys = [
        f"input_dir={folder}",
        f"output_dir={output}",
        f"cache_dir={work / 'cache'}",
        f"enable_training={training}",
        f"lightly.trainer.max_epochs={EPOCHS}",
        "properties=off",
        *words,
    ]
    started = time.monotonic()
    result = pipeline.run(load_config(keys), {}, until=Stage.EMBED)
    table = read_parts(sorted((result.directory / "parts").glob("*.parquet")))
    frames = work in folder.parents
    line = {
        "case": name,
        "images": len(table),
        "map" if frames else "knn": round(
            (frame_precision if frames else folder_accuracy)(table.vectors, table.filenames), 4
        ),
        "seconds": round(time.monotonic() - started, 1),
    }
    if result.training:
        line["quality"] = [result.training[0], result.training[-1]]
    print(json.dumps(line), flush=True)


def frame_precision(vectors: Vectors, filenames: Sequence[str]) -> float:
    """Return the mean average precision of finding the frames of the same second."""
    videos_ = np.array([Path(name).parent.name for name in filenames])
    times = np.array([int(Path(name).stem) / 1000 for name in filenames])
    scores = vectors @ vectors.T
    found = []
    for row, order in enumerate(np.argsort(-scores, axis=1)):
        same = videos_[order] == videos_[row]
        apart = np.abs(times[order] - times[row])
        asked = ~(same & (apart <= TOO_NEAR_S))
        hits = (same & (apart <= WITHIN_S))[asked]
        if hits.any():
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            found.append(float(precision[hits].mean()))
    return float(np.mean(found))


def folder_accuracy(vectors: Vectors, filenames: Sequence[str]) -> float:
    """Return how often the nearest neighbours of an image vote for its folder."""
    labels = np.unique([Path(name).parent.name for name in filenames], return_inverse=True)[1]
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weights = np.take_along_axis(scores, nearest, 1)
    right = 0
    for row in range(len(labels)):
        votes = np.bincount(labels[nearest[row]], np.exp(weights[row] / 0.07))
        right += int(votes.argmax() == labels[row])
    return right / len(labels)


if __name__ == "__main__":
    sys.exit(main())
