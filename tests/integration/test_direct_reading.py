"""A bucket that cannot be mounted is read directly, and results in a bucket have its address."""

import json
import os
import subprocess
import sys

import pytest

from tests.images import jpeg, scene

pytestmark = [pytest.mark.s3, pytest.mark.fuse]


def test_a_key_that_s3fs_cannot_list_keeps_nothing_else_from_being_read(moto, tmp_path):
    bucket = moto.new_bucket()
    names = ["plain.jpg", "control\x01.jpg"]
    for number, name in enumerate(names):
        moto.client().put_object(Bucket=bucket, Key=f"in/{name}", Body=jpeg(scene(number)))
    words = [f"input_dir=s3://{bucket}/in", f"output_dir=s3://{bucket}/out", "run_directory=r"]
    done = subprocess.run(
        [sys.executable, "-m", "lightly_fs", "run", *words, "model=colour-grid", "--json"],
        env={**os.environ, **moto.environ(), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["counts"]["embedded"], result["read_through"]) == (2, "object")
    assert result["report"] == f"s3://{bucket}/out/r/report.pdf"
    assert moto.client().head_object(Bucket=bucket, Key="out/r/report.pdf")["ContentLength"] > 1000
    assert not list(tmp_path.glob("lightly-fs-*"))
