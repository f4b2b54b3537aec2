"""The parts of scripts/bench_selection_quality.py, on data whose answers are known."""

import numpy as np
import pytest
from bench_selection_quality import balanced_accuracy, chosen
from selection_quality_plot import save_plot, table
from small_convnet import as_tensor, build, predict, train


def test_every_class_counts_as_much():
    labels = np.array([0] * 8 + [1] * 2)

    assert balanced_accuracy(np.zeros(10, np.int64), labels) == 0.5
    assert balanced_accuracy(labels, labels) == 1


def test_a_smaller_selection_is_the_beginning_of_a_larger_one():
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)

    for method in ("coreset", "random"):
        ten = chosen(vectors, method, 10, seed=3)
        assert len(set(ten.tolist())) == 10
        assert ten.tolist() == chosen(vectors, method, 30, seed=3)[:10].tolist()
    assert (
        chosen(vectors, "random", 10, seed=3).tolist() != chosen(vectors, "random", 10, 4).tolist()
    )


def test_the_network_learns_what_its_images_show_and_the_same_each_time():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    tint = np.where(labels[:, None, None, None] == 0, [200, 40, 0], [0, 40, 200])
    images = as_tensor(list((tint + rng.integers(0, 55, (60, 16, 16, 3))).astype(np.uint8)))

    nets = [build(2, seed) for seed in (1, 1, 2)]
    for net in nets:
        train(net, images[:40], labels[:40], seed=0, updates=25)

    assert (predict(nets[0], images[40:]) == labels[40:]).all()
    weights = [next(net.parameters()).detach().numpy() for net in nets]
    assert np.allclose(weights[0], weights[1], atol=1e-6)
    assert not np.allclose(weights[0], weights[2], atol=1e-3)


@pytest.fixture
def records():
    return [
        {
            "pool": "frames",
            "classifier": classifier,
            "method": method,
            "n": 10,
            "seed": seed,
            "distinct": 9,
            "balanced_accuracy": accuracy + seed / 100,
        }
        for classifier in ("convnet", "colour-hog", "embedding")
        for method, accuracy in (("coreset", 0.4), ("random", 0.45))
        for seed in (0, 2)
    ]


def test_the_table_shows_a_loss_as_a_loss(records):
    lines = table(records).splitlines()

    assert len(lines) == 2 + 3
    assert lines[2] == "| frames | 10 | 9 / 9 | convnet | 41.0 ± 1.4 | 46.0 ± 1.4 | -5.0 |"


def test_the_plot_is_the_same_file_from_the_same_results(records, tmp_path):
    save_plot(records, tmp_path / "selection-quality.svg")
    first = (tmp_path / "selection-quality.svg").read_bytes()
    save_plot(records, tmp_path / "selection-quality.svg")

    assert (tmp_path / "selection-quality.svg").read_bytes() == first
    assert first.count(b"<!-- frames: ") == 3
