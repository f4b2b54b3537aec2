"""The stages in order: list → embed → select → report. The only place that knows all of them."""

from lightly_fs.pipeline.estimate import estimate
from lightly_fs.pipeline.result import RunResult
from lightly_fs.pipeline.run import run

__all__ = ["RunResult", "estimate", "run"]
