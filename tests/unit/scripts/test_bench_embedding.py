"""The quality harness from folders to its table, as a program."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_embedding import table
from embedding_models import colour_hog, raw_pixels
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def folders(tmp_path):
    """Two classes that colour tells apart, photographs of different sizes."""
    for part, seed in (("train", 0), ("test", 1)):
        rng = np.random.default_rng(seed)
        for name, tint in (("blue", (0, 40, 200)), ("red", (200, 40, 0))):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(12):
                noise = rng.integers(0, 55, (5, 5, 3)) + np.array(tint)
                image = Image.fromarray(noise.astype(np.uint8))
                image.resize((60 + number, 50), Image.Resampling.BICUBIC).save(
                    folder / f"{number}.png"
                )
    return tmp_path


def bench(*words):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench_embedding.py", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines, _, rest = done.stdout.partition("\n\n")
    return [json.loads(line) for line in lines.splitlines()], rest, done.stderr


def test_a_bank_of_folders_answers_and_an_unknown_model_is_left_out(folders):
    models = ["pixels", "colour-grid", "timm/there-is-no-such-model"]
    records, shown, said = bench(
        *("--queries", folders / "test", "--bank", folders / "train", "--table"),
        *("--models", *models, "--parts", "knn", "probe", "duplicates", "retrieval"),
    )

    assert [record["model"] for record in records] == ["pixels", "colour-grid"]
    assert "timm/there-is-no-such-model is left out" in said
    for record in records:
        assert (record["bank"], record["queries"], record["classes"]) == (24, 24, 2)
        assert record["knn_top1"] == record["probe_top1"] == 1
        assert 0 <= record["duplicate_recall"] <= 1
    assert "**test**: 24 queries, bank 24, 2 classes" in shown
    assert "| pixels | 3,072 |" in shown


def test_without_a_bank_the_others_answer_and_the_speed_is_there(folders):
    (record,), _, _ = bench(
        *("--queries", folders / "test", "--models", "colour-grid", "--runtime", "torch"),
        *("--parts", "knn", "speed"),
    )

    assert record["bank"] == 0
    assert record["knn_top1"] == 1
    assert record["images_per_s"] > 0
    assert "probe_top1" not in record


def test_the_best_of_a_column_is_bold():
    records = [
        {"dataset": "d", "bank": 0, "queries": 9, "classes": 2, "model": name, "knn_top1": value}
        for name, value in (("a", 0.25), ("b", 0.5))
    ]

    assert table(records).splitlines()[-2:] == ["| a | 25.0 % |", "| b | **50.0 %** |"]


def test_the_baselines_see_colour_and_shape():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::8] = stripes[1::8] = 255
    turned = stripes.swapaxes(0, 1)
    red = stripes * np.array([1, 0, 0], np.uint8)

    across, down, other = (colour_hog(pixels) for pixels in (stripes, turned, red))

    assert across.shape == (1828,)
    assert across @ across == pytest.approx(2, rel=1e-5)
    assert across[:64] @ down[:64] == pytest.approx(1, rel=1e-5)
    assert across[64:] @ down[64:] < 0.9
    assert across[:64] @ other[:64] < 0.9
    assert raw_pixels(np.full((10, 20, 3), 255, np.uint8)).tolist() == [1.0] * 3072
