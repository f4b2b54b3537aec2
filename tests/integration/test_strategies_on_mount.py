"""`selection_config` on real mounts: annotations of the bucket, read directly and through FUSE."""

import json

import pytest

from tests.integration.mounted_bucket import mounted_buckets
from tests.integration.test_run_on_mount import digests
from tests.unit.annotated import draw

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

SELECTION = {
    "n_samples": 8,
    "strategies": [
        {"input": {"type": "EMBEDDINGS"}, "strategy": {"type": "DIVERSITY"}},
        {
            "input": {"type": "PREDICTIONS", "task": "boxes", "name": "CLASS_DISTRIBUTION"},
            "strategy": {"type": "BALANCE", "distribution": "UNIFORM"},
        },
        {
            "input": {"type": "METADATA", "key": "weather.temperature"},
            "strategy": {"type": "THRESHOLD", "threshold": 25, "operation": "SMALLER"},
        },
        {
            "input": {"type": "SCORES", "task": "kind", "score": "uncertainty_margin"},
            "strategy": {"type": "WEIGHTS", "strength": 0.5},
        },
        {"input": {"type": "EMBEDDINGS", "task": "boxes"}, "strategy": {"type": "DIVERSITY"}},
    ],
}
WORDS = (f"selection_config={json.dumps(SELECTION)}", "near_duplicates.max_distance=0.01")


@pytest.fixture(scope="module")
def buckets(s3, tmp_path_factory):
    images = draw(tmp_path_factory.mktemp("annotated"))
    with mounted_buckets(s3, images, tmp_path_factory.mktemp("mounted")) as both:
        yield both


@pytest.fixture(scope="module")
def reference(buckets):
    done = buckets.run("run_directory=reference", "read_through=object", *WORDS)
    assert done.returncode == 0, done.stderr
    return digests(buckets, "reference")


def test_annotations_are_no_images_and_reach_the_strategies(buckets, reference):
    manifest = json.loads(buckets.content("reference/manifest.json"))
    assert manifest["counts"]["inventory"] == 24
    assert manifest["counts"]["selected"] == 8
    assert {"data/selection_objectives.csv", "data/al_score_embeddings.csv"} <= reference.keys()
    assert any(name.startswith("data/crops/boxes/street/") for name in reference)
    report = json.loads(buckets.content("reference/report_v2.json"))
    assert report["predictionTaskInformation"].keys() == {"boxes", "kind"}
    assert (
        "weather.temperature" in report["datasetAnalysis"]["metadataInformation"]["customNumeric"]
    )


def test_reading_through_the_mount_selects_the_same(buckets, reference):
    done = buckets.run("run_directory=through-mount", "read_through=mount", *WORDS)
    assert done.returncode == 0, done.stderr
    assert reference == digests(buckets, "through-mount")


@pytest.mark.parametrize("sign", ["crop_parts/", "data/"])
def test_a_run_that_is_killed_while_it_selects_ends_the_same(buckets, reference, tmp_path, sign):
    run = f"killed-at-{sign.strip('/')}"
    process = buckets.start(f"run_directory={run}", *WORDS, log=tmp_path / "log")
    buckets.wait_for_key(f"{run}/{sign}", process)
    process.kill()
    process.wait()
    done = buckets.run(f"run_directory={run}", *WORDS)
    assert done.returncode == 0, done.stderr
    assert reference == digests(buckets, run)
    assert not [key for key in buckets.keys() if key.startswith(f"{run}/crop_parts/crop")]
