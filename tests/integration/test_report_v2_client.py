"""`report_v2.json` is read by the `ReportV2` model of the published client, in its own environment.

`LIGHTLY_FS_CLIENT_PYTHON` names an interpreter that has `lightly` 1.5.26; without it, one is made
in `.cache/lightly-client`. Nothing of ours is installed there, and nothing of it here: no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightly_fs.report import build_report
from lightly_fs.report.json_v2 import render_json
from lightly_fs.types import Duplicate, Failure, Outcome
from tests.conftest import need
from tests.unit.report.made import a_run
from tests.unit.report.strategies_made import with_strategies
from tests.unit.report.videos_made import of_videos, with_datapool

GIVEN = os.environ.get("LIGHTLY_FS_CLIENT_PYTHON")
CACHED = Path(__file__).resolve().parents[2] / ".cache" / "lightly-client"
CLIENT = "lightly==1.5.26"
PARTS = ("aenum", "certifi", "numpy", "pillow", "pydantic", "python-dateutil", "requests",
         "setuptools", "six", "tqdm", "urllib3")  # fmt: skip
READ = """
import json, sys
from lightly.openapi_generated.swagger_client.models.report_v2 import ReportV2
report = ReportV2.from_json(open(sys.argv[1]).read())
print(json.dumps(report.to_dict(by_alias=True)))
"""


def has_client(python: Path) -> bool:
    if not python.exists():
        return False
    command = [python, "-c", READ.partition("report =")[0]]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def make_client(python: Path) -> str | None:
    """Install the client for `python`; return why that was not possible."""
    directory = python.parents[1]
    uv = shutil.which("uv")
    if uv:
        make = [uv, "venv", "--clear", "-p", sys.executable, directory]
        install = [uv, "pip", "install", "-p", python]
    else:
        make = [sys.executable, "-m", "venv", "--clear", directory]
        install = [python, "-m", "pip", "install"]
    for command in (make, [*install, "--no-deps", CLIENT], [*install, *PARTS]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{CLIENT} could not be installed: {done.stderr.strip()[-300:]}"
    return None if has_client(python) else f"{CLIENT} was installed but cannot be imported"


@pytest.fixture(scope="module")
def client() -> Path:
    """An interpreter that has the published client."""
    if GIVEN:
        given = Path(GIVEN)
        missing = None if has_client(given) else f"{given} cannot import {CLIENT}"
        need("client", missing=missing)
        return given
    python = CACHED / "bin" / "python"
    if not has_client(python):
        need("client", missing=make_client(python))
    return python


def read_by(client: Path, report: Path) -> dict:
    done = subprocess.run([client, "-c", READ, report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(
            {
                "failures": [Failure("b.jpg", Outcome.CORRUPT, "empty file")],
                "duplicates": [Duplicate("c.jpg", "folder_0/image_0000.jpg", "content")],
            },
            id="ordinary",
        ),
        pytest.param({"names": [f"漢字 {i}\n.jpg" for i in range(40)]}, id="odd-names"),
        pytest.param({"n": 12, "k": 0, "properties": (), "config": {}}, id="nothing-selected"),
        pytest.param({"n": 1, "k": 1, "dimensions": 1, "config": {}}, id="one-image"),
    ],
)
def test_the_published_client_reads_every_field_that_was_written(client, run, tmp_path):
    path = tmp_path / "report_v2.json"
    path.write_text(render_json(build_report(a_run(**run))))
    assert read_by(client, path) == json.loads(path.read_text())


@pytest.mark.parametrize(("n", "k"), [(60, 20), (12, 0), (1, 1), (0, 0)])
def test_the_published_client_reads_metadata_and_prediction_tasks(client, n, k, tmp_path):
    path = tmp_path / "report_v2.json"
    path.write_text(render_json(build_report(with_strategies(a_run(n, k, config={})))))
    written = json.loads(path.read_text())
    assert set(written["predictionTaskInformation"]) == {"detector", "lightly_pretagging"}
    assert set(written["datasetAnalysis"]["metadataInformation"]["customCategorical"]) == {
        "weather"
    }
    assert read_by(client, path) == written


@pytest.mark.parametrize(("n", "k", "before"), [(60, 20, 30), (12, 0, 1), (1, 1, 9), (40, 8, 0)])
def test_the_published_client_reads_what_a_datapool_adds(client, n, k, before, tmp_path):
    path = tmp_path / "report_v2.json"
    run = with_datapool(of_videos({"a.mp4": n}, k, config={}), before)
    path.write_text(render_json(build_report(run)))
    written = json.loads(path.read_text())
    embeddings = written["datasetAnalysis"]["embeddingInformation"]
    for name in ("distanceToNearestNeighborInSet", "distanceToCoverInput"):
        assert ("selectedWithDatapool" in embeddings[name]) == bool(before)
    assert read_by(client, path) == written


def test_the_client_would_refuse_a_field_it_does_not_know(client, tmp_path):
    path = tmp_path / "report_v2.json"
    path.write_text(json.dumps({"generalInformation": None, "datasetAnalysis": {"ours": 1}}))
    with pytest.raises(AssertionError, match="additional fields"):
        read_by(client, path)
