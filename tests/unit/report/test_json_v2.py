import json
from dataclasses import replace

import numpy as np
import pytest

from lightly_fs.report import build_report
from lightly_fs.report.json_v2 import render_json
from lightly_fs.types import Duplicate, Failure, Outcome
from tests.unit.report.made import a_run


def document(run):
    return json.loads(render_json(build_report(run)))


@pytest.fixture(scope="module")
def written():
    run = a_run(
        failures=[Failure("broken.jpg", Outcome.CORRUPT, "empty file")],
        duplicates=[Duplicate("copy.jpg", "folder_0/image_0000.jpg", "content")],
    )
    return document(run)


def test_the_sizes_are_the_runs_counts(written):
    sizes = written["generalInformation"]["datasetInformation"]["datasetSizes"]
    assert sizes == {
        "nInput": 42,
        "nCorrupt": 1,
        "nDuplicate": 1,
        "nRemoved": 32,
        "nSelected": 8,
        "nPreselectedDatapool": 0,
        "nSelectedWithDatapool": 8,
    }


def test_histograms_count_every_member_of_their_set(written):
    embedding = written["datasetAnalysis"]["embeddingInformation"]
    near = embedding["distanceToNearestNeighborInSet"]
    assert (sum(near["input"]["counts"]), sum(near["selected"]["counts"])) == (40, 8)
    assert near["bins"] == len(near["random"]["counts"]) == 40
    cover = embedding["distanceToCoverInput"]
    assert (sum(cover["selected"]["counts"]), "input" in cover) == (40, False)
    sharpness = written["datasetAnalysis"]["metadataInformation"]["lightlyNumeric"]["sharpness"]
    assert [sum(sharpness[name]["counts"]) for name in ("input", "selected", "random")] == [
        40,
        8,
        8,
    ]


def test_both_maps_hold_all_candidates_and_the_selected_ones(written):
    scatter = written["datasetAnalysis"]["embeddingInformation"]["scatterPlotData"]
    for name in ("pcaEmbeddingData", "umapEmbeddingData"):
        drawn = scatter[name]
        assert len(drawn["input2dEmbeddings"]) == 40
        selected = drawn["selectedExcludingDatapool2dEmbeddings"]
        assert len(selected) == 8
        assert all(point in drawn["input2dEmbeddings"] for point in selected)
        assert all(example["location"] in selected for example in drawn["exampleImages"])


def test_the_analysis_says_nothing_of_the_run_that_made_it():
    def analysis(run):
        return json.dumps(document(run)["datasetAnalysis"])

    first = analysis(a_run())
    later = a_run(run_id="again", started=1.0, finished=9.0, input_uri="/elsewhere", timings={})
    assert analysis(later) == first
    unread = replace(a_run(), image=lambda filename, side: None)
    assert analysis(unread) == first
    assert analysis(a_run(k=9)) != first


@pytest.mark.parametrize(
    ("n", "k", "dimensions"), [(0, 0, 3), (1, 0, 3), (1, 1, 1), (2, 1, 1), (5, 5, 2), (30, 0, 4)]
)
def test_runs_of_any_size_make_a_document_of_finite_numbers(n, k, dimensions):
    run = a_run(n, k, dimensions=dimensions, config={})
    made = render_json(build_report(run))
    assert "NaN" not in made
    assert "Infinity" not in made
    sizes = json.loads(made)["generalInformation"]["datasetInformation"]["datasetSizes"]
    assert (sizes["nInput"], sizes["nSelected"]) == (n, k)


def test_properties_that_are_not_numbers_are_left_out_of_the_histograms():
    run = a_run()
    values = np.full(40, np.nan)
    values[:3] = 1, 2, 3
    run = replace(run, properties={"snr": values})
    snr = document(run)["datasetAnalysis"]["metadataInformation"]["lightlyNumeric"]["snr"]
    assert sum(snr["input"]["counts"]) == 3
