"""What a report calls its input: the bucket, which means the same everywhere, before the mount."""

import html
import json
import shutil

import pytest

from tests.integration.mounted_bucket import QUICK, cli, mounted_buckets

pytestmark = [pytest.mark.fuse, pytest.mark.s3]


@pytest.fixture(scope="module")
def both(s3, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    shutil.copytree(images, folder / "images" / "fleet" / "november")
    with mounted_buckets(s3, folder / "images", folder) as mounted:
        yield mounted


def run(both, name: str, *words: str) -> None:
    place = (f"output_dir={both.output_dir}", f"run_directory={name}")
    done = cli(both, "run", *QUICK, *place, *words)
    assert done.returncode == 0, done.stderr


def told(both, run: str) -> tuple[str, dict, str]:
    """Return the page, the rest of the JSON that tells of the input, and the analysis."""
    report = json.loads(both.content(f"{run}/report_v2.json"))
    page = html.unescape(both.content(f"{run}/report.html").decode())
    dataset = report["generalInformation"]["datasetInformation"]
    return page, dataset, json.dumps(report["datasetAnalysis"])


def test_a_folder_of_a_mount_is_named_by_its_bucket_and_prefix(both):
    folder = both.input_dir / "fleet" / "november"
    run(both, "mounted", f"input_dir={folder}", "read_through=mount")
    page, dataset, analysis = told(both, "mounted")

    uri = f"s3://{both.source}/fleet/november/"
    assert f"<code>{uri}</code>, mounted at <code>{folder}</code>" in page
    assert (dataset["datasetUrl"], dataset["datasetName"]) == (uri, "november")

    run(both, "named", f"input_dir={uri}", f"s3.url={both.s3.url}")
    page, dataset, same = told(both, "named")
    assert f"<code>{uri}</code>" in page
    assert "mounted at" not in page.lower()
    assert dataset["datasetUrl"] == uri
    assert same == analysis
