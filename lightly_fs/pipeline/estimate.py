"""`--dry-run`: what a run would read and write, without an output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from lightly_fs.config import RunConfig
from lightly_fs.datasource.estimate import Estimate, dry_run_estimate
from lightly_fs.datasource.inventory import freeze
from lightly_fs.datasource.source import open_source
from lightly_fs.pipeline.relevant_file import relevant_entries
from lightly_fs.types import Progress, silent


def estimate(
    config: RunConfig, environ: Mapping[str, str], *, progress: Progress = silent
) -> Estimate:
    """List the input and read a few objects to find out how fast that goes; write nothing."""
    with ExitStack() as stack:
        source = stack.enter_context(open_source(config, environ))
        # An output below the input is left out as in a run; one elsewhere changes nothing.
        output = None if config.output_dir.startswith("s3://") else Path(config.output_dir)
        inventory = freeze(
            source, output=output, relevant=relevant_entries(config, source), progress=progress
        )
        return dry_run_estimate(inventory, source, config, environ)
