"""`run()`: from a datasource to a report in a run directory; what is there already is kept."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightly_fs.artifacts import RunDir
from lightly_fs.datasource.inventory import Inventory, freeze
from lightly_fs.datasource.lock import Lease, locked
from lightly_fs.datasource.output import Output, open_output
from lightly_fs.datasource.reader import Reader, open_reader
from lightly_fs.datasource.relevant import read_relevant
from lightly_fs.datasource.source import Source, open_source
from lightly_fs.errors import NoUsableSampleError, TooManyFailuresError
from lightly_fs.pipeline.journal import journal
from lightly_fs.pipeline.results import Results, write_results
from lightly_fs.types import Counts, Outcome, Progress, RunFacts, Selection, Stage, Timing, silent

if TYPE_CHECKING:
    from lightly_fs.config import RunConfig
    from lightly_fs.embedding.embedder import Embedder

logger = logging.getLogger(__name__)
