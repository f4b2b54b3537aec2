"""What of a listing is no sample: other files, `.lightly/`, and what runs wrote."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lightly_fs.datasource.bucket import Bucket
from lightly_fs.datasource.listing import printable
from lightly_fs.datasource.source import Source
from lightly_fs.types import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

LOCK_NAME = "lightly-fs.lock.json"
MANIFEST_NAME = "manifest.json"
_RUN_CONFIG = "config/config.yaml"
_SAMPLE = (
    r"(?i)\.(png|jpe?g|bmp|gif|tiff?|webp|"
    + "|".join(extension[1:] for extension in VIDEO_EXTENSIONS)
    + ")$"
)
_PLATFORM = r"(^|/)\.lightly/"
_MARKERS = rf"(^|/)({re.escape(LOCK_NAME)}|{re.escape(MANIFEST_NAME)}|{_RUN_CONFIG})$"
_MANIFESTS_READ = 256


class Exclusion:
    """Sorts a listing, batch by batch, into samples, other files and what is left out.

    Attributes:
        other_files: Files that are neither images nor videos; valid after `finish`.
    """

    def __init__(
        self,
        source: Source,
        output: Path | Bucket | None,
        read: Callable[[str], bytes | None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            source: What is listed.
            output: Where this run writes.
            read: Returns a small file's bytes, to look into manifests.
        """
        self.other_files = 0
        self._prefix = source.bucket.prefix if source.bucket else ""
        self._output = output_below(source, output)
        self._read = read
        self._others: Counter[str] = Counter()
        self._markers: set[str] = set()

    def skips(self, folder: str) -> bool:
        """Tell whether a folder ("a/b/") is left out whatever lies in it."""
        return (
            folder == ".lightly/"
            or folder.endswith("/.lightly/")
            or (bool(self._output) and folder == self._output)
        )

    def take(self, batch: pa.RecordBatch) -> pa.Table:
        """Return a batch's images and videos; remember what else tells about folders."""
        names = pc.utf8_slice_codeunits(batch["key"], start=len(self._prefix))
        left_out = pc.match_substring_regex(names, _PLATFORM)
        if self._output:
            left_out = pc.or_(left_out, pc.starts_with(names, self._output))
        folder = pc.or_(pc.ends_with(names, "/"), pc.equal(names, ""))
        keep = pc.invert(pc.or_(left_out, folder))
        sample = pc.and_(keep, pc.match_substring_regex(names, _SAMPLE))
        others = names.filter(pc.and_not(keep, sample))
        self._markers.update(others.filter(pc.match_substring_regex(others, _MARKERS)).to_pylist())
        folders = pc.replace_substring_regex(others, pattern=r"[^/]*$", replacement="")
        for count in pc.value_counts(folders):
            self._others[count["values"].as_py()] += count["counts"].as_py()
        table = pa.Table.from_batches([batch]).rename_columns(
            ["filename", "size", "etag", "mtime_ns"]
        )
        return table.set_column(0, table.schema.field(0), pa.chunked_array([names])).filter(sample)

    def finish(self, samples: pa.Table) -> pa.Table:
        """Return the samples outside of the folders that runs wrote; count other files there."""
        runs = self._run_folders()
        for folder in runs:
            samples = samples.filter(pc.invert(pc.starts_with(samples["filename"], folder)))
        inside = tuple(runs)
        self.other_files = (
            sum(count for folder, count in self._others.items() if not folder.startswith(inside))
            if inside
            else sum(self._others.values())
        )
        return samples

    def _run_folders(self) -> list[str]:
        """Return the folders that hold a lock or a manifest of ours; the input itself never."""
        runs = {_folder(marker) for marker in self._markers if marker.endswith(LOCK_NAME)}
        manifests = sorted(m for m in self._markers if m.rpartition("/")[2] == MANIFEST_NAME)
        doubtful = []
        for manifest in manifests:
            folder = _folder(manifest)
            if folder + _RUN_CONFIG in self._markers:
                runs.add(folder)
            elif folder not in runs:
                doubtful.append(manifest)
        for manifest in doubtful[:_MANIFESTS_READ] if self._read else ():
            content = self._read(manifest) if self._read else None
            if content and _is_ours(content):
                runs.add(_folder(manifest))
        runs.discard("")
        return sorted(runs)


def is_sample(name: str) -> bool:
    """Tell whether a file of this name would be an image or a video."""
    return re.search(_SAMPLE, name) is not None


def _is_ours(manifest: bytes) -> bool:
    try:
        values = json.loads(manifest)
    except ValueError:
        return False
    return isinstance(values, dict) and values.get("made_by") == "lightly-fs"


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]


def output_below(source: Source, output: Path | Bucket | None) -> str:
    """Return the output as a folder below the input ("results/"), or "" when it is not there."""
    return _below(source, output) or ""


def lies_in(source: Source, output: Path | Bucket | None) -> bool:
    """Tell whether the output is the input itself, or a folder below it."""
    return _below(source, output) is not None


def _below(source: Source, output: Path | Bucket | None) -> str | None:
    """Return the output's path from the input on, "" for the input itself; None for elsewhere."""
    if isinstance(output, Bucket):
        known = source.bucket
        if known is None or (known.name, known.url) != (output.name, output.url):
            return None
        below = output.prefix.startswith(known.prefix)
        return output.prefix[len(known.prefix) :] if below else None
    if output is None or source.root is None:
        return None
    inside, whole = output.resolve(), source.root.resolve()
    if not inside.is_relative_to(whole):
        return None
    if inside == whole:
        return ""
    folder = os.fsencode(inside.relative_to(whole)) + b"/"
    # As the listing names it: by walking, or by the keys of objects.
    return printable(folder) if source.bucket is None else folder.decode(errors="replace")
