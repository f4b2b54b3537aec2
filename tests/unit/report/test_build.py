import threading
from dataclasses import replace

import numpy as np
import pytest

from lightly_fs.report import build_report, maps
from lightly_fs.report.maps import draw_maps
from lightly_fs.report.statistics import draw_sets
from lightly_fs.types import Duplicate
from tests.unit.report.made import a_run, farthest_first, thumbnail, vectors


def test_every_image_is_asked_for_once():
    asked, lock = [], threading.Lock()

    def image(filename, side):
        with lock:
            asked.append(filename)
        return thumbnail(filename, side)

    duplicates = [Duplicate("copy.jpg", "folder_0/image_0000.jpg", "content")]
    report = build_report(a_run(duplicates=duplicates, image=image))
    assert len(asked) == len(set(asked))
    assert set(asked) == set(report.thumbnails)
    assert {"copy.jpg", "folder_0/image_0000.jpg"} <= set(asked)
    assert {report.given.filenames[row] for row in report.shown} <= set(asked)


def test_images_that_cannot_be_had_are_no_thumbnails():
    report = build_report(a_run(image=lambda filename, side: None))
    assert report.thumbnails == {}
    assert len(report.shown) == 8


def test_an_error_of_the_image_source_is_not_swallowed():
    def image(filename, side):
        raise OSError("the mount is gone")

    with pytest.raises(OSError, match="the mount is gone"):
        build_report(a_run(image=image))


def test_the_number_of_pairs_is_configured():
    for n in (0, 2, 6):
        assert len(build_report(a_run(config={"n_example_images": n})).pairs) == n


def test_pairs_join_a_selected_and_a_removed_image_at_their_distance():
    report = build_report(a_run())
    chosen = set(report.sets.selected.tolist())
    for pair in report.pairs:
        assert pair.selected in chosen
        assert pair.removed not in chosen
        gap = report.given.vectors[pair.selected] - report.given.vectors[pair.removed]
        assert pair.distance == pytest.approx(np.linalg.norm(gap), rel=1e-5)


def test_large_runs_are_mapped_by_a_sample_with_selected_ones(monkeypatch):
    monkeypatch.setattr(maps, "MAX_MAP_POINTS", 100)
    given = vectors(1000)
    sets = draw_sets(1000, farthest_first(given, 200).indices, 1)
    for drawn in draw_maps(given, sets):
        assert len(drawn.rows) == len(np.unique(drawn.rows)) == 100
        assert np.isin(drawn.rows, sets.selected).sum() == 50
        assert np.isin(drawn.examples, drawn.rows).all()


def test_what_was_sampled_is_said(monkeypatch):
    assert build_report(a_run()).notes == []
    monkeypatch.setattr(maps, "MAX_MAP_POINTS", 20)
    assert build_report(a_run()).notes == [
        "The maps: measured on 20 of 40 candidates (seed 1)."
    ]  # fmt: skip


def test_a_handful_of_images_is_mapped_by_pca_and_says_so():
    first, second = build_report(a_run(5, 2)).maps
    assert "too few" in second.method
    np.testing.assert_array_equal(first.points, second.points)


def test_without_a_selection_nothing_is_saved():
    assert build_report(a_run(12, 0)).savings["objectDetection"].dollars == 0
    assert build_report(a_run(12, 2)).savings["objectDetection"].dollars > 0


def test_rows_that_do_not_belong_together_are_refused():
    run = a_run()
    with pytest.raises(ValueError, match="vectors has 39 rows for 40 filenames"):
        build_report(replace(run, vectors=run.vectors[:39]))
    with pytest.raises(ValueError, match="'sharpness'"):
        build_report(replace(run, properties={"sharpness": np.zeros(3)}))
