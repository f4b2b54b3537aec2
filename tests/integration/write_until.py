"""Write a run through a mount; end without a word, like after kill -9, at the n-th file."""

import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightly_fs.config import RunConfig
from lightly_fs.datasource.bucket import Bucket, Credentials
from lightly_fs.datasource.output import Output
from tests.unit.artifacts.conftest import NAMES, finish, inventory_of


class Stops(Output):
    left = itertools.count()

    def put(self, relative, local):
        if next(self.left) == 0:
            # The kernel closes the file of a killed process, and s3fs uploads what it holds.
            path = self.root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                file = path.open("wb")
                file.write(local.read_bytes()[: local.stat().st_size // 2])
                file.flush()
            os.kill(os.getpid(), 9)
        return super().put(relative, local)


if __name__ == "__main__":
    root, bucket, url, allowed, staging, *keys = sys.argv[1:]
    Stops.left = itertools.count(int(allowed), -1)
    where = Bucket(bucket, "results/", url, "us-east-1", True, Credentials(*keys))
    output = Stops(Path(root), where)
    config = RunConfig(shard_size=4, run_directory="run")
    finish(output, config, Path(staging), inventory_of(NAMES))
