"""A `.lightly/` folder on a disk, read by the reader of directories."""

from __future__ import annotations

import json
from pathlib import Path

from lightly_fs.annotations.files import SourceFiles
from lightly_fs.datasource.directory_reader import DirectoryReader
from lightly_fs.datasource.source import Source


class LightlyFolder:
    """Writes annotation files below a directory and opens them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: object) -> LightlyFolder:
        """Write a file below `.lightly/`: bytes as they are, text as UTF-8, all else as JSON."""
        target = self.root / ".lightly" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            target.write_text(text, encoding="utf-8")
        return self

    def task(self, name: str, task_type: str, categories: list[str] | dict[int, str]):
        """Write the schema of a task, and a tasks.json that lists it and nothing else."""
        named = categories.items() if isinstance(categories, dict) else enumerate(categories)
        schema = {
            "task_type": task_type,
            "categories": [{"id": number, "name": text} for number, text in named],
        }
        self.write("predictions/tasks.json", [name])
        return self.write(f"predictions/{name}/schema.json", schema)

    def predict(self, task: str, name: str, *objects: dict, **more: object):
        return self.write(f"predictions/{task}/{name}", {"predictions": list(objects), **more})

    @property
    def files(self) -> SourceFiles:
        return SourceFiles(Source(str(self.root), self.root), DirectoryReader(self.root))
