import pytest

from lightly_fs.report.savings import ASSUMPTIONS, TASKS, savings


def test_nothing_left_out_saves_nothing():
    assert all(saved.dollars == saved.kilograms_co2 == 0 for saved in savings(0).values())


def test_savings_follow_from_the_stated_prices_and_times():
    detection = savings(1000)["objectDetection"]
    assert detection.dollars == pytest.approx(7 * 63)
    kilowatt_hours = 1000 * 7 * 25.5 / 3600 * 0.060
    assert detection.kilograms_co2 == pytest.approx(kilowatt_hours * 0.445)


def test_every_assumption_is_written_out():
    for number in ("$35", "$63", "$870", "7 objects", "5 s", "25.5 s", "79 s", "60 W", "445 g"):
        assert number in ASSUMPTIONS
    assert set(TASKS) == {"imageClassification", "objectDetection", "semanticSegmentation"}
