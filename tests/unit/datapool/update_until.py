"""Update a datapool; end without a word, by kill -9, at the n-th write or deletion.

What an empty pool gets is the first run, and the second one otherwise.

    update_until.py ROOT STAGING ALLOWED MODE KEEP_HISTORY [BUCKET URL KEY SECRET]

MODE: `before` the step, `torn` (the kernel closed a file that was half written), or `after` it;
MANY in the environment: so many small updates in a row are merged.
`torn-as-a-mount` leaves the half under the file's own name, in a directory too.
"""

import itertools
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from lightly_fs.datapool import merging
from lightly_fs.datapool.pool import Pool
from lightly_fs.datapool.store import Store
from lightly_fs.datapool.update import update
from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.output import Output
from tests.unit.datapool.scenario import first_run, second_run


class Stops(Output):
    left = itertools.count()
    mode = "before"
    tears = False
    steps = threading.Lock()

    def put(self, relative, local):
        with self.steps:
            last = next(self.left) == 0
            if last and self.mode == "before":
                os.kill(os.getpid(), 9)
            if last and self.mode == "torn":
                self.tear(relative, local)
            written = super().put(relative, local)
            if last:
                os.kill(os.getpid(), 9)
        return written

    def delete(self, relative):
        last = next(self.left) == 0
        if last and self.mode != "after":
            os.kill(os.getpid(), 9)
        super().delete(relative)
        if last:
            os.kill(os.getpid(), 9)

    def tear(self, relative, local):
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (self.is_mount or self.tears):  # where files are renamed into place
            path = path.with_name(".lightly-fs-0123456789abcdef.tmp")
        with path.open("wb") as file:
            file.write(local.read_bytes()[: local.stat().st_size // 2])
            file.flush()
            os.kill(os.getpid(), 9)


if __name__ == "__main__":
    merging._MANY = int(os.environ.get("MANY", merging._MANY))
    root, staging, allowed, mode, keep_history, *given = sys.argv[1:]
    Stops.left, Stops.mode = itertools.count(int(allowed), -1), mode.removesuffix("-as-a-mount")
    Stops.tears = mode.endswith("-as-a-mount")
    where = None
    if given:
        bucket, url, *keys = given
        where = Bucket(bucket, "results/", url, "us-east-1", True, Credentials(*keys))
    Path(staging).mkdir(parents=True)
    output = Stops(Path(root), where).below("pool" if given else "")
    store = Store(output, Path(staging), lambda: None)
    keep = keep_history == "True"
    pool = Pool(store, store.newest())
    found = second_run(pool) if pool.state.number else first_run(pool)
    update(pool, found, fresh=not keep, keep_history=keep)
