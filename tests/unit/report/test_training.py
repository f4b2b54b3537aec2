"""The page on training: its words, its table, its curves, and its absence without training."""

from dataclasses import replace

import pytest

from lightly_fs.report import build_report, write_report
from lightly_fs.report.training import training_figure, training_rows, training_words
from tests.unit.report import made

HISTORY = [
    {"epoch": 0, "loss": None, "images": 0, "alignment": 0.5, "uniformity": -1.0, "knn": 0.25},
    {"epoch": 1, "loss": 2.5, "images": 1256, "alignment": 0.4, "uniformity": -1.5, "knn": 0.5},
    {"epoch": 2, "loss": 2.25, "images": 1256, "alignment": 0.3, "uniformity": -2.0, "knn": 0.75},
]


def test_the_words_compare_with_before():
    words = training_words(HISTORY)

    assert "for 2 epochs of 1,256 images" in words
    assert "for 1 epoch of 1,256 images" in training_words(HISTORY[:2])
    assert words.index("75") < words.index("before training in 25")
    assert training_words([]) == ""


def test_the_table_has_before_first_and_last():
    rows = training_rows(HISTORY)

    assert [row[0] for row in rows] == ["Before training", "After 1", "After 2"]
    assert rows[0][1] == ""
    assert rows[2][1:] == ["2.250", rows[2][2], "0.300", "-2.000"]
    assert rows[2][2].startswith("75")
    assert training_rows([]) == []
    assert len(training_rows(HISTORY[:2])) == 2


def test_the_curves_have_every_measure_and_epoch():
    figure = training_figure(HISTORY)
    lines = [axes.lines[0].get_xydata().tolist() for axes in figure.axes]

    assert lines == [
        [[1, 2.5], [2, 2.25]],
        [[0, 0.25], [1, 0.5], [2, 0.75]],
        [[0, 0.5], [1, 0.4], [2, 0.3]],
        [[0, -1.0], [1, -1.5], [2, -2.0]],
    ]


def test_too_few_images_to_measure_are_told():
    history = [{"epoch": 0, "loss": None, "images": 0}, {"epoch": 1, "loss": 2.0, "images": 4}]

    assert "too few" in training_words(history)
    assert [text.get_text() for axes in training_figure(history).axes for text in axes.texts] == [
        "not measured"
    ] * 3


@pytest.mark.parametrize("history", [HISTORY, []], ids=["trained", "not trained"])
def test_the_page_is_there_when_something_was_trained(tmp_path, history):
    given = replace(made.a_run(12, 4), training=history)
    write_report(build_report(given), tmp_path)
    page = (tmp_path / "report.html").read_text()

    assert ('aria-labelledby="training"' in page) == bool(history)
    assert ("After 2" in page) == bool(history)
    assert (tmp_path / "plots" / "training.png").exists() == bool(history)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
