"""`scripts/run.sh` mounts, runs and always unmounts; its exit code is the run's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mounted_bucket import QUICK, upload

pytestmark = [pytest.mark.fuse, pytest.mark.s3]
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run.sh"


@pytest.mark.parametrize(("words", "code"), [((), 0), (("metod=random",), 2)])
def test_everything_is_unmounted_and_the_code_is_the_runs(s3, images, tmp_path, words, code):
    source, target = s3.new_bucket(), s3.new_bucket()
    upload(s3, source, images)
    program = Path(sys.executable).with_name("lightly-fs")
    environ = {
        **os.environ,
        **s3.environ(),
        "URL": s3.url,
        "TMPDIR": str(tmp_path),
        "LIGHTLY_FS": str(program),
    }

    done = subprocess.run(
        [
            "sh",
            SCRIPT,
            source,
            f"s3://{target}",
            "run_directory=r",
            "--n-samples=3",
            *QUICK,
            *words,
        ],
        env=environ,
        capture_output=True,
        text=True,
    )

    assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stdout.splitlines()[-1] == f"s3://{target}/r/report.pdf"
        assert f"{tmp_path}" not in done.stderr
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not list(tmp_path.iterdir())
