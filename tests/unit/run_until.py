"""A run with a datapool; end without a word, by kill -9, at the n-th write from the update on.

run_until.py ALLOWED WORD…
"""

import itertools
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightly_fs import pipeline
from lightly_fs.config import load_config
from lightly_fs.datasource.output import Output

whole_put = Output.put


class Steps:
    """Counts the files that are written, from the first one that is the datapool's."""

    lock = threading.Lock()
    left = itertools.count(int(sys.argv[1]), -1)
    begun = False


def put(self, relative, local):
    """Write a file; the one behind those that are allowed is torn, and then all ends."""
    with Steps.lock:
        Steps.begun |= relative.startswith(("samples/", "files/"))
        if Steps.begun and next(Steps.left) == 0:
            path = (self.root / relative).with_name(".lightly-fs-0123456789abcdef.tmp")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(local.read_bytes()[: local.stat().st_size // 2])
            os.kill(os.getpid(), 9)
        return whole_put(self, relative, local)


if __name__ == "__main__":
    Output.put = put
    pipeline.run(load_config(sys.argv[2:]), {})
