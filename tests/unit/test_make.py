"""`scripts/setup.sh` installs what is missing and no more; make targets ask before they install."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
# Python, pip and uv as far as setup.sh asks them; every installation leaves a line in `installed`.
case $1 in
    -c) exit 0 ;;
    -m) [ "$2" = venv ] || exit 0 ;;
esac
mkdir -p "$3/bin"
cp "$0" "$3/bin/python"
cat >"$3/bin/uv" <<'END'
#!/bin/sh
bin=$(dirname "$0")
for last; do :; done
echo "$last" >>"$bin/../installed"
printf '#!/bin/sh\\necho lightly-fs "$@"\\n' >"$bin/lightly-fs"
chmod +x "$bin/lightly-fs"
END
chmod +x "$3/bin/uv"
"""


class Checkout:
    """The scripts beside two small project files, and a Python that notes what is installed."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "scripts").mkdir()
        (folder / "tools").mkdir()
        for name in ("scripts/setup.sh", "Makefile"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("constraints.txt", "pyproject.toml"):
            (folder / name).write_text("first\n")
        for name in ("s3fs", "fusermount", "pdftotext"):
            self._tool(name, "#!/bin/sh\n")
        self._tool("python", PYTHON)
        path = f"{folder / 'tools'}:{os.environ['PATH']}"
        self.environ = {"PATH": path, "PYTHON": str(folder / "tools/python")}

    def _tool(self, name, text):
        (self.folder / "tools" / name).write_text(text)
        (self.folder / "tools" / name).chmod(0o755)

    def call(self, *words):
        return subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )

    def setup(self, *extras):
        """Return what setup.sh said."""
        done = self.call("sh", "scripts/setup.sh", *extras)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def installed(self):
        file = self.folder / ".venv/installed"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_extras_add_up_and_a_subset_is_nothing_to_do(checkout):
    assert "creating" in checkout.setup("openvino")
    assert "adding extras demo,dev" in checkout.setup("openvino", "demo", "dev")
    assert "" == checkout.setup("demo") == checkout.setup("openvino") == checkout.setup()
    assert checkout.installed() == [".[openvino]", ".[demo,dev,openvino]"]


def test_other_requirements_bring_everything_that_is_there_up_to_date(checkout):
    checkout.setup("openvino", "dev")
    (checkout.folder / "constraints.txt").write_text("second\n")

    said = checkout.setup("openvino")

    assert "constraints.txt or pyproject.toml has changed" in said
    assert checkout.installed()[1:] == [".[dev,openvino]"]
    assert checkout.setup("dev") == ""


def test_an_installation_that_failed_is_tried_again(checkout):
    checkout.setup("openvino")
    uv = checkout.folder / ".venv/bin/uv"
    working = uv.read_text()
    uv.write_text("#!/bin/sh\nexit 1\n")
    assert checkout.call("sh", "scripts/setup.sh", "dev").returncode == 1

    uv.write_text(working)

    assert "adding extras dev" in checkout.setup("dev")
    assert checkout.setup("openvino", "dev") == ""


@pytest.mark.parametrize("target", ["mount", "unmount", "run"])
def test_mounting_and_running_install_nothing_where_the_program_is(checkout, target):
    words = ("make", target, "BUCKET=b", "DIR=/d")
    first = checkout.call(*words)
    (checkout.folder / "constraints.txt").write_text("second\n")
    second = checkout.call(*words)

    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert second.stdout.startswith(f"lightly-fs {target} ")
    assert "creating" in first.stderr
    assert second.stderr == ""
    assert checkout.installed() == [".[openvino]"]


def test_the_demo_asks_for_its_data_before_it_installs(checkout):
    done = checkout.call("make", "demo", "DATA=/does/not/exist")

    assert done.returncode == 2
    assert "make demo: DATA=/does/not/exist is no folder" in done.stderr
    assert checkout.installed() == []
