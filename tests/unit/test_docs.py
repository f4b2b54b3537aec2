"""The generated reference is fresh, and everything a user can meet is documented."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightly_fs.cli import COMMANDS
from lightly_fs.config.parse import known_keys

ROOT = Path(__file__).resolve().parents[2]


def test_generated_reference_is_fresh():
    result = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_reference(name):
    assert f"\n## {name}\n" in (ROOT / "docs/reference/cli.md").read_text()


def test_every_key_is_in_the_reference():
    text = (ROOT / "docs/reference/configuration.md").read_text()

    assert [key for key in known_keys() if f"`{key}`" not in text and key != "sanity_check"] == []


def test_links_between_the_pages_lead_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mount/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} → {target}")

    assert broken == []
