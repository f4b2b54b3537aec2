"""What a report shows of a datapool: what was selected before, what the run added."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lightly_fs.artifacts.preselected import Preselected
from lightly_fs.pipeline.datapool import PoolOutcome
from lightly_fs.report import ReportInput, build_report, maps, statistics
from lightly_fs.report.datapool import DatapoolFacts
from lightly_fs.report.figures import draw
from lightly_fs.report.html import render_html
from lightly_fs.report.json_v2 import render_json
from lightly_fs.report.pdf import render_pdf
from lightly_fs.report.statistics import cover, pool_cover, pool_neighbours
from lightly_fs.selection.nearest import covering_distances
from tests.unit.report.made import a_run, vectors
from tests.unit.report.test_report import text_of
from tests.unit.report.videos_made import Found, with_datapool


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the distance of each row to the nearest of the others, the slow way."""
    return np.array([np.linalg.norm(right - one, axis=1).min() for one in left.astype(np.float64)])


@pytest.fixture(scope="module")
def pooled():
    return build_report(with_datapool(a_run(60, 10)))


def test_gaps_are_the_distances_to_what_was_selected_before_and_now(pooled):
    given, gaps = pooled.given, pooled.statistics.gaps
    earlier, chosen = given.preselected.vectors, given.vectors[given.selection.indices]
    np.testing.assert_allclose(gaps.before, distances(given.vectors, earlier), atol=1e-6)
    every = np.concatenate([earlier, chosen])
    np.testing.assert_allclose(gaps.after, distances(given.vectors, every), atol=1e-6)
    assert (gaps.after <= gaps.before).all()
    assert (gaps.after[given.selection.indices] < 1e-6).all()


def test_the_newest_are_the_added_samples_farthest_from_what_was_before(pooled):
    given, made = pooled.given, pooled.datapool
    earlier, rows = given.preselected, given.selection.indices
    far = distances(given.vectors[rows], earlier.vectors)
    assert made.added.n == made.added.counts.sum() == 10
    assert made.added.max == pytest.approx(far.max())
    assert [one.distance for one in made.farthest] == pytest.approx(sorted(far, reverse=True)[:6])
    for one in made.farthest:
        assert one.row in rows
        place = list(earlier.filenames).index(one.name)
        gap = given.vectors[one.row] - earlier.vectors[place]
        assert one.distance == pytest.approx(np.linalg.norm(gap), rel=1e-5)
        assert given.filenames[one.row] in pooled.thumbnails


def beside(given: np.ndarray, earlier: np.ndarray) -> Preselected:
    """Return samples of a datapool beside those of a run."""
    found, nearest = covering_distances(given, earlier)
    names = [f"old {place}" for place in range(len(earlier))]
    return Preselected(names, earlier, {}, nearest, found)


def test_gaps_are_told_of_the_candidates_whose_cover_was_measured(monkeypatch):
    given, rows = vectors(500), np.arange(20)
    earlier = beside(given, vectors(40, seed=3))
    whole = pool_cover(cover(given, rows, 1), earlier)
    monkeypatch.setattr(statistics, "MAX_MULTIPLICATIONS", 120 * 20 * 16)
    measured = cover(given, rows, 1)
    some = pool_cover(measured, earlier)
    assert (len(whole.before), len(some.before)) == (500, 120)
    np.testing.assert_array_equal(some.after, whole.after[measured.rows])
    nothing_selected = pool_cover(None, earlier)
    np.testing.assert_array_equal(nothing_selected.after, earlier.distances)
    assert pool_cover(measured, beside(given, vectors(0))) is None
    assert pool_cover(None, beside(given[:0], vectors(40))) is None


@pytest.mark.parametrize(("n", "k"), [(30, 10), (1, 4), (1, 1), (5, 0), (1, 0), (2, 1)])
def test_neighbours_in_the_datapool_are_those_of_all_its_members(n, k):
    given, earlier = vectors(60), vectors(n, seed=3)
    rows = np.arange(0, 2 * k, 2)
    found = pool_neighbours(given, rows, beside(given, earlier), 1)

    def to_others(members: np.ndarray) -> np.ndarray:
        """Return how far each is from the nearest other one; inf where it is alone."""
        gaps = np.linalg.norm(members[:, None].astype(float) - members[None], axis=2)
        np.fill_diagonal(gaps, np.inf)
        return gaps.min(axis=1)

    np.testing.assert_allclose(found.before, to_others(earlier), atol=1e-6)
    np.testing.assert_allclose(
        found.after, to_others(np.concatenate([earlier, given[rows]])), atol=1e-6
    )


def test_of_a_large_datapool_the_neighbours_of_a_sample_are_measured_and_that_is_said(monkeypatch):
    run = with_datapool(a_run(60, 10), 50)
    whole = build_report(run)
    monkeypatch.setattr(statistics, "MAX_POOL_QUERIES", 20)
    some = build_report(run)
    compared = some.statistics.neighbour
    assert compared.with_datapool.n == some.statistics.n_pool == 20
    assert 0 < compared.preselected.n < 20
    assert compared.preselected.max <= whole.statistics.neighbour.preselected.max
    note = "Nearest neighbours in the datapool: measured on 20 of 60 selected samples (seed 1)."
    assert note in some.notes
    assert note not in whole.notes
    assert whole.statistics.n_pool is None


def test_properties_of_the_datapool_stand_beside_those_of_the_run(pooled):
    written = json.loads(render_json(pooled))["datasetAnalysis"]["metadataInformation"]
    earlier, chosen = pooled.given.preselected, pooled.given.selection.indices
    for name, values in pooled.given.properties.items():
        sets, before = written["lightlyNumeric"][name], earlier.properties[name]
        assert sum(sets["preselectedDatapool"]["counts"]) == 30
        assert sum(sets["selectedWithDatapool"]["counts"]) == 40
        assert sets["preselectedDatapool"]["metrics"]["max"] == pytest.approx(
            before.max(), rel=1e-5
        )
        both = np.concatenate([before, values[chosen]])
        assert sets["selectedWithDatapool"]["metrics"]["mean"] == pytest.approx(
            both.mean(), rel=1e-5
        )


def test_properties_that_the_datapool_does_not_know_are_told_of_the_run_alone():
    run = with_datapool(a_run(60, 10))
    unknown = dict.fromkeys(run.properties, np.full(30, np.nan))
    report = build_report(replace(run, preselected=replace(run.preselected, properties=unknown)))
    for compared in report.properties.values():
        assert compared.preselected is compared.with_datapool is None


def test_the_maps_hold_what_was_selected_before(pooled):
    for drawn in pooled.maps:
        assert drawn.earlier.shape == (30, 2)
        assert np.isfinite(drawn.earlier).all()
        assert len(drawn.points) == 60
        assert drawn.method.endswith("diamonds: 30 samples selected before")
        assert set(drawn.examples) <= set(pooled.sets.selected)
    # What looks the same lies at the same place: it is one projection.
    run = a_run(60, 10)
    first = build_report(replace(run, preselected=beside(run.vectors, run.vectors[:5]))).maps[0]
    np.testing.assert_allclose(first.earlier, first.points[:5], atol=1e-5)


def test_of_a_large_datapool_a_sample_is_mapped_and_that_is_said(monkeypatch):
    monkeypatch.setattr(maps, "MAX_MAP_EARLIER", 20)
    for drawn in build_report(with_datapool(a_run(60, 10), 50)).maps:
        assert len(drawn.earlier) == 20
        assert "diamonds: 20 (drawn with seed 1) of 50 samples" in drawn.method


def test_the_json_has_the_datapools_sets(pooled):
    written = json.loads(render_json(pooled))
    sizes = written["generalInformation"]["datasetInformation"]["datasetSizes"]
    assert (sizes["nPreselectedDatapool"], sizes["nSelectedWithDatapool"]) == (30, 40)
    embedding = written["datasetAnalysis"]["embeddingInformation"]
    near, cover = embedding["distanceToNearestNeighborInSet"], embedding["distanceToCoverInput"]
    assert sum(near["preselectedDatapool"]["counts"]) == 30
    assert sum(near["selectedWithDatapool"]["counts"]) == 40
    assert sum(cover["preselectedDatapool"]["counts"]) == 60
    worst = [
        cover[name]["metrics"]["max"] for name in ("preselectedDatapool", "selectedWithDatapool")
    ]
    assert worst[1] <= worst[0]
    for drawn in embedding["scatterPlotData"].values():
        assert len(drawn["datapool2dEmbeddings"]) == 30
        assert len(drawn["selectedExcludingDatapool2dEmbeddings"]) == 10


def test_without_a_datapool_nothing_is_said_of_one():
    report = build_report(a_run())
    text = render_json(report)
    assert "preselectedDatapool" not in text
    assert "datapool2dEmbeddings" not in text
    assert 'id="datapool"' not in render_html(report, draw(report))


def test_the_document_tells_what_was_new(pooled):
    figures = draw(pooled)
    text = text_of(render_pdf(pooled, figures))
    assert "With 30 that the datapool had selected before, 40 are selected now." in " ".join(
        text.split()
    )
    assert "What was new to the datapool" in text
    for words, number in (
        ("Selected before", "30"), ("Added by this run", "+10"), ("Selected now", "40"),
        ("New to the datapool", "56"), ("Changed since they were processed", "2"),
        ("Known already, not processed again", "1,234"),
        ("Remembered, but deleted from the input", "7"),
    ):  # fmt: skip
        assert f"{words} {number}" in " ".join(text.split())
    assert {"datapool_added", "datapool_gaps"} <= set(figures)
    assert 'id="datapool"' in render_html(pooled, figures)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (with_datapool(a_run(), 0), "They are the first of the datapool."),
        (with_datapool(a_run(12, 0, config={})), "0 samples joined 30"),
        (with_datapool(a_run(1, 1, config={})), "1 sample was chosen because of how it differs"),
        (with_datapool(a_run(0, 0, config={})), "With 30 that the datapool had selected"),
        (with_datapool(a_run(), 25), "25 that earlier runs had selected"),
        (with_datapool(a_run(), 25, Found()), "Of files that changed, decided anew −5"),  # noqa: RUF001
        (with_datapool(a_run(), 0, Found()), "is of files that changed since"),
        (
            replace(with_datapool(a_run(), 0, Found(process_all=True)), preselected=None),
            "8 samples replace 30 that were selected before",
        ),
        (
            with_datapool(a_run(config={"datasource": {"enable_datapool_update": False}})),
            "was left as it was",
        ),
        (with_datapool(a_run(config={"method": "random"})), "8 samples joined 30"),
    ],
)
def test_every_run_with_a_datapool_says_what_became_of_it(run, words):
    report = build_report(run)
    figures = draw(report)
    assert words in " ".join(text_of(render_pdf(report, figures)).split())
    json.loads(render_json(report))
    render_html(report, figures)


def test_what_the_pipeline_knows_of_a_datapool_is_what_the_report_is_given():
    outcome: DatapoolFacts = PoolOutcome(
        location="/pool", base=1, state=None, process_all=False, listed=3, known=1, new=1,
        changed=1, deleted=0, selected_before=5, selected=5, added=8,
    )  # fmt: skip
    run = replace(with_datapool(a_run(), 4), datapool=outcome)
    report = build_report(run)
    text = " ".join(text_of(render_pdf(report, draw(report))).split())
    assert "Selected before 5 Of files that changed, decided anew −1" in text  # noqa: RUF001


def near(run: ReportInput) -> ReportInput:
    """Return the run with a datapool whose samples lie among those of the run."""
    noise = np.random.default_rng(4).normal(0, 0.05, run.vectors[::3].shape)
    known = with_datapool(run, 20)
    samples = (run.vectors[::3] + noise).astype(np.float32)
    return replace(known, preselected=beside(run.vectors, samples))


@pytest.fixture(scope="module")
def crowded():
    return build_report(near(a_run(60, 10, config={"n_example_images": 100})))


def test_coverage_counts_what_was_selected_before_for_the_random_choice_too(crowded):
    given, told = crowded.given, crowded.statistics
    earlier = given.preselected.vectors
    for rows, covered, alone in (
        (crowded.sets.selected, told.covered.selected, told.covering.selected),
        (crowded.sets.random, told.covered.random, told.covering.random),
    ):
        every = distances(given.vectors, np.concatenate([earlier, given.vectors[rows]]))
        assert (covered.max, covered.mean) == pytest.approx((every.max(), every.mean()), abs=1e-6)
        by_run = distances(given.vectors, given.vectors[rows])
        assert (alone.max, alone.mean) == pytest.approx((by_run.max(), by_run.mean()), abs=1e-6)
        assert covered.mean < alone.mean
    assert told.covered.selected.max == crowded.datapool.after.max
    # The JSON has the run's own selection apart from the datapool's.
    written = json.loads(render_json(crowded))["datasetAnalysis"]["embeddingInformation"]
    sets = written["distanceToCoverInput"]
    assert sets["selected"]["metrics"]["mean"] == pytest.approx(
        told.covering.selected.mean, rel=1e-5
    )


def test_all_that_is_said_of_coverage_is_of_the_whole_datapool():
    run = a_run(60, 10)
    # Only one candidate is not among what was selected before: little is left to cover.
    known = np.delete(np.arange(60), run.selection.indices[0])
    report = build_report(replace(run, preselected=beside(run.vectors, run.vectors[known])))
    assert report.statistics.covering.selected.max > 0.5
    assert report.statistics.covered.selected.max < 1e-6
    figures = draw(report)
    page = render_html(report, figures)
    drawn = report.statistics.covered.random.max
    assert f"from the nearest selected one, now or earlier; a random choice: {drawn:.2f}" in page
    for shown in (text_of(render_pdf(report, figures)), page):
        text = " ".join(shown.split())
        assert "farther than 0.00 from one selected now or earlier" in text
        assert "No image was removed for one that this run selected." in text
        assert "farthest from every selected one" not in text


def test_pairs_leave_out_what_an_earlier_selected_sample_is_nearer_to(crowded):
    report, run = crowded, crowded.given
    chosen = run.vectors[run.selection.indices]
    before = distances(run.vectors, report.given.preselected.vectors)
    now = distances(run.vectors, chosen)
    removed = np.setdiff1d(np.arange(60), run.selection.indices)
    stands = {row for row in removed.tolist() if now[row] <= before[row]}
    assert {pair.removed for pair in report.pairs} == stands
    assert 0 < len(stands) < len(removed)
    assert {pair.removed for pair in report.replaced.values()} <= stands
    text = " ".join(text_of(render_pdf(report, draw(report))).split())
    assert "of those that none selected earlier is nearer to" in text
