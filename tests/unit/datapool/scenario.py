"""Two runs on one pool: the second one changes, adds and deletes files of the first."""

from __future__ import annotations

from lightly_fs.datapool.columns import Additions
from lightly_fs.datapool.pool import Pool
from lightly_fs.types import Outcome
from tests.unit.datapool.made import additions_of

FIRST = {"a.jpg": 0, "b.jpg": 0, "c.jpg": 0, "v.mp4": 0}
SECOND = {"a.jpg": 0, "b.jpg": 1, "d.jpg": 0, "v.mp4": 1}


def first_run(pool: Pool) -> Additions:
    ended = dict.fromkeys(FIRST, Outcome.EMBEDDED)
    return additions_of(pool, FIRST, ended, {"a.jpg", "c.jpg", "v-1-mp4.png"}, run_id="first")


def second_run(pool: Pool) -> Additions:
    ended = {"b.jpg": Outcome.CORRUPT, "d.jpg": Outcome.EMBEDDED, "v.mp4": Outcome.EMBEDDED}
    return additions_of(pool, SECOND, ended, {"d.jpg", "v-2-mp4.png"}, run_id="second")


def content(pool: Pool) -> tuple[list[object], list[object], list[object]]:
    """Return all that counts in a pool: samples, which are selected, files."""
    rows = pool.samples()
    files = {}
    for row in pool.files.to_pylist():
        files.setdefault(row["filename"], (row["etag"], row["outcome"], row["reason"]))
    vectors = zip(rows.table.filenames, rows.table.vectors.tolist(), strict=True)
    return sorted(vectors), sorted(pool.selected().table.filenames), sorted(files.items())
