"""A run whose images are embedded, up to its crops; as a program, one that is killed in between."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from lightly_fs.annotations.crops import Crops, tile_crops
from lightly_fs.artifacts import EmbeddedTable, RunDir
from lightly_fs.config import load_config
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.lock import locked
from lightly_fs.datasource.output import open_output
from lightly_fs.datasource.private import private_directory
from lightly_fs.datasource.reader import open_reader
from lightly_fs.datasource.source import open_source
from lightly_fs.embedding.embedder import Embedder
from lightly_fs.embedding.load import load_embedder
from lightly_fs.pipeline.context import RunContext
from lightly_fs.pipeline.crops import CropVectors, embed_crops
from lightly_fs.pipeline.embedding import embed_missing
from lightly_fs.types import Progress, silent

QUICK = ("model=colour-grid", "runtime=torch", "shard_size=10", "batch_size=4")


class EmbeddedRun:
    """A run in progress.

    Attributes:
        loaded: How often the model was asked for after the images were embedded.
    """

    def __init__(self, context: RunContext, model: Embedder | None = None) -> None:
        self.context = context
        self.model = model
        self.loaded = 0
        embed_missing(context, self.load)
        self.loaded = 0

    def load(self) -> Embedder:
        self.loaded += 1
        if self.model is not None:
            return self.model
        names = self.context.inventory.table["filename"].to_pylist()
        return load_embedder(self.context.config, names)

    @property
    def table(self) -> EmbeddedTable:
        return self.context.run_dir.read_parts()

    @property
    def sizes(self) -> np.ndarray:
        table = self.table
        return np.stack([table.widths, table.heights], axis=1).astype(np.int64)

    @property
    def parts(self) -> dict[str, bytes]:
        """What the run directory holds of crops."""
        folder = self.context.run_dir.directory / "crop_parts"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}

    def embed(self, crops: Crops, task: str = "boxes") -> CropVectors:
        names = self.table.filenames
        return embed_crops(self.context, self.load, task, names, self.sizes, crops)


@contextmanager
def embedded_run(
    images: Path,
    output: Path,
    *words: str,
    progress: Progress = silent,
    model: Embedder | None = None,
) -> Iterator[EmbeddedRun]:
    """Open the run below `output`, and embed the images that are not embedded yet.

    Args:
        model: Instead of the configured one.
    """
    output.mkdir(exist_ok=True)
    given = [f"input_dir={images}", f"output_dir={output}", "run_directory=r", *QUICK, *words]
    config = load_config(given)
    with ExitStack() as stack:
        staging = stack.enter_context(private_directory("staging"))
        where = stack.enter_context(open_output(config, {}))
        source = stack.enter_context(open_source(config, {}))
        run_dir = RunDir.open(where, config, staging)
        lease = stack.enter_context(locked(where, run_dir.folder))
        run_dir.check = lease.check
        inventory = freeze(source, output=where.location)
        run_dir.freeze(inventory)
        reader = open_reader(source, config, {})
        stack.callback(reader.close)
        yield EmbeddedRun(
            RunContext(
                config,
                {},
                staging,
                source,
                run_dir,
                lease,
                reader,
                inventory,
                progress,
            ),
            model,
        )


def tiles(run: EmbeddedRun) -> Crops:
    return tile_crops(run.sizes, num_rows=2, num_cols=2, overlap=0.1)


def _killed(images: str, output: str, limit: str) -> None:
    """Embed the tiles of the images, and be killed after so many of them."""

    def progress(stage: str, done: int, _total: int | None, _note: str = "") -> None:
        if stage == "crops" and done >= int(limit):
            os.kill(os.getpid(), signal.SIGKILL)

    with embedded_run(Path(images), Path(output), progress=progress) as run:
        run.embed(tiles(run), "tiles")


if __name__ == "__main__":
    _killed(*sys.argv[1:])
