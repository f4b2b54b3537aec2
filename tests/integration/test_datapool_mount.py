"""A datapool in a bucket, through a real s3fs mount."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightly_fs.config import S3Config
from lightly_fs.datapool.opening import open_pool, read_pool
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.store import Store
from lightly_fs.datapool.update import rollback, update
from lightly_fs.datasource.mount import MountRequest, mounted
from lightly_fs.datasource.output import Output
from lightly_fs.errors import ArtifactError, RunLockedError
from tests.integration.reading_support import known
from tests.unit.datapool.scenario import content, first_run, second_run

pytestmark = [pytest.mark.s3, pytest.mark.fuse]
FRAMES = ["v-0-mp4.png", "v-1-mp4.png", "v-2-mp4.png"]
SCRIPT = Path(__file__).parents[1] / "unit" / "datapool" / "update_until.py"


@pytest.fixture
def environ(s3, tmp_path):
    state = {"LIGHTLY_FS_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    return {**s3.environ(), **state, "PATH": os.environ["PATH"]}


@pytest.fixture
def mount(s3, bucket, tmp_path, environ):
    request = MountRequest(
        bucket=bucket,
        prefix="results",
        directory=tmp_path / "mount",
        profile="output",
        url=s3.url,
    )
    with mounted(request, environ) as made:
        yield made.directory


def keys(s3, bucket):
    found = s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return [one["Key"] for one in found if not one["Key"].endswith("/")]


@contextmanager
def pool_on(s3, bucket, mount, staging):
    """Open a pool below a mount, without its lock."""
    staging.mkdir()
    output = Output(mount, known(s3, bucket, "results/"))
    store = Store(output.below("pool"), staging, lambda: None)
    try:
        yield Pool(store, store.newest())
    finally:
        output.close()


def test_a_pool_on_a_mount_and_in_a_bucket_is_the_same(s3, bucket, mount, environ):
    with open_pool(str(mount / "pool"), environ, owner="run 1") as pool:
        expected = content(update(pool, first_run(pool)))
        with (
            pytest.raises(RunLockedError, match="run 1"),
            open_pool(str(mount / "pool"), environ, owner="run 2"),
        ):
            pass

    place, s3_config = f"s3://{bucket}/results/pool", S3Config(url=s3.url)
    with open_pool(place, environ, s3=s3_config, owner="run 2") as pool:
        assert pool.uri == place
        assert content(pool) == expected
        second = update(pool, second_run(pool))
        expected = content(second)
    with read_pool(str(mount / "pool"), environ) as pool:
        assert content(pool) == expected
        assert pool.store.first_broken(pool.state) is None
        assert [state.number for state in pool.store.states()] == [1, 2]
    folders = [key.split("/")[2] for key in keys(s3, bucket)]
    assert folders == ["files", "files", "samples", "samples", "states", "states"]


def test_an_object_that_is_gone_is_named(s3, bucket, mount, environ):
    with open_pool(str(mount / "pool"), environ, owner="run 1") as pool:
        first = update(pool, first_run(pool))
        update(first, second_run(first))
    (key,) = [key for key in keys(s3, bucket) if "samples/000002" in key]
    s3.client().delete_object(Bucket=bucket, Key=key)

    with open_pool(str(mount / "pool"), environ, owner="run 2") as pool:
        with pytest.raises(ArtifactError, match="is gone") as caught:
            pool.samples()
        assert f"rollback s3://{bucket}/results/pool 1" in caught.value.hint
        assert content(rollback(pool.store, 1)) == content(pool.at(1))


def test_the_command_line_reads_a_bucket(s3, bucket, mount, environ):
    with open_pool(str(mount / "pool"), environ, owner="run 1") as pool:
        update(pool, first_run(pool))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "lightly_fs", "datapool", "show", "--verify", "--json"),
            *(f"s3://{bucket}/results/pool", "--url", s3.url),
        ],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["files"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["before", "torn", "after"])
def test_a_killed_update_leaves_the_old_or_the_new_state(s3, bucket, mount, tmp_path, mode):
    with pool_on(s3, bucket, mount, tmp_path / "s0") as pool:
        old = content(update(pool, first_run(pool)))
    new = None
    for allowed in range(20):  # what was killed is tidied up first, which are steps as well
        given = [bucket, s3.url, s3.access_key, s3.secret_key]
        child = subprocess.run(
            [
                *(sys.executable, str(SCRIPT), str(mount), str(tmp_path / f"c{allowed}")),
                *(str(allowed), mode, "True", *given),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        with pool_on(s3, bucket, mount, tmp_path / f"r{allowed}") as pool:
            found = content(pool)
            assert pool.store.first_broken(pool.state) is None
            assert content(pool.at(1)) == old
        assert new is None or found == new
        if child.returncode == 0:
            break
        assert child.returncode == -9, child.stderr
        # Once the state is there, the mark of an update is still deleted.
        new = None if found == old else found

    assert allowed >= 3
    assert child.returncode == 0
    assert found not in (old, None)
    assert [name for name, _ in found[0]] == ["a.jpg", "c.jpg", "d.jpg", *FRAMES]
    assert found[1] == ["a.jpg", "c.jpg", "d.jpg", "v-2-mp4.png"]
