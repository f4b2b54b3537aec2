"""What is installed is what is needed, and help starts fast, without torch."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    wheel = next(out.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


@pytest.mark.parametrize(
    "name",
    [
        "lightly_fs/py.typed",
        "lightly_fs/_mount/mount.sh",
        "lightly_fs/_mount/unmount.sh",
        "lightly_fs/_mount/profiles/images.conf",
        "lightly_fs/embedding/weights/bundled.safetensors",
        "lightly_fs/embedding/weights/NOTICE.md",
        "lightly_fs/report/template.typ",
    ],
)
def test_the_wheel_has(wheel_names, name):
    assert name in wheel_names


def test_the_bundled_weights_are_small(wheel_names):
    assert wheel_names["lightly_fs/embedding/weights/bundled.safetensors"] < 12_000_000


@pytest.mark.parametrize("heavy", ["torch", "numpy", "pydantic", "pyarrow", "rich", "obstore"])
def test_help_imports_nothing_heavy(heavy):
    code = (
        "import sys\nfrom lightly_fs.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        f"sys.exit({heavy!r} in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
