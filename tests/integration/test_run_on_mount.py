"""The whole run on real s3fs mounts: results in the bucket, kills, locks, vanishing objects."""

import hashlib
import json
import signal

import pytest

from tests.integration.mounted_bucket import mounted_buckets, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

HALF = "stopping_condition.n_samples=0.5"


@pytest.fixture(scope="module")
def buckets(s3, images, tmp_path_factory):
    with mounted_buckets(s3, images, tmp_path_factory.mktemp("mounted")) as both:
        yield both


def digests(buckets, run: str) -> dict[str, str]:
    """Hash what must not depend on interruptions: data, lists, the report's analysis."""
    found = {
        key.removeprefix(f"{run}/"): hashlib.sha256(buckets.content(key)).hexdigest()
        for key in buckets.keys()
        if key.startswith((f"{run}/data/", f"{run}/filenames/")) and not key.endswith("/")
    }
    report = json.loads(buckets.content(f"{run}/report_v2.json"))
    found["datasetAnalysis"] = json.dumps(report["datasetAnalysis"])
    return found


@pytest.fixture(scope="module")
def reference(buckets):
    """Digests of an uninterrupted run that read objects directly."""
    done = buckets.run("run_directory=reference", HALF, "read_through=object")
    assert done.returncode == 0, done.stderr
    return digests(buckets, "reference")


def test_results_lie_in_the_bucket_and_the_sums_hold(buckets, reference):
    manifest = json.loads(buckets.content("reference/manifest.json"))

    assert reference["data/embeddings.csv"]
    assert {
        "inventory": 29,
        "embedded": 26,
        "corrupt": 3,
        "duplicate": 2,
        "selected": 12,
    }.items() <= (manifest["counts"].items())
    for entry in manifest["entries"]:
        content = buckets.content(f"reference/{entry['name']}")
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert buckets.content("reference/report.pdf").startswith(b"%PDF-")
    assert not [key for key in buckets.keys() if key.startswith("reference/parts/embed")]


def test_reading_through_the_mount_gives_the_same_bytes(buckets, reference):
    done = buckets.run("run_directory=through-mount", HALF, "read_through=mount")

    assert done.returncode == 0, done.stderr
    assert "reading through: mount" in done.stderr
    assert reference == digests(buckets, "through-mount")


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("list", "config/run.json"),
        ("embed", "parts/embed-00002"),
        ("report", "filenames/"),
        ("end", "log.txt"),
    ],
)
def test_a_killed_run_is_resumed_and_ends_the_same(buckets, reference, tmp_path, stage, sign):
    run = f"killed-in-{stage}"
    process = buckets.start(f"run_directory={run}", HALF, log=tmp_path / "log")
    buckets.wait_for_key(f"{run}/{sign}", process)
    process.kill()
    process.wait()
    # The manifest follows the log at once; a run that is killed behind it is complete.
    assert stage == "end" or f"{run}/manifest.json" not in buckets.keys()

    done = buckets.run(f"run_directory={run}", HALF)

    assert done.returncode == 0, done.stderr
    assert reference == digests(buckets, run)


def test_a_run_killed_while_selecting_is_resumed_and_ends_the_same(buckets, reference, tmp_path):
    log = tmp_path / "log"
    process = buckets.start("run_directory=killed-in-select", HALF, log=log)
    wait_until(lambda: b"embed: " in log.read_bytes(), process)
    process.kill()
    process.wait()

    done = buckets.run("run_directory=killed-in-select", HALF)

    assert done.returncode == 0, done.stderr
    assert "shards are there already, 0 to embed" in done.stderr
    assert reference == digests(buckets, "killed-in-select")


def test_a_killed_input_mount_is_mounted_again_and_the_run_goes_on(buckets, reference, tmp_path):
    process = buckets.start(
        "run_directory=s3fs-killed", HALF, "read_through=mount", log=tmp_path / "log"
    )
    buckets.wait_for_key("s3fs-killed/parts/embed-00000", process)
    buckets.s3fs(buckets.input_dir).send_signal(signal.SIGKILL)

    assert process.wait(200) == 0, (tmp_path / "log").read_text()
    assert reference == digests(buckets, "s3fs-killed")


def test_a_killed_output_mount_is_mounted_again_and_the_run_goes_on(buckets, reference, tmp_path):
    process = buckets.start("run_directory=out-killed", HALF, log=tmp_path / "log")
    buckets.wait_for_key("out-killed/parts/embed-00001", process)
    buckets.s3fs(buckets.output_dir).send_signal(signal.SIGKILL)

    assert process.wait(200) == 0, (tmp_path / "log").read_text()
    assert reference == digests(buckets, "out-killed")


def test_a_second_run_is_refused_and_a_dead_owner_is_taken_over(buckets, reference, tmp_path):
    process = buckets.start("run_directory=contested", HALF, log=tmp_path / "log")
    buckets.wait_for_key("contested/parts/embed-00000", process)
    process.send_signal(signal.SIGSTOP)
    try:
        refused = buckets.run("run_directory=contested", HALF)
    finally:
        process.kill()
        process.wait()

    taken_over = buckets.run("run_directory=contested", HALF)

    assert refused.returncode == 6
    assert str(process.pid) in refused.stderr
    assert taken_over.returncode == 0, taken_over.stderr
    assert reference == digests(buckets, "contested")


def test_ctrl_c_says_how_to_go_on_and_exits_130(buckets, reference, tmp_path):
    process = buckets.start("run_directory=interrupted", HALF, log=tmp_path / "log")
    buckets.wait_for_key("interrupted/parts/embed-00000", process)
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert "resumes" in (tmp_path / "log").read_text()
    assert buckets.run("run_directory=interrupted", HALF).returncode == 0
    assert reference == digests(buckets, "interrupted")


def test_objects_that_vanish_or_change_are_told_apart(s3, images, tmp_path):
    with mounted_buckets(s3, images, tmp_path) as both:
        words = ("run_directory=r", "stopping_condition.n_samples=3")
        process = both.start(*words, log=tmp_path / "log")
        both.wait_for_key("r/config/run.json", process)
        process.kill()
        process.wait()
        # The inventory is frozen: what happens to the objects now happens "during the run".
        process = both.start(*words, log=tmp_path / "log")
        wait_until(lambda: b"Found 29 input images" in (tmp_path / "log").read_bytes(), process)
        process.send_signal(signal.SIGSTOP)
        client = s3.client()
        client.delete_object(Bucket=both.source, Key="folder_2/scene_023.jpg")
        client.put_object(Bucket=both.source, Key="zz_copy_of_000.jpg", Body=b"something else")
        process.send_signal(signal.SIGCONT)
        code = process.wait(200)

        lists = {
            name: both.content(f"r/filenames/{name}_filenames.txt").decode().split()
            for name in ("gone", "failed")
        }

    assert code == 9, (tmp_path / "log").read_text()
    assert {"gone": ["folder_2/scene_023.jpg"], "failed": ["zz_copy_of_000.jpg"]} == lists
